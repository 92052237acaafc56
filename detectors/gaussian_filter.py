"""Gaussian blur of 8-bit images as Wang et al. 2020 do it, for perturbed rows and for augmentations alike.

Images are (H, W, C) uint8, 0 to 255, in and out. All sums run in a fixed order in float64, so that a row's bytes depend
on nothing but the row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


def gaussian_filter(image: Image, sigma_px: float) -> Image:
    """Gaussian filter of Wang et al. 2020: cut off at 4 sigma, edge repeated, truncated to uint8 after each axis."""
    if sigma_px <= 0:
        return image.copy()
    weights = gaussian_weights(int(4.0 * sigma_px + 0.5), sigma_px)
    for axis in (0, 1):
        image = np.clip(correlate(image.astype(np.float64), weights, axis, "symmetric"), 0, 255).astype(np.uint8)
    return image


def gaussian_weights(radius: int, sigma_px: float) -> NDArray[np.float64]:
    """(2 * radius + 1,) sampled Gaussian with sum 1."""
    offsets = np.arange(-radius, radius + 1, dtype=np.float64)
    weights = np.exp(-0.5 / (sigma_px * sigma_px) * offsets**2)
    return weights / weights.sum()


def correlate(values: NDArray[np.float64], weights: NDArray[np.float64], axis: int, border: str) -> NDArray[np.float64]:
    """Correlate along one axis with a symmetric kernel; mirrored pixels are added before they are weighted."""
    radius, length = len(weights) // 2, values.shape[axis]
    padding = [(0, 0)] * values.ndim
    padding[axis] = (radius, radius)
    padded = np.moveaxis(np.pad(values, padding, mode=border), axis, 0)  # type: ignore[call-overload]
    total = padded[radius : radius + length] * weights[radius]
    for step in range(radius):
        far = 2 * radius - step
        total += (padded[step : step + length] + padded[far : far + length]) * weights[step]
    return np.moveaxis(total, 0, axis)
