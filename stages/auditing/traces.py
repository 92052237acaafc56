"""Traces of 8 x 8 blocks: what an earlier JPEG leaves in pixels, on the grid of the image and on any other one.

A coefficient that was quantized with step Q lies near a multiple of Q ever after; how near is the mean of
cos(2 pi c / Q) over coefficients that are not near zero (after Fan and de Queiroz 2003). Where the grid is not that of
the image, too many small coefficients of high frequency and steps between blocks give it away.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.images.jpeg_quality import table
from stages.images.jpeg_segments import ZIGZAG

Floats = NDArray[np.floating[Any]]

QUALITIES = (*tuple(range(40, 100, 2)), 75, 85, 91, 93, 95, 97)
MOST_BLOCKS = 256
"""Blocks whose coefficients are compared with all qualities."""

MOST_COEFFICIENTS = 2000

LARGE, DAMPING = 0.6, 24.0
"""Coefficients count from this many steps on; few of them say little."""

REACH = 64
"""Pixels per side in which all 64 positions of the grid are tried."""


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
    found: Floats = (_cosines() @ blocks @ _cosines().T).reshape(-1, 64)
    return found


def comb(blocks: Floats, own: NDArray[np.uint16] | None = None) -> float:
    """How near the coefficients of (blocks, 64) lie to multiples of some quality's steps: about 0 to 1.

    own: steps of the file itself, (64,); then only coarser ones count, which an earlier compression has left.
    """
    values = _some(blocks)[:, 1:]
    known = _steps()
    used = known >= 2 if own is None else (known >= 2) & (known > 1.25 * own[1:])
    known, used = known[used.sum(1) >= 6], used[used.sum(1) >= 6]
    rows, places = np.nonzero(np.abs(values) >= 2 * LARGE)
    every = -(-len(rows) // MOST_COEFFICIENTS) or 1
    rows, places = rows[::every], places[::every]
    if not len(known) or not len(rows):
        return 0.0
    waves = values[rows, places] / known[:, places]  # (qualities, coefficients)
    counted = (np.abs(waves) >= LARGE) & used[:, places]
    sums = np.where(counted, np.cos(np.float32(2 * np.pi) * waves), 0).sum(1)
    return max(0.0, float((sums / (counted.sum(1) + DAMPING)).max()))


def _some(blocks: Floats) -> Floats:
    """At most MOST_BLOCKS, spread evenly."""
    return blocks if len(blocks) <= MOST_BLOCKS else blocks[:: -(-len(blocks) // MOST_BLOCKS)]


def zeros(luma: Floats) -> NDArray[np.float64]:
    """(8, 8): for each position of the grid the share of small coefficients of high frequency, minus the median."""
    height, width = luma.shape
    top, left = (max(0, (side - REACH) // 2) // 8 * 8 for side in (height, width))
    part = luma[top : top + REACH + 7, left : left + REACH + 7]
    if min(part.shape) < 16:
        return np.zeros((8, 8))
    windows = np.lib.stride_tricks.sliding_window_view(part, (8, 8))
    high, wide = windows.shape[:2]
    small = (np.abs(windows.reshape(-1, 64) @ _high()) < 1).mean(1, dtype=np.float32).reshape(high, wide)
    rows, columns = high // 8, wide // 8
    found = small[: 8 * rows, : 8 * columns].reshape(rows, 8, columns, 8).mean((0, 2), dtype=np.float64)
    return found - np.median(found)


def steps(luma: Floats, axis: int) -> NDArray[np.float64]:
    """(8,): jump between pixel x and x + 1, beyond what their neighbors say, by x modulo 8, over the median."""
    one = luma if axis else luma.T
    if one.shape[1] < 17:
        return np.zeros(8)
    jump = np.abs(one[:, :-3] - 3 * one[:, 1:-2] + 3 * one[:, 2:-1] - one[:, 3:]).mean(
        0
    )  # k-th: between k + 1 and k + 2
    whole = jump[: len(jump) // 8 * 8].reshape(-1, 8).mean(0, dtype=np.float64)
    means = np.roll(whole, 2)
    return np.log((means + 0.05) / (np.median(means) + 0.05))
