"""What small changes of pictures do to a detector's probabilities, class by class, and what that says of it.

A change that people do not see should not move a probability. Where it moves reals and fakes the same way, whoever
applies it to one class only (a corpus, a platform, an attacker) moves the scores with it. Rows of a group stand or fall
together, so the interval of a mean is that of its groups: the sandwich variance of a mean over clusters (Liang and
Zeger 1986) with Student's quantile for one less than their number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALL = 0.05
"""A mean change of probability within it is none."""

CLASSES = ("real", "fake")
"""By label."""

INVARIANT, REAL, FAKE, FRAGILE, UNKNOWN = "invariant", "towards real", "towards fake", "fragile", "cannot tell"

Floats = NDArray[np.floating[Any]]


def mean_interval(
    values: Floats, groups: NDArray[Any], limits: tuple[float, float] = (-1.0, 1.0)
) -> tuple[float, float, float]:
    """Mean of (n,) values, and the ends of its 95 % interval. groups: (n,).

    limits: between which values lie, those of a change of a probability if left out; the interval lies there, too
    """
    from scipy.special import stdtrit

    mean = float(np.mean(values))
    _, place = np.unique(groups, return_inverse=True)
    count = int(place.max()) + 1
    if count < 2:
        return mean, *limits
    sums = np.bincount(place, np.asarray(values, np.float64) - mean)
    error = math.sqrt(count / (count - 1) * float((sums**2).sum())) / len(values)
    half = float(stdtrit(count - 1, 0.975)) * error
    return mean, max(mean - half, limits[0]), min(mean + half, limits[1])


def verdict(real: tuple[float, float], fake: tuple[float, float]) -> str:
    """What the intervals (low, high) of the mean change on reals and on fakes say."""
    ends = (real, fake)
    if all(low >= -SMALL and high <= SMALL for low, high in ends):
        return INVARIANT
    if all(low > SMALL for low, _ in ends):
        return FAKE
    if all(high < -SMALL for _, high in ends):
        return REAL
    if any(low > SMALL or high < -SMALL for low, high in ends):
        return FRAGILE
    return UNKNOWN


def shifts(
    scores: Floats, names: Sequence[str], labels: NDArray[np.uint8], groups: NDArray[Any], threshold: float
) -> list[dict[str, Any]]:
    """One entry for each change: mean shift of the score on reals and fakes, share of flips, verdict.

    scores  (n, 1 + changes): of each row as it is, then after each change in the order of `names`
    """
    found = []
    before = np.asarray(scores[:, 0], np.float64)
    for number, name in enumerate(names, 1):
        after = np.asarray(scores[:, number], np.float64)
        entry: dict[str, Any] = {"change": name}
        for label, kind in enumerate(CLASSES):
            mine = labels == label
            mean, low, high = mean_interval((after - before)[mine], groups[mine])
            flips = float(((after >= threshold) != (before >= threshold))[mine].mean())
            entry[kind] = {"mean": mean, "interval": [low, high], "flips": flips}
        entry["verdict"] = verdict(*(tuple(entry[kind]["interval"]) for kind in CLASSES))
        found.append(entry)
    return found


def decided(
    scores: Floats, labels: NDArray[np.uint8], threshold: float, far: NDArray[np.bool_] | None = None
) -> dict[str, Any]:
    """How many rows a band decides, and how well. scores: (n, 1 + changes of the band), rows as they are first.

    far: (n,), which rows are far outside of the training rows; then `unsure` is the share of rows that `predict` calls
    so. Accuracies are None where no row is left.
    """
    values = np.asarray(scores, np.float64)
    low, high = values.min(axis=1), values.max(axis=1)
    sure = ~((low < threshold) & (threshold <= high))
    right = (values[:, 0] >= threshold) == (labels == 1)
    found = {
        "decided": float(sure.mean()),
        "accuracy": float(right.mean()),
        "accuracy_decided": float(right[sure].mean()) if sure.any() else None,
    }
    if far is None:
        return found
    told = sure & ~far
    return found | {
        "outside": float(far.mean()),
        "unsure": float(1 - told.mean()),
        "accuracy_told": float(right[told].mean()) if told.any() else None,
    }


def summary(
    scores: Floats,
    names: Sequence[str],
    band: Sequence[str],
    labels: NDArray[np.uint8],
    groups: NDArray[Any],
    threshold: float,
    far: NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """All of it as plain data; band: changes that make the band of a prediction. Raises ValueError for one class."""
    counts = {kind: int((labels == label).sum()) for label, kind in enumerate(CLASSES)}
    if not all(counts.values()):
        raise ValueError(f"both classes are needed, found {counts['real']} reals and {counts['fake']} fakes")
    columns = [0, *(1 + list(names).index(name) for name in band)]
    return {
        "counts": counts,
        "groups": {kind: len(np.unique(groups[labels == label])) for label, kind in enumerate(CLASSES)},
        "threshold": threshold,
        "changes": shifts(scores, names, labels, groups, threshold),
        "band": decided(scores[:, columns], labels, threshold, far),
    }


def lines(found: Mapping[str, Any]) -> list[str]:
    """For people: a line for each change, and one for the band."""
    result = []
    for one in found["changes"]:
        parts = []
        for kind in CLASSES:
            (low, high), mean = one[kind]["interval"], one[kind]["mean"]
            parts.append(f"{kind}s {mean:+.3f} [{low:+.3f}, {high:+.3f}], {one[kind]['flips']:.0%} flip")
        result.append(f"{one['change']:<10} {one['verdict']:<13} {'; '.join(parts)}")
    band = found["band"]
    sure = "" if band["accuracy_decided"] is None else f", of which {band['accuracy_decided']:.0%} are right"
    result.append(
        f"the band decides {band['decided']:.0%} of the images{sure}; of all {band['accuracy']:.0%} are right"
    )
    if "unsure" in band:
        right = "" if band["accuracy_told"] is None else f"; of the others {band['accuracy_told']:.0%} are right"
        result.append(f"far outside are {band['outside']:.0%}; unsure is the verdict of {band['unsure']:.0%}{right}")
    return result
