"""Which columns differ between two classes: permutation by group, corrected for all columns at once, and equivalence.

Labels are permuted among groups that stand in one class only, whole groups at a time, and within groups that stand in
both (exchangeability blocks: Winkler et al. 2015). Corrected p values are those of the step-down maxT procedure over
all columns of all checks (Westfall and Young 1993), with p = (1 + exceedances) / (1 + B) (Phipson and Smyth 2010).
Equality is shown by two one-sided tests (Schuirmann 1987): the whole 90 % interval of the effect lies within a bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

PERMUTATIONS = 4999
ALPHA = 0.001
CHUNK_BYTES = 2**26

Z_90 = 1.645
BOUND = {"share": 0.05, "rank": 0.10}
"""Effects within these are equal."""

FLOOR = {"share": 0.02, "rank": 0.03}
"""Smaller effects never count as a difference."""

RULE_OF_THREE = 3.0
TOLERANCE = 1e-4
"""Deviations within which two labelings give one value: sums are made of single floats."""


@dataclass
class Column:
    """One number per row. check, label: which check it belongs to, and what it is in words.

    values    (n,), centered within each stratum, 0 outside of them: its sum is 0
    weight    sum over strata of n_real n_fake / n; the effect is the sum over fakes divided by it
    kind      "share" of a fact, or "rank", whose effect is AUC - 0.5
    letter    kind of the check that this column speaks for: C, H or L
    proves    whether equality needs it
    end       +1 or -1: the column is an upper or lower tail; 0: neither
    statistic what it was made from; columns of one statistic show the rows of its tails
    raw, used (n,): the values before they were centered, and which rows lie in strata
    """

    check: str
    label: str
    kind: str
    values: NDArray[np.float32]
    weight: float
    letter: str
    proves: bool = True
    one_sided: bool = False
    statistic: str = ""
    end: int = 0
    raw: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    used: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))


@dataclass(frozen=True)
class Outcome:
    """What the permutations say of a column. z: effect over its deviation; p: corrected for all columns."""

    effect: float
    deviation: float
    z: float
    p: float


def compared(
    columns: Sequence[Column], labels: NDArray[np.uint8], groups: NDArray[np.int64], seed: int = 0
) -> list[Outcome]:
    """Each column tested against all permutations at once; labels: (n,), 1 = fake; groups: (n,)."""
    if not columns:
        return []
    matrix = np.stack([column.values for column in columns], axis=1).astype(np.float32)  # (n, C)
    weights = np.maximum([column.weight for column in columns], 1e-9)
    sums = np.concatenate([drawn.astype(np.float32) @ matrix for drawn in permutations(labels, groups, seed)])
    observed = labels.astype(np.float32) @ matrix
    expected = _expected(labels, groups)
    center = sums.mean(0, dtype=np.float64) if expected is None else expected @ matrix
    deviation = np.sqrt(((sums - center) ** 2).mean(0, dtype=np.float64))
    scale = np.maximum(deviation, 1e-7 * np.maximum(weights, 1.0))
    z = (observed - center) / scale
    sizes = (sums - center) / scale
    one_sided = np.array([column.one_sided for column in columns])
    size = np.where(one_sided, z, np.abs(z))
    sizes = np.where(one_sided, sizes, np.abs(sizes))
    p = _step_down(size, sizes)
    return [
        Outcome(float(observed[k] / weights[k]), float(deviation[k] / weights[k]), float(z[k]), float(p[k]))
        for k in range(len(columns))
    ]


def _expected(labels: NDArray[np.uint8], groups: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """(n,): how often each row is fake over all permutations; None: not known in advance, as groups of several rows
    that stand in one class are cut at the seam."""
    numbers, place, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    shares = np.bincount(place, labels, len(numbers)) / sizes
    pure = (shares == 0) | (shares == 1)
    if (sizes[pure] > 1).any():
        return None
    among = pure[place]
    return np.where(among, labels[among].mean() if among.any() else 0.0, shares[place])


def _step_down(size: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corrected p of each column: the largest of the columns that are not larger, permutation by permutation."""
    order = np.argsort(size)  # from the smallest on
    largest = np.maximum.accumulate(sizes[:, order], axis=1)
    counts = (largest >= size[order] - TOLERANCE).sum(0)
    p = np.empty(len(size))
    p[order[::-1]] = np.maximum.accumulate(((1 + counts) / (1 + len(sizes)))[::-1])
    return p


