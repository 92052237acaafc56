"""Metrics with 95 % intervals that know which rows belong together, and the comparison of two detectors.

Four draws of one photograph are not four photographs: rows of a group (a photo, a person, a sender, a latent) stand or
fall together, so whole groups are resampled (Field and Welsh 2007), each class for itself. The resamples are those of
the Bayesian bootstrap (Rubin 1981): every group has an exponential weight, so no resample lacks a class. Of them only
the standard error is taken, on the logit scale so that an interval stays inside [0, 1], with Student's quantile for the
effective number of groups n^2 / (sum of squared group sizes) of the smaller class. With fewer than 20 of these an
interval is marked: it is a hint.
Where a value is 0 or 1, or all scores are one, resamples degenerate to a point; then the interval is Wilson's for as
many trials as there are effective groups, which errs on the wide side. Random numbers are keyed by the number of groups
and their classes.
"""

from __future__ import annotations

import copy
import hashlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.evaluation.metrics import Interval, Labels, Scores, all_areas, areas, checked, rates, rungs, wilson

Groups = NDArray[np.integer[Any]]

RESAMPLES = 1000
MOST_RUNGS = 2048
"""Of the ladder of a resample; more scores than that share rungs there. Values themselves have all of theirs."""
MOST_BLOCKS = 4096
"""Into as many, more groups are put together at random, which leaves the variance as it is (Wolter 1985)."""
FEW_GROUPS = 20
"""Effective groups of a class below which an interval is a hint."""

AREAS = ("auc", "ap", "ap_real")
RATES = ("accuracy", "balanced_accuracy", "tpr", "tnr")
LEAST = 1e-6
"""Standard error from which on resamples differ by more than the rounding of their weights."""

METRICS = (*AREAS, *RATES, *(f"{name}_at_half" for name in RATES))
"""Entries of a summary that have an interval."""
ONE_CLASS = {"tpr": 1, "tpr_at_half": 1, "tnr": 0, "tnr_at_half": 0}
"""Metric -> the only class that it depends on."""


def summary(
    scores: Scores, labels: Labels, groups: Groups, threshold: float, published: float | None = None
) -> dict[str, Any]:
    """All metrics of (n,) scores as plain data: value, and `<name>_interval` with two ends.

    groups: (n,) numbers; rows with equal ones belong together. Rates at `threshold` have plain names, those at 0.5 end
    in `_at_half`; published, a threshold of a detector's authors, gives `accuracy_published`. Also `n_real`, `n_fake`,
    `ap_chance`, `ap_real_chance` (what AP is for scores that say nothing), `effective_groups` of the smaller class and
    `few_groups`. A value that needs a class that is missing is NaN.
    """
    found = values(scores, labels, threshold)
    drawn = Resamples(labels, groups)
    errors = {name: float(one.std()) for name, one in drawn.of(scores, threshold).items()}
    real, fake = (int((np.asarray(labels) == label).sum()) for label in (0, 1))
    least = min(drawn.effective)
    about: dict[str, Any] = {"n_real": real, "n_fake": fake, "threshold": threshold}
    about |= {"ap_chance": _share(fake, real + fake), "ap_real_chance": _share(real, real + fake)}
    about |= {"effective_groups": least, "few_groups": least < FEW_GROUPS}
    for name in METRICS:
        about[name] = found[name]
        about[f"{name}_interval"] = list(drawn.interval(name, found[name], errors[name]))
    if published is not None:
        value = rates(scores, labels, published)["accuracy"]
        error = float(drawn.rates(scores, published)["accuracy"].std())
        about |= {"accuracy_published": value}
        about |= {"accuracy_published_interval": list(drawn.interval("accuracy", value, error))}
    return about


def values(scores: Scores, labels: Labels, threshold: float) -> dict[str, float]:
    """`METRICS` without intervals."""
    found = all_areas(scores, labels) | rates(scores, labels, threshold)
    return found | {f"{name}_at_half": value for name, value in rates(scores, labels, 0.5).items()}


