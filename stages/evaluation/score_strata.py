"""Images from the lowest to the highest score, and whether scores go with how good an image looks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.evaluation.bootstrap import Interval, interval_of

Floats = NDArray[np.floating[Any]]


def ascending(scores: Floats, ids: Sequence[str | bytes]) -> NDArray[np.int64]:
    """(n,) positions by score; of equal ones the smaller id first."""
    values = scores.tolist()
    return np.array(sorted(range(len(values)), key=lambda place: (values[place], ids[place])), dtype=np.int64)


def middles(count: int, columns: int) -> list[int]:
    """Ranks in the middle of `columns` equal strata: floor((c + 1/2) count / columns)."""
    return [(2 * column + 1) * count // (2 * columns) for column in range(columns)]


def stratum(count: int, columns: int, column: int) -> range:
    """Ranks of one of `columns` strata."""
    return range(column * count // columns, (column + 1) * count // columns)


def spearman(one: Floats, other: Floats) -> float:
    """Rank correlation of (n,) numbers, ties by their mean rank; NaN where one of them never varies."""
    from scipy.stats import rankdata

    ranks = [rankdata(values) for values in (one, other)]
    return float(np.corrcoef(*ranks)[0, 1]) if all(np.ptp(rank) > 0 for rank in ranks) else float("nan")


def kendall(one: Floats, other: Floats) -> float:
    """Tau-b of (n,) numbers; NaN where one of them never varies."""
    from scipy.stats import kendalltau

    varies = np.ptp(one) > 0 and np.ptp(other) > 0
    return float(kendalltau(one, other).statistic) if varies else float("nan")


def correlated(
    scores: Floats, quality: Floats, groups: NDArray[np.int64], seed: int
) -> dict[str, tuple[float, Interval | None]]:
    """Both correlations, each with its 95 % interval by resamples of groups (numbers 0, 1, ...)."""
    found = {}
    for name, correlation in (("spearman", spearman), ("kendall_tau_b", kendall)):
        interval = interval_of(partial(_of_rows, correlation, scores, quality), groups, seed)
        found[name] = correlation(scores, quality), interval
    return found


def _of_rows(
    correlation: Callable[[Floats, Floats], float], scores: Floats, quality: Floats, rows: NDArray[np.int64]
) -> float:
    return correlation(scores[rows], quality[rows])
