"""Noise of an image as the PRNU toolbox of the Binghamton group finds it, and the terms of a fingerprint's estimate.

The image is taken apart by the wavelet db4; of each detail band the Wiener filter keeps what is not above noise of the
given standard deviation; the approximation is dropped, and the rest is put together again (Mihcak, Kozintsev and
Ramchandran 1999). The maximum likelihood estimate of a fingerprint from many images (Chen, Fridrich, Goljan and Lukas
2008, Eq. 6) is a quotient of two sums; `fingerprint_terms` gives what one image adds to either.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detectors.noise_pattern import wiener_gain
from stages.images.planes import channels_first

Saturation = Literal["definition", "released"]

WAVELET, BORDER = "db4", "symmetric"
PEAK = 250
"""Level that a channel's maximum must exceed for its maxima to count as saturated."""


def noise_residual(images: NDArray[np.uint8], levels: int, sigma: float) -> NDArray[np.float32]:
    """Noise of standard deviation `sigma` (gray levels). (N, H, W, 3) uint8 RGB -> (N, 3, H, W) float32, gray levels.

    Published programs lower `levels` where an image has fewer useful ones, if their version of PyWavelets says so; the
    present one does not, and here no level is left out. A constant channel gives exact zeros.
    """
    planes = channels_first(images)
    constant = planes.max(axis=(2, 3)) == planes.min(axis=(2, 3))
    planes[constant] = 0  # or rounding would leave some noise
    return _noise(planes, levels, sigma * sigma)


def fingerprint_terms(
    images: NDArray[np.uint8], noise: NDArray[np.float32], saturation: Saturation = "definition"
) -> NDArray[np.float32]:
    """Noise times intensity, and squared weight. (N, H, W, 3) uint8 and (N, 3, H, W) -> (N, 2, 3, H, W) float32.

    A fingerprint is the sum of the first over one plus the sum of the second.
    """
    terms = np.empty((len(images), 2, *noise.shape[1:]), np.float32)
    planes = np.moveaxis(images, -1, 1)
    np.multiply(noise, planes, out=terms[:, 0])
    terms[:, 0] *= np.float32(1 / 255)
    np.multiply(_squared_weights()[planes], unsaturated(images, saturation), out=terms[:, 1])
    return terms


def unsaturated(images: NDArray[np.uint8], saturation: Saturation = "definition") -> NDArray[np.bool_]:
    """Pixels that are not saturated. (N, H, W, 3) uint8 -> (N, 3, H, W) bool.

    Saturated is a pixel at its channel's maximum, if that is above 250, that equals one of its four neighbors (borders
    are joined). `released` is what both ports do: if any channel reaches 250, the pixels of the channels that are not
    above 250 count only where they equal a neighbor.
    """
    planes = np.ascontiguousarray(np.moveaxis(images, -1, 1))
    left, above = planes != np.roll(planes, 1, axis=3), planes != np.roll(planes, 1, axis=2)
    lonely = left & above & np.roll(left, -1, axis=3) & np.roll(above, -1, axis=2)
    peaks = planes.max(axis=(2, 3))[:, :, None, None]
    good = lonely | (planes < peaks) | (peaks <= PEAK)
    if saturation == "released":
        dull = (peaks <= PEAK) & (peaks.max(axis=1, keepdims=True) >= PEAK)
        good = np.where(dull, ~lonely, good)
    return good


def _squared_weights() -> NDArray[np.float32]:
    """(256,): squared weight of each level; it grows with intensity up to 252 and vanishes above."""
    levels = np.arange(256.0)
    weights = np.where(levels < 252, levels / 252, np.exp(-np.square(levels - 252) / 6))
    return np.square(weights).astype(np.float32)


def _noise(planes: NDArray[Any], levels: int, variance: float) -> NDArray[Any]:
    """Noise in (..., H, W), columns before rows, as PyWavelets' own two-dimensional transform rounds it.

    Columns become rows for their turn: a transform along rows is several times faster.
    """
    import pywt

    def taken_apart(lines: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        low, high = pywt.dwt(lines, WAVELET, BORDER, axis=-1)
        return low, high

    def put_together(low: NDArray[Any], high: NDArray[Any], length: int) -> NDArray[Any]:
        lines: NDArray[Any] = pywt.idwt(low, high, WAVELET, BORDER, axis=-1)
        return lines[..., :length]

    height, width = planes.shape[-2:]
    halves = taken_apart(_turned(planes))
    approximation, *details = (band for half in halves for band in taken_apart(_turned(half)))
    noise = [band * wiener_gain(band, variance) for band in details]
    deeper = _noise(approximation, levels - 1, variance) if levels > 1 else np.zeros_like(approximation)
    low, high = put_together(deeper, noise[0], width), put_together(noise[1], noise[2], width)
    return _turned(put_together(_turned(low), _turned(high), height))


def _turned(planes: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(np.swapaxes(planes, -1, -2))
