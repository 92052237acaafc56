"""Common image perturbations as pure functions: blur, crop and noise, as the public protocols apply them.

Images are (H, W, 3) uint8 RGB, 0 to 255, in and out; OpenCV is not needed. Where a published program used it, its
rounding is followed to one gray level: Yu et al. 2019 (GANFingerprints), Frank et al. 2020 (GANDCTAnalysis,
create_perturbed_imagedata.py), Wang et al. 2020 (CNNDetection, data/datasets.py). All sums run in a fixed order in
float64, so that a row's bytes depend on nothing but the row. JPEG is in `detectors/jpeg_codecs.py` and the filter of
Wang et al. in `detectors/gaussian_filter.py`, since trainings use them too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detectors.gaussian_filter import correlate, gaussian_weights
from stages.images.cubic import cubic

Image = NDArray[np.uint8]

TABLES = {
    1: (256,),
    3: (64, 128, 64),
    5: (16, 64, 96, 64, 16),
    7: (8, 28, 56, 72, 56, 28, 8),
    9: (4, 13, 30, 51, 60, 51, 30, 13, 4),
}
"""Kernels (in 256ths) that OpenCV uses for 8-bit images where sigma is left to the size of the kernel."""


def blur(image: Image, kernel: int, sigma_px: float | None = None) -> Image:
    """Gaussian blur with an odd `kernel` size in pixels, borders mirrored without repeating the edge.

    `sigma_px=None` takes OpenCV's fixed kernels (1, 3, 5, 7 or 9 pixels); Frank et al. 2020 pass sigma 4 by accident.
    """
    if sigma_px is None:
        weights = np.array(TABLES[kernel]) / 256.0
    else:
        weights = _in_256ths(gaussian_weights(kernel // 2, sigma_px))
    smooth = correlate(image.astype(np.float64), weights, 0, "reflect")
    return _rounded(correlate(smooth, weights, 1, "reflect"))


def crop(image: Image, fraction: float) -> Image:
    """Remove int(side * fraction / 2) pixels at each border and enlarge to the old size by cubic interpolation.

    Keys' cubic kernel with a = -0.75, centers of pixels aligned, edges repeated: OpenCV's INTER_CUBIC.
    """
    height, width = image.shape[:2]
    rows, columns = int(height * fraction / 2), int(width * fraction / 2)
    if not rows and not columns:
        return image.copy()
    inner = image[rows : height - rows, columns : width - columns].astype(np.float64)
    return _rounded(_enlarge(_enlarge(inner, height, 0), width, 1))


def noise(image: Image, normal: NDArray[np.float64], std: float, rounding: str = "nearest") -> Image:
    """Add `std` (gray levels) times `normal`, standard normal values of the image's shape, and clip to 0..255.

    `rounding` "truncate" drops the fraction, as a plain conversion to uint8 does; this darkens by half a level.
    """
    noisy = np.clip(image + std * normal, 0, 255)
    return noisy.astype(np.uint8) if rounding == "truncate" else _rounded(noisy)


def _in_256ths(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """A symmetric kernel in 8-bit weights of sum 1, as OpenCV blurs 8-bit images; rounding errors go inwards."""
    radius, carried = len(weights) // 2, 0.0
    steps = np.zeros(len(weights))
    for place in range(radius):
        exact = weights[place] * 256 + carried
        steps[place] = steps[-1 - place] = np.rint(exact)
        carried = exact - steps[place]
    steps[radius] = 256 - steps.sum()
    return steps / 256


def _rounded(values: NDArray[np.float64]) -> Image:
    """Nearest level; halves go up, as in OpenCV."""
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)


def _enlarge(values: NDArray[np.float64], size: int, axis: int) -> NDArray[np.float64]:
    """Interpolate one axis to `size` samples with four taps each."""
    length = values.shape[axis]
    position = (np.arange(size) + 0.5) * length / size - 0.5
    first = np.floor(position).astype(np.int64)
    part = position - first
    lines = np.moveaxis(values, axis, 0)
    total = np.zeros((size, *lines.shape[1:]))
    for tap in range(-1, 3):
        weight = cubic(np.abs(part - tap)).reshape(-1, *[1] * (lines.ndim - 1))
        total += weight * lines[np.clip(first + tap, 0, length - 1)]
    return np.moveaxis(total, 0, axis)
