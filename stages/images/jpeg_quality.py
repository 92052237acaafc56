"""JPEG quality: the quantization tables that the usual encoders make of a number from 1 to 100, and the way back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
"""Quantization of luma (T.81, table K.1), row by row; encoders scale it by the quality."""


def table(quality: int) -> NDArray[np.int64]:
    """(64,) steps of luma at a quality from 1 to 100, as libjpeg scales them."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((np.array(LUMA) * scale + 50) // 100, 1, 255)


def nearest_quality(luma: NDArray[np.uint16]) -> int:
    """The quality whose table, (64,) row by row, is nearest in the mean of its steps; the higher one of two."""
    means = np.array([table(quality).mean() for quality in range(1, 101)])
    return 100 - int(np.argmin(np.abs(means - luma.mean())[::-1]))
