"""Traces of 8 x 8 blocks: what an earlier JPEG leaves in pixels, on the grid of the image and on any other one.

A coefficient that was quantized with step Q lies near a multiple of Q ever after; how near is the mean of cos(2 pi c / Q)
over coefficients that are not near zero (after Fan and de Queiroz 2003). Where the grid is not that of the image, too
many small coefficients of high frequency and steps between blocks give it away.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stages.images.jpeg_segments import ZIGZAG

Floats = NDArray[np.float32]

LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
"""Quantization of luma (T.81, table K.1), row by row; the usual encoders scale it by a quality."""

QUALITIES = tuple(range(40, 100, 2)) + (75, 85, 91, 93, 95, 97)
MOST_BLOCKS = 256
"""Blocks whose coefficients are compared with all qualities."""

LARGE, DAMPING = 0.6, 24.0
"""Coefficients count from this many steps on; few of them say little."""

REACH = 64
"""Pixels per side in which all 64 positions of the grid are tried."""


def table(quality: int) -> NDArray[np.int64]:
    """(64,) steps of luma at a quality from 1 to 100, as libjpeg scales them."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((np.array(LUMA) * scale + 50) // 100, 1, 255)


@lru_cache(1)
def _steps() -> Floats:
    """(qualities, 63): steps of the coefficients but the first."""
    return np.stack([table(quality)[1:] for quality in QUALITIES]).astype(np.float32)


@lru_cache(1)
def _cosines() -> Floats:
    """(8, 8) orthonormal DCT-II: rows are frequencies."""
    places = np.arange(8)
    matrix = np.sqrt(0.25) * np.cos(np.pi * (2 * places[None] + 1) * places[:, None] / 16)
    matrix[0] = np.sqrt(0.125)
    return matrix.astype(np.float32)


@lru_cache(1)
def _high() -> Floats:
    """(64, k): the k waves of high frequency, for blocks row by row."""
    cosines = _cosines()
    waves = np.einsum("ua,vb->uvab", cosines, cosines).reshape(64, 64)
    return np.ascontiguousarray(waves[ZIGZAG[28:]].T)


def coefficients(luma: Floats, top: int = 0, left: int = 0) -> Floats:
    """(blocks, 64) DCT of 8 x 8 blocks of (H, W) luma from a corner on; none where the image is smaller."""
    rows, columns = max(0, luma.shape[0] - top) // 8, max(0, luma.shape[1] - left) // 8
    part = luma[top : top + 8 * rows, left : left + 8 * columns] - 128
    blocks = part.reshape(rows, 8, columns, 8).transpose(0, 2, 1, 3).reshape(-1, 8, 8)
    return (_cosines() @ blocks @ _cosines().T).reshape(-1, 64)


def comb(blocks: Floats, own: NDArray[np.uint16] | None = None) -> float:
    """How near the coefficients of (blocks, 64) lie to multiples of some quality's steps: about 0 to 1.

    own: steps of the file itself, (64,); then only coarser ones count, which an earlier compression has left.
    """
    values = _some(blocks)[:, 1:]
    best = 0.0
    for steps in _steps():
        used = steps >= 2
        if own is not None:
            used &= steps > 1.25 * own[1:]
        if used.sum() < 6:
            continue
        waves = values[:, used] / steps[used]
        waves = waves[np.abs(waves) >= LARGE]
        if len(waves):
            best = max(best, float(np.cos(2 * np.pi * waves).sum() / (len(waves) + DAMPING)))
    return best


def _some(blocks: Floats) -> Floats:
    """At most MOST_BLOCKS, spread evenly."""
    return blocks if len(blocks) <= MOST_BLOCKS else blocks[:: -(-len(blocks) // MOST_BLOCKS)]


def zeros(luma: Floats) -> NDArray[np.float64]:
    """(8, 8): for each position of the grid the share of small coefficients of high frequency, minus the median."""
    height, width = luma.shape
    top, left = (max(0, (side - REACH) // 2) // 8 * 8 for side in (height, width))
    part = luma[top : top + REACH + 7, left : left + REACH + 7]
    if min(part.shape) < 15:
        return np.zeros((8, 8))
    windows = np.lib.stride_tricks.sliding_window_view(part, (8, 8))
    high, wide = windows.shape[:2]
    small = (np.abs(windows.reshape(-1, 64) @ _high()) < 1).mean(1, dtype=np.float32).reshape(high, wide)
    found = np.array([[small[y::8, x::8].mean() for x in range(8)] for y in range(8)], np.float64)
    return found - np.median(found)


def steps(luma: Floats, axis: int) -> NDArray[np.float64]:
    """(8,): jump between pixel x and x + 1, beyond what their neighbors say, by x modulo 8, over the median."""
    one = luma if axis else luma.T
    if one.shape[1] < 17:
        return np.zeros(8)
    jump = np.abs(one[:, :-3] - 3 * one[:, 1:-2] + 3 * one[:, 2:-1] - one[:, 3:]).mean(0)  # between x + 1 and x + 2
    means = np.array([jump[(phase - 1) % 8 :: 8].mean() for phase in range(8)], np.float64)
    return np.log((means + 0.05) / (np.median(means) + 0.05))