def difference(
    first: Scores, second: Scores, labels: Labels, groups: Groups, thresholds: tuple[float, float] = (0.5, 0.5)
) -> dict[str, tuple[float, Interval]]:
    """Metric -> value of `first` less that of `second` on the same rows, and its 95 % interval.

    Both are resampled together: what makes a row hard for both is no difference between them.
    """
    drawn = Resamples(labels, groups)
    one, two = (values(scores, labels, limit) for scores, limit in zip((first, second), thresholds, strict=True))
    ones, twos = (drawn.of(scores, limit) for scores, limit in zip((first, second), thresholds, strict=True))
    result = {}
    for name in METRICS:
        apart = one[name] - two[name]
        error = float((ones[name] - twos[name]).std()) * drawn.inflation(name)
        half = drawn.quantile(name) * error
        interval = (max(apart - half, -1.0), min(apart + half, 1.0))
        if not (error > LEAST and math.isfinite(half)):
            interval = drawn.without_spread(name, one[name], two[name])
        result[name] = (apart, interval)
    return result


def effective_groups(labels: Labels, groups: NDArray[Any]) -> tuple[float, float]:
    """Effective numbers of groups of reals and of fakes; 0.0 for a class that is missing."""
    numbers = np.unique(np.asarray(groups), return_inverse=True)[1]
    real, fake = (_effective(np.bincount(numbers[np.asarray(labels) == label])) for label in (0, 1))
    return real, fake


