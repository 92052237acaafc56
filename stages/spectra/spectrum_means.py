"""Mean spectra of many images, in three definitions that are easily confused, as running sums.

mean_complex  ln(|mean F| + epsilon): phases cancel unless a pattern is locked to the pixel grid, which is what makes
              the dots of upsampling visible (Wang et al. 2020, figure 7; recipe in CNNDetection issue 21). It falls
              with the square root of the number of images, so compare equal numbers only. For the DCT it is called
              `mean_signed`: what the figures of Frank et al. 2020 show.
mean_mag_log  ln(mean |F| + epsilon)
mean_logmag   mean of ln(|F| + epsilon)

What F is the spectrum of is a picture's name: `high_pass` (gray less its median), `fft2d` (gray), both with zero
frequency in the middle, or `dct2d` (DCT-II of gray, orthonormal, zero frequency top left).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stages.images.planes import blocks, opencv_gray, pillow_gray
from stages.spectra.high_pass import high_pass
from stages.spectra.maps import DCT_EPSILON, dct_coefficients, unfold

Picture = Literal["high_pass", "fft2d", "dct2d"]
Array = NDArray[Any]

EPSILON: dict[Picture, float] = {"high_pass": 1e-6, "fft2d": 1e-6, "dct2d": DCT_EPSILON}


def definitions(picture: Picture) -> tuple[str, str, str]:
    """Names of the three means of a picture."""
    return ("mean_signed" if picture == "dct2d" else "mean_complex", "mean_mag_log", "mean_logmag")


class SpectrumSums:
    """Sums over the images of one set, of constant size: an image may be forgotten once it is added.

    Numbers are float64; images are added one after the other, so their order matters in the last digits, and the
    sizes of batches do not.
    """

    def __init__(self, picture: Picture, height: int, width: int) -> None:
        self.picture = picture
        columns = width if picture == "dct2d" else width // 2 + 1
        self.planes = np.zeros((height, width), np.int64)  # whose spectrum is the sum of the spectra
        self.magnitudes = np.zeros((height, columns))
        self.logs = np.zeros((height, columns))

    def add(self, images: NDArray[np.uint8]) -> None:
        """Take in (N, H, W, 3) uint8 RGB."""
        for part in blocks(len(images), 16 * self.planes.size):
            planes = self._planes(images[part])
            self.planes += planes.sum(axis=0, dtype=np.int64)
            magnitudes = np.abs(self._transform(planes.astype(np.float64)))
            _add_rows(self.magnitudes, magnitudes)
            magnitudes += EPSILON[self.picture]
            _add_rows(self.logs, np.log(magnitudes, out=magnitudes))

    def means(self, count: int) -> dict[str, NDArray[np.float32]]:
        """The three means of `count` images, (H, W) float32 each, by name."""
        found = (
            np.log(np.abs(self._transform(self.planes / count)) + EPSILON[self.picture]),
            np.log(self.magnitudes / count + EPSILON[self.picture]),
            self.logs / count,
        )
        named = zip(definitions(self.picture), found, strict=True)
        return {name: self._whole(values).astype(np.float32) for name, values in named}

    def state(self) -> dict[str, Array]:
        """The sums as arrays."""
        return {"planes": self.planes, "magnitudes": self.magnitudes, "logs": self.logs}

    def load(self, state: Mapping[str, Array]) -> None:
        """Go on from what `state` gave."""
        self.planes, self.magnitudes, self.logs = (state[name].copy() for name in ("planes", "magnitudes", "logs"))

    def _planes(self, images: NDArray[np.uint8]) -> Array:
        if self.picture == "dct2d":
            return pillow_gray(images)
        gray = opencv_gray(images)
        return high_pass(gray.astype(np.uint8)) if self.picture == "high_pass" else gray

    def _transform(self, planes: Array) -> Array:
        import scipy.fft

        if self.picture == "dct2d":
            return dct_coefficients(planes)
        return scipy.fft.rfft2(planes, workers=1)  # type: ignore[no-any-return]

    def _whole(self, values: Array) -> Array:
        if self.picture == "dct2d":
            return values
        full = np.empty(self.planes.shape)
        unfold(values, full)
        return np.fft.fftshift(full)


def _add_rows(total: Array, rows: Array) -> None:
    for row in rows:
        total += row
