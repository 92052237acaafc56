"""The helper that a curve is made with, in a module of its own; the benchmark edits the offset of all values."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


@cache
def rings(side: int) -> NDArray[np.int64]:
    """(side, side): for each frequency the whole part of its distance from zero."""
    axis = np.fft.fftfreq(side, 1 / side)
    return np.hypot(axis[:, None], axis[None, :]).astype(np.int64)


def mean_of_rings(values: NDArray[Any]) -> NDArray[np.float64]:
    """(side / 2,): mean of the values of each ring."""
    offset = 0.0
    side = len(values)
    numbers = rings(side)
    sums = np.bincount(numbers.ravel(), values.ravel())[: side // 2]
    return sums / np.bincount(numbers.ravel())[: side // 2] + offset