class Resamples:
    """Weights of the groups of some rows, the same for all scores of these rows.

    effective: effective numbers of groups of reals and of fakes; 0.0 for a class that is missing
    """

    def __init__(self, labels: Labels, groups: Groups) -> None:
        self.labels = np.asarray(labels, dtype=np.uint8)
        names, groups = np.unique(np.asarray(groups), return_inverse=True)
        sizes = [np.bincount(groups[self.labels == label], minlength=len(names)) for label in (0, 1)]
        self.effective = [_effective(one) for one in sizes]
        present = np.stack([one > 0 for one in sizes])  # not the rows: a group's weight does not depend on its size
        digest = hashlib.sha256(b"touchstone/resamples" + np.packbits(present).tobytes()).digest()
        self.generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
        self.blocks = self.groups = groups
        if len(names) > MOST_BLOCKS:
            kinds = present[0] + 2 * present[1]  # each block has its share of the groups of a class
            order = np.lexsort((self.generator.permutation(len(names)), kinds))
            numbers = np.empty(len(names), dtype=np.int64)
            numbers[order] = np.arange(len(names)) % MOST_BLOCKS
            self.blocks = numbers[groups]
        self.count = int(self.blocks.max(initial=-1)) + 1
        self.drawn = self.generator.standard_exponential((self.count, RESAMPLES), dtype=np.float32)
        self.held = [np.bincount(self.blocks[self.labels == label], minlength=self.count) for label in (0, 1)]
        self.means = [self.drawn[held > 0].mean(axis=0) if held.any() else None for held in self.held]

    def part(self, rows: NDArray[np.int64]) -> Resamples:
        """The same weights for some of the rows, which may hold fewer groups."""
        part = copy.copy(self)
        part.labels, part.blocks, groups = self.labels[rows], self.blocks[rows], self.groups[rows]
        sizes = [np.bincount(groups[part.labels == label]) for label in (0, 1)]
        part.effective = [_effective(one) for one in sizes]
        part.held = [np.bincount(part.blocks[part.labels == label], minlength=self.count) for label in (0, 1)]
        return part

    def of(self, scores: Scores, threshold: float) -> dict[str, NDArray[np.float64]]:
        """Metric -> (RESAMPLES,) values of resamples; NaN where a class is missing."""
        scores = checked(scores, self.labels)[0]
        if not min(self.effective):
            return dict.fromkeys(METRICS, np.full(RESAMPLES, np.nan)) | self._rates(scores, threshold)
        order = np.argsort(scores, kind="stable")
        first = _few(rungs(scores[order]), len(scores))
        numbers = np.searchsorted(scores[order][first], scores, side="right") - 1
        ladders = [self._ladder(numbers, label, len(first)) for label in (1, 0)]
        return areas(*ladders)._asdict() | self._rates(scores, threshold)

    def _ladder(self, numbers: NDArray[np.int64], label: int, count: int) -> NDArray[np.float32]:
        """Weights (rungs, resamples) of a class; numbers: the rung of each row."""
        from scipy.sparse import csr_array

        mine = self.labels == label
        ones = np.ones(int(mine.sum()), np.float32)
        rows = csr_array((ones, (numbers[mine], self.blocks[mine])), shape=(count, self.count))
        result: NDArray[np.float32] = rows @ self.drawn / self.means[label]  # as many groups are drawn as there are
        return result

    def _rates(self, scores: NDArray[np.float64], threshold: float) -> dict[str, NDArray[np.float64]]:
        half = self.rates(scores, 0.5)
        return self.rates(scores, threshold) | {f"{name}_at_half": drawn for name, drawn in half.items()}

    def rates(self, scores: Scores, limit: float) -> dict[str, NDArray[np.float64]]:
        """`RATES` at a threshold -> (RESAMPLES,) values of resamples; NaN where a class is missing."""
        sums = [self._right(checked(scores, self.labels)[0], label, limit) for label in (0, 1)]
        with np.errstate(divide="ignore", invalid="ignore"):
            tnr, tpr = (right / all_of_it for right, all_of_it in sums)
            accuracy = (sums[0][0] + sums[1][0]) / (sums[0][1] + sums[1][1])
        return {"tpr": tpr, "tnr": tnr, "balanced_accuracy": (tpr + tnr) / 2, "accuracy": accuracy}

    def _right(
        self, scores: NDArray[np.float64], label: int, limit: float
    ) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
        """(resamples,) weight of the rows of a class that are called right, and of all of them."""
        mine = self.labels == label
        if not mine.any():
            return np.zeros(RESAMPLES), np.zeros(RESAMPLES)
        sums = self._ladder(((scores >= limit) == bool(label)).astype(np.int64), label, 2)
        return sums[1], sums[0] + sums[1]

    def _classes(self, name: str) -> tuple[int, ...]:
        return (ONE_CLASS[name],) if name in ONE_CLASS else (0, 1)

    def inflation(self, name: str) -> float:
        """Of a standard error: weights with mean 1 over m groups vary by (m - 1) / (m + 1) of what samples do."""
        count = min(int((self.held[label] > 0).sum()) for label in self._classes(name))
        return math.sqrt((count + 1) / (count - 1)) if count > 1 else math.inf

    def quantile(self, name: str) -> float:
        """97.5 % point of Student's distribution for the effective groups of the classes of a metric."""
        from scipy.special import stdtrit

        freedom = min(self.effective[label] for label in self._classes(name)) - 1
        return float(stdtrit(freedom, 0.975)) if freedom > 0 else math.inf

    def interval(self, name: str, value: float, error: float) -> Interval:
        """95 % interval of a metric with the standard deviation `error` of its resamples."""
        if math.isnan(value):
            return math.nan, math.nan
        least = min(self.effective[label] for label in self._classes(name))
        if least <= 1:
            return 0.0, 1.0
        if not 0 < value < 1 or error <= LEAST:
            return wilson(value * least, least)
        half = self.quantile(name) * error * self.inflation(name) / (value * (1 - value))
        center = math.log(value / (1 - value))
        low, high = (1 / (1 + math.exp(-min(max(end, -700.0), 700.0))) for end in (center - half, center + half))
        return low, high

    def without_spread(self, name: str, value: float, other: float) -> Interval:
        """95 % interval of a difference that no resample changes, as of two perfect detectors: from one end of the
        interval of each value to the opposite end of the other's.
        """
        (low, high), (least, most) = (self.interval(name, each, 0.0) for each in (value, other))
        return low - most, high - least


def _effective(sizes: NDArray[np.int64]) -> float:
    total = float(sizes.sum())
    return total**2 / float((sizes.astype(np.float64) ** 2).sum()) if total else 0.0


def _few(first: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """At most MOST_RUNGS of the places where a rung begins, near those that cut the rows into equal parts."""
    if len(first) <= MOST_RUNGS:
        return first
    wanted = np.linspace(0, rows, MOST_RUNGS, endpoint=False)
    return np.unique(first[np.searchsorted(first, wanted, side="right") - 1])


def _share(count: int, total: int) -> float:
    return count / total if total else math.nan
