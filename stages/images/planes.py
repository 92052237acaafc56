"""Float planes from batches of 8-bit RGB images: the gray conversions of the published codes, and cache-sized blocks.

Every published spectrum feature starts from its own gray image. They differ by at most one level, but a feature that
divides by its first element or takes logarithms of weak coefficients sees the difference, so each conversion is
reproduced exactly. Weights are whole numbers and sums stay below 2**24, so float32 sums of products are exact: the
result does not depend on the order of summation, on BLAS or on the rows beside.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

OPENCV_GRAY = ((9798, 19235, 3735), 15)
"""Integer weights of R, G, B and the binary shift of OpenCV's 8-bit RGB to gray."""

PILLOW_GRAY = ((19595, 38470, 7471), 16)
"""The same for Pillow's mode L."""

BLOCK_BYTES = 1 << 20
"""Temporaries of this size stay in the cache of a core; whole batches are up to 2.6 times slower."""


def opencv_gray(images: NDArray[np.uint8], dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Rounded 8-bit luma as OpenCV computes it. (N, H, W, 3) uint8 RGB -> (N, H, W), whole numbers 0-255."""
    return _rounded_gray(images, *OPENCV_GRAY, dtype)


def pillow_gray(images: NDArray[np.uint8], dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Rounded 8-bit luma as Pillow's `convert("L")` computes it. (N, H, W, 3) uint8 RGB -> (N, H, W), 0-255."""
    return _rounded_gray(images, *PILLOW_GRAY, dtype)


def weighted_sum(
    images: NDArray[np.uint8], weights: tuple[int, int, int], dtype: DTypeLike = np.float32, shift: int = 0
) -> NDArray[Any]:
    """Exact sum of R, G, B times weights / 2**shift; whole weights, 65792 in sum at most. (N, H, W, 3) -> (N, H, W)."""
    return images.astype(dtype) @ (np.array(weights, dtype) * 2.0**-shift).astype(dtype)  # type: ignore[no-any-return]


def remove_level(planes: NDArray[Any]) -> NDArray[Any]:
    """Subtract from each plane, in place, a whole number near its mean; returns these numbers. (..., H, W) -> (...).

    For planes of whole numbers. A weak coefficient of a float32 transform is then not drowned by the mean. The level
    is the rounded mean of every eighth pixel of every eighth row, an exact sum; so a constant plane becomes exact
    zeros at every size.
    """
    level = np.rint(planes[..., ::8, ::8].mean(axis=(-2, -1), dtype=np.float64)).astype(planes.dtype)
    planes -= level[..., None, None]
    return level  # type: ignore[no-any-return]


def channels_first(images: NDArray[np.uint8], dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """(N, H, W, C) uint8 -> (N, C, H, W), contiguous, values unchanged."""
    return np.moveaxis(images, -1, 1).astype(dtype, order="C")


def blocks(rows: int, row_bytes: int) -> Iterator[slice]:
    """Slices that cut a batch into pieces of about BLOCK_BYTES, at least one row each."""
    step = max(1, BLOCK_BYTES // row_bytes)
    return (slice(first, min(first + step, rows)) for first in range(0, rows, step))


def _rounded_gray(
    images: NDArray[np.uint8], weights: tuple[int, int, int], shift: int, dtype: DTypeLike
) -> NDArray[Any]:
    planes = weighted_sum(images, weights, dtype, shift)
    planes += 0.5
    return np.floor(planes, out=planes)
