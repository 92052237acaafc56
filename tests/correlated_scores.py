"""Scores of rows that come in groups, with a known correlation inside of a group."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

INTRACLASS = 0.3


def correlated(
    random: np.random.Generator, groups: int, shift: float
) -> tuple[NDArray[np.float64], NDArray[np.uint8], NDArray[np.int64]]:
    """Scores, labels and group numbers: `groups` of each class, of 1 to 10 rows; variance 1, fakes `shift` higher."""
    sizes = random.integers(1, 11, 2 * groups)
    numbers = np.repeat(np.arange(2 * groups), sizes)
    labels = (numbers >= groups).astype(np.uint8)
    level = np.sqrt(INTRACLASS) * random.normal(size=2 * groups)
    own = np.sqrt(1 - INTRACLASS) * random.normal(size=len(numbers))
    return shift * labels + level[numbers] + own, labels, numbers
