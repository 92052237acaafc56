"""2D log spectra of image batches: the inputs FFT-2d and DCT-2d of the detectors that He et al. 2021 compare.

fft2d  ln(|FFT2(x / 255)| + 1e-3), not shifted: DC stays in the corner (Zhang et al. 2019, AutoGAN, 01172b3)
dct2d  ln(|DCT-II(x)| + 1e-12) with orthonormal scaling on raw levels 0-255 (Frank et al. 2020, GANDCTAnalysis, 988c4c3)

The logarithms are kept raw. Scaling between percentiles and standardization belong to a detector and happen when it
loads the maps, so a change of them recomputes nothing. Transforms run on levels less their rounded mean, which touches
the DC coefficient alone (put back exactly) and keeps float32 as close to float64 as its rounding allows.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stages.images.planes import blocks, channels_first, pillow_gray, remove_level

Color = Literal["gray", "rgb"]

FFT_EPSILON = 1e-3
DCT_EPSILON = 1e-12

FEW = 2**20
"""Values that NumPy converts in some milliseconds."""


def fft2d_maps(
    images: NDArray[np.uint8], color: Color, dtype: DTypeLike = np.float32, stored: DTypeLike | None = None
) -> NDArray[np.floating[Any]]:
    """ln(|FFT2| + 1e-3) of values 0-1. (N, H, W, 3) uint8 RGB -> (N, C, H, W), C = 1 (Pillow's gray) or 3.

    dtype is that of the computation, `stored` that of the result (the same if left out).
    """
    rows, height, width, _ = images.shape
    out = np.empty((rows, channels(color), height, width), stored or dtype)
    for part in blocks(rows, channels(color) * height * width * np.dtype(dtype).itemsize):
        unfold(converted(_log_fft(_planes(images[part], color, dtype)), out.dtype, out.size < FEW), out[part])
    return out


def dct2d_maps(
    images: NDArray[np.uint8], color: Color, dtype: DTypeLike = np.float32, stored: DTypeLike | None = None
) -> NDArray[np.floating[Any]]:
    """ln(|DCT| + 1e-12) of levels 0-255. (N, H, W, 3) uint8 RGB -> (N, C, H, W), C = 1 (Pillow's gray) or 3.

    dtype is that of the computation, `stored` that of the result (the same if left out).
    """
    rows, height, width, _ = images.shape
    out = np.empty((rows, channels(color), height, width), stored or dtype)
    for part in blocks(rows, channels(color) * height * width * np.dtype(dtype).itemsize):
        logs = dct_coefficients(_planes(images[part], color, dtype))
        np.abs(logs, out=logs)
        logs += DCT_EPSILON
        out[part] = converted(np.log(logs, out=logs), out.dtype, out.size < FEW)
    return out


def channels(color: Color) -> int:
    """Number of planes of a map."""
    return 1 if color == "gray" else 3


def dct_coefficients(planes: NDArray[Any]) -> NDArray[Any]:
    """Orthonormal type-II DCT over the last two axes. Whole numbers (..., H, W) -> same shape; destroys `planes`."""
    import scipy.fft

    level = remove_level(planes)
    height, width = planes.shape[-2:]
    coefficients = scipy.fft.dctn(planes, type=2, norm="ortho", axes=(-2, -1), workers=1, overwrite_x=True)
    coefficients[..., 0, 0] += level * np.sqrt(height * width)
    return coefficients  # type: ignore[no-any-return]


def unfold(half: NDArray[Any], out: NDArray[Any]) -> None:
    """Write the full plane of an even spectrum. (..., H, W // 2 + 1) -> out (..., H, W), not shifted."""
    width, kept = out.shape[-1], half.shape[-1]
    out[..., :kept] = half
    out[..., 0, kept:] = half[..., 0, width - kept : 0 : -1]
    out[..., 1:, kept:] = half[..., :0:-1, width - kept : 0 : -1]


def converted(values: NDArray[Any], dtype: np.dtype[Any], few: bool = False) -> NDArray[Any]:
    """The values as `dtype`, rounded to nearest even; float16 by torch, 20 times faster than NumPy with equal bits.

    few: not worth the seconds that torch takes to be imported.
    """
    if dtype != np.float16 or few:
        return values.astype(dtype, copy=False)
    import torch

    return torch.from_numpy(values).to(torch.float16).numpy()  # type: ignore[no-any-return]


def _planes(images: NDArray[np.uint8], color: Color, dtype: DTypeLike) -> NDArray[Any]:
    return pillow_gray(images, dtype)[:, None] if color == "gray" else channels_first(images, dtype)


def _log_fft(planes: NDArray[Any]) -> NDArray[Any]:
    """ln(|F| / 255 + 1e-3) = ln(|F| + 0.255) - ln 255 on the half plane; destroys `planes`."""
    import scipy.fft

    level = remove_level(planes)
    pixels = planes.shape[-2] * planes.shape[-1]
    spectrum = scipy.fft.rfft2(planes, workers=1, overwrite_x=True)
    spectrum[..., 0, 0] += level * pixels
    logs = np.abs(spectrum)
    logs += 255 * FFT_EPSILON
    np.log(logs, out=logs)
    logs -= np.log(255.0)
    return logs  # type: ignore[no-any-return]