def permutations(
    labels: NDArray[np.uint8], groups: NDArray[np.int64], seed: int, count: int = PERMUTATIONS
) -> Iterator[NDArray[np.bool_]]:
    """(k, n) permuted labels, some at a time, `count` in all. The group at the seam is cut."""
    random = np.random.default_rng(seed)
    numbers, place, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    fakes = np.bincount(place, labels, len(numbers))
    mixed = ((fakes > 0) & (fakes < sizes))[place]
    within, among = np.flatnonzero(mixed), np.flatnonzero(~mixed)
    step = max(1, CHUNK_BYTES // (8 * len(labels)))
    for start in range(0, count, step):
        drawn = np.zeros((min(step, count - start), len(labels)), bool)
        if len(among):
            drawn[:, among] = _among(place[among], int(labels[among].sum()), len(drawn), random)
        if len(within):
            drawn[:, within] = _within(place[within], labels[within], len(drawn), random)
        yield drawn


def _among(groups: NDArray[np.int64], fakes: int, count: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """Groups in random order; the last `fakes` rows are fake."""
    numbers, place, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    keys = random.random((count, len(numbers)), np.float32)
    if len(numbers) == len(groups):  # every row by itself
        if not fakes:
            return np.zeros((count, len(groups)), bool)
        bound = np.partition(keys, fakes - 1, axis=1)[:, fakes - 1 : fakes]
        return (keys <= bound)[:, place]
    order = np.argsort(keys, axis=1)
    before = np.empty((count, len(numbers)), np.int64)
    np.put_along_axis(before, order, np.cumsum(sizes[order], axis=1) - sizes[order], axis=1)
    return before[:, place] + _inside(place)[None] < fakes


def _inside(place: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,): number of each row in its group."""
    order = np.argsort(place, kind="stable")
    ranked = place[order]
    first = np.searchsorted(ranked, ranked)
    found = np.empty(len(place), np.int64)
    found[order] = np.arange(len(place)) - first
    return found


def _within(
    groups: NDArray[np.int64], labels: NDArray[np.uint8], count: int, random: np.random.Generator
) -> NDArray[np.bool_]:
    """Labels permuted within each group."""
    _numbers, place = np.unique(groups, return_inverse=True)
    order = np.lexsort((labels, place))
    pattern = labels[order].astype(bool)
    keys = place[None] + random.random((count, len(groups)))
    drawn = np.empty((count, len(groups)), bool)
    np.put_along_axis(drawn, np.argsort(keys, axis=1), np.broadcast_to(pattern, drawn.shape), axis=1)
    return drawn


def differs(column: Column, test: Outcome) -> bool:
    """Whether a difference is proven, and large enough to matter."""
    return test.p <= ALPHA and abs(test.effect) >= FLOOR[column.kind]


def is_equal(column: Column, test: Outcome, rows: int) -> bool:
    """Whether a difference of the bound is excluded; rows: of the class that has fewer."""
    reach = max(Z_90 * test.deviation, RULE_OF_THREE / max(rows, 1) if column.kind == "share" else 0.0)
    return abs(test.effect) + reach <= BOUND[column.kind] + 1e-9


def rows_needed(column: Column, test: Outcome) -> int:
    """Rows per class from which an effect of this size is told from chance (z of 4.2)."""
    size = max(abs(test.effect), FLOOR[column.kind])
    return int(np.ceil(18 / size if column.kind == "share" else 3 / size**2))
