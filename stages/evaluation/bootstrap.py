"""Intervals of numbers that have no formula, by resamples of whole groups (see `stages.evaluation.intervals`)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.stage import draw_key

RESAMPLES = 1000
ENDS = (2.5, 97.5)

Interval = list[float]


def _generator(seed: int, name: str) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=draw_key(seed, "bootstrap", b"", name)))


def ratio_intervals(
    top: NDArray[np.generic], below: NDArray[np.generic], groups: NDArray[np.int64], seed: int
) -> list[tuple[float | None, Interval | None]]:
    """Of each column of (n, k) the sum of `top` over that of `below`, and its 95 % interval; None where below is 0.

    groups: (n,) numbers 0, 1, ...; rows of one stand or fall together, by weights of the Bayesian bootstrap.
    """
    count = int(groups.max(initial=-1)) + 1
    sums = [np.zeros((count, top.shape[1])) for _ in range(2)]
    for total, values in zip(sums, (top, below), strict=True):
        np.add.at(total, groups, values.astype(np.float64))
    weights = _generator(seed, f"ratio of {count} groups").standard_exponential((RESAMPLES, count))
    found: list[tuple[float | None, Interval | None]] = []
    for over, under in zip(sums[0].T, sums[1].T, strict=True):
        if under.sum() <= 0:
            found.append((None, None))
            continue
        ratios = (weights @ over) / (weights @ under)
        found.append((float(over.sum() / under.sum()), np.percentile(ratios, ENDS).tolist()))
    return found


def interval_of(
    number: Callable[[NDArray[np.int64]], float], groups: NDArray[np.int64], seed: int, resamples: int = 300
) -> Interval | None:
    """95 % interval of a number of some rows; number: of positions, some of them several times. None without groups.

    groups: (n,) numbers 0, 1, ...; as many as there are are drawn with replacement. Resamples without a number are left
    out.
    """
    count = int(groups.max(initial=-1)) + 1
    if count < 2:
        return None
    order = np.argsort(groups, kind="stable")
    bounds = np.searchsorted(groups[order], np.arange(count + 1))
    generator = _generator(seed, f"number of {count} groups")
    found = []
    for _ in range(resamples):
        drawn = generator.integers(count, size=count)
        found.append(number(np.concatenate([order[bounds[one] : bounds[one + 1]] for one in drawn.tolist()])))
    finite = np.array(found)[np.isfinite(found)]
    return np.percentile(finite, ENDS).tolist() if len(finite) else None
