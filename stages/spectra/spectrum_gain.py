"""Amplitude spectra of color images, and gains on them: spectrum equalization (+E).

He et al. 2021 equalize the spectra of finished fakes and refer to Durall et al. 2020; neither gives a formula and no
code is public. The definition of this project: with F the Fourier transform of a channel, r = floor of the distance to
the zero frequency, T[r] the mean over real images of the ring means of ln(|F| + 1e-8), and S[r] the same for fakes, a
fake becomes the real part of the inverse transform of F * exp(T[r] - S[r]). The zero frequency keeps its value, so the
mean color stays; phases stay too. An amplitude of exactly zero stays zero whatever the gain: an image of whole numbers
may have one at a highest frequency, and in S it counts as ln(1e-8). All of it runs in float64, one image at a time, so
that the bytes of a row depend on nothing but the row. Only one half of the plane is computed; the other mirrors it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.images.planes import remove_level

EPSILON = 1e-8
LUMA = (0.299, 0.587, 0.114)
IDENTICAL_MSE = 1e-10
"""Mean square error that stands for none in a PSNR; one level in one value of the largest image is more."""

Array = NDArray[np.float64]


class Rings(NamedTuple):
    """Rings of whole-pixel radius around the zero frequency of an image size, on the half plane of a real FFT."""

    ring: NDArray[np.int64]  # (H, W // 2 + 1): ring of each cell
    weights: Array  # (H, W // 2 + 1): 2 where a cell stands for its mirror image too, else 1
    counts: Array  # (R,): cells of the full plane


@lru_cache(maxsize=16)
def rings(height: int, width: int) -> Rings:
    """The rings of images of `height` x `width`. On a rectangle they are ellipses in cycles per pixel."""
    rows, columns = np.arange(height)[:, None], np.arange(width // 2 + 1)[None, :]
    squares = np.minimum(rows, height - rows) ** 2 + columns**2
    ring = np.sqrt(squares).astype(np.int64)
    twice = (columns > 0) & (2 * columns < width)
    weights = np.broadcast_to(1.0 + twice, ring.shape)
    return Rings(ring, weights, np.bincount(ring.ravel(), weights.ravel()).astype(np.float64))


@dataclass(frozen=True, eq=False)
class Equalization:
    """What was learned from a training set, and how it becomes gains.

    shape      "radial": one gain per ring; "2d": one per frequency, which removes the peaks of a grid too
    channels   "separate": gains of R, G and B; "gray": those of the luma for all three
    gain_per   "set": from the mean spectrum of the fakes; "image": from each image's own, which makes all spectra alike
    pool_below rings 1 to pool_below - 1 share one gain
    largest    gains lie in [1 / largest, largest]; None: anywhere
    target     mean log amplitudes of reals, float64, natural logarithm: (C, R) radial or (C, H, W // 2 + 1) 2d
    source     the same of fakes; C is 3 or, for gray, 1
    """

    height: int
    width: int
    shape: Literal["radial", "2d"]
    channels: Literal["separate", "gray"]
    gain_per: Literal["set", "image"]
    pool_below: int
    largest: float | None
    target: Array
    source: Array

    @cached_property
    def gain(self) -> Array:
        """(C, H, W // 2 + 1): factors of the half plane for the mean spectrum of the fakes."""
        return self.gain_from(self.source)

    def gain_from(self, source: Array) -> Array:
        """(C, H, W // 2 + 1): factors that take a spectrum with the log amplitudes `source` to the target."""
        found = rings(self.height, self.width)
        radial = self.shape == "radial"
        ring: Any = np.arange(len(found.counts)) if radial else found.ring
        weights = found.counts if radial else found.weights
        steps = self.target - source
        pooled = (ring > 0) & (ring < self.pool_below)
        if pooled.any():
            shared = (steps[:, pooled] * weights[pooled]).sum(axis=1) / weights[pooled].sum()
            steps[:, pooled] = shared[:, None]
        if self.largest is not None:
            steps = np.clip(steps, -math.log(self.largest), math.log(self.largest))
        steps[:, ring == 0] = 0.0
        factors: Array = np.exp(steps)
        return factors[:, found.ring] if radial else factors


def length(height: int, width: int) -> int:
    """Number of rings of an image size: 91 at 128 px, for example."""
    return math.isqrt((height // 2) ** 2 + (width // 2) ** 2) + 1


def spectra(image: NDArray[Any]) -> NDArray[np.complex128]:
    """Fourier transforms of the channels, not shifted. (H, W, 3), levels 0-255 of any dtype -> (3, H, W // 2 + 1)."""
    import scipy.fft

    planes = np.moveaxis(image, -1, 0).astype(np.float64, order="C")
    level = remove_level(planes)  # a constant image has exact zeros
    found = scipy.fft.rfft2(planes, workers=1, overwrite_x=True)
    found[:, 0, 0] += level * (image.shape[0] * image.shape[1])
    return found  # type: ignore[no-any-return]


def log_amplitudes(transforms: NDArray[np.complex128], channels: str) -> Array:
    """ln(|F| + 1e-8). (3, H, W // 2 + 1) -> (3 or, for "gray", 1, H, W // 2 + 1); gray is luma that is not rounded."""
    if channels == "gray":
        red, green, blue = LUMA
        transforms = (red * transforms[:1] + green * transforms[1:2]) + blue * transforms[2:]
    return np.log(np.abs(transforms) + EPSILON)  # type: ignore[no-any-return]


def ring_means(logs: Array, height: int, width: int) -> Array:
    """Means over the rings of the full plane. (C, H, W // 2 + 1) -> (C, R)."""
    found = rings(height, width)
    weighted = logs * found.weights
    ring = found.ring.ravel()
    return np.stack([np.bincount(ring, plane.ravel()) for plane in weighted]) / found.counts


def empty_cells(logs: Array, width: int) -> int:
    """Amplitudes of the full plane that are below epsilon, as good as zero. (C, H, W // 2 + 1) -> number."""
    found = rings(logs.shape[1], width)
    return int(((logs < math.log(2 * EPSILON)) * found.weights).sum())


def profile(image: NDArray[Any], channels: str) -> Array:
    """Mean log amplitude of each ring of an image. (H, W, 3), levels 0-255 of any dtype -> (C, R)."""
    return ring_means(log_amplitudes(spectra(image), channels), *image.shape[:2])


def equalized(image: NDArray[np.uint8], equalization: Equalization) -> Array:
    """The image with its spectrum equalized, before rounding. (H, W, 3) uint8 RGB -> (H, W, 3) float64."""
    import scipy.fft

    found = spectra(image)
    if equalization.gain_per == "set":
        found *= equalization.gain
    else:
        logs = log_amplitudes(found, equalization.channels)
        own = ring_means(logs, *image.shape[:2]) if equalization.shape == "radial" else logs
        found *= equalization.gain_from(own)
    planes = scipy.fft.irfft2(found, s=image.shape[:2], workers=1, overwrite_x=True)
    return np.moveaxis(planes, 0, -1)  # type: ignore[no-any-return]


def rounded(values: Array) -> NDArray[np.uint8]:
    """Nearest level from 0 to 255, halves to even."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def psnr(image: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB, with a peak of 255; 148.1 where the images are equal."""
    error = float(np.mean((image.astype(np.float64) - other) ** 2))
    return 10.0 * math.log10(255.0**2 / max(error, IDENTICAL_MSE))
