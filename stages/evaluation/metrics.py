"""Metrics of scores against labels, over items and never over batches, each with a 95 % interval.

Rates (accuracies, TPR, TNR) have Wilson's interval (1927). The area under the ROC curve is the Mann-Whitney statistic
with DeLong's variance (1988, midranks as in Sun and Xu 2014), taken on the logit scale so that it stays inside [0, 1].
Average precision has a percentile bootstrap, stratified by class, with random numbers keyed by the data themselves.
Where a sample separates perfectly, DeLong's variance and every resample degenerate to a point; then the interval is
Wilson's for as many successes in as many trials as the smaller class has rows, which errs on the wide side.
Labels: 1 = fake, 0 = real; a score at or above a threshold means fake.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating[Any]]
Labels = NDArray[np.uint8]
Interval = tuple[float, float]

Z = 1.959963984540054
"""97.5 % point of the normal distribution."""

RESAMPLES = 1000
BLOCK_NUMBERS = 2_000_000
"""Numbers in one block of resamples."""


def summary(scores: Scores, labels: Labels, threshold: float) -> dict[str, Any]:
    """All metrics of (n,) scores as plain data: value, and `<name>_interval` with two ends.

    Raises ValueError where a class is missing or a score is not finite.
    """
    scores, labels = _checked(scores, labels)
    fake, real = scores[labels == 1], scores[labels == 0]
    caught, passed = int((fake >= threshold).sum()), int((real < threshold).sum())
    half = int((fake >= 0.5).sum() + (real < 0.5).sum())
    total = len(scores)
    values: dict[str, Any] = {"n_real": len(real), "n_fake": len(fake), "threshold": threshold}
    values |= {"ap": average_precision(scores, labels), "ap_interval": average_precision_interval(scores, labels)}
    values |= {"auc": roc_auc(scores, labels), "auc_interval": roc_auc_interval(scores, labels)}
    for name, count, trials in (
        ("accuracy", caught + passed, total),
        ("accuracy_at_half", half, total),
        ("tpr", caught, len(fake)),
        ("tnr", passed, len(real)),
    ):
        values |= {name: count / trials, f"{name}_interval": wilson(count, trials)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _checked(scores: Scores, labels: Labels) -> tuple[NDArray[np.float64], Labels]:
    """Scores as float64, sorted by (score, label): nothing below depends on the order of the rows."""
    scores = np.asarray(scores, dtype=np.float64) + 0.0  # -0.0 becomes 0.0: the bytes seed the bootstrap
    labels = np.asarray(labels, dtype=np.uint8)
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite numbers")
    fakes = int((labels == 1).sum())
    if fakes == 0 or fakes == len(labels):
        raise ValueError(f"metrics need both classes; found {fakes} fakes and {len(labels) - fakes} reals")
    order = np.lexsort((labels, scores))
    return scores[order], labels[order]


def wilson(successes: float, trials: int) -> Interval:
    """Wilson's 95 % interval of a rate."""
    rate = successes / trials
    center = (rate + Z**2 / (2 * trials)) / (1 + Z**2 / trials)
    half = Z / (1 + Z**2 / trials) * math.sqrt(rate * (1 - rate) / trials + Z**2 / (4 * trials**2))
    return (0.0 if successes == 0 else center - half), (1.0 if successes == trials else center + half)


def midranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    result: NDArray[np.float64] = (last - (counts - 1) / 2)[inverse]
    return result


def roc_auc(scores: Scores, labels: Labels) -> float:
    """P(fake > real) + P(fake = real) / 2 over all pairs."""
    fake, _ = placements(scores, labels)
    return float(fake.mean())


def placements(scores: Scores, labels: Labels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each fake the share of reals below it (ties half), for each real the share of fakes above it."""
    scores, labels = _checked(scores, labels)
    fake, real = scores[labels == 1], scores[labels == 0]
    together = midranks(np.concatenate([fake, real]))
    below = (together[: len(fake)] - midranks(fake)) / len(real)
    above = 1 - (together[len(fake) :] - midranks(real)) / len(fake)
    return below, above


def roc_auc_interval(scores: Scores, labels: Labels) -> Interval:
    """DeLong's 95 % interval on the logit scale."""
    below, above = placements(scores, labels)
    area = float(below.mean())
    variance = sum(float(part.var(ddof=1)) / len(part) for part in (below, above) if len(part) > 1)
    if variance <= 0 or not 0 < area < 1:
        return _degenerate(area, min(len(below), len(above)))
    half = Z * math.sqrt(variance) / (area * (1 - area))
    center = math.log(area / (1 - area))
    low, high = (1 / (1 + math.exp(-min(max(end, -700.0), 700.0))) for end in (center - half, center + half))
    return low, high


def _degenerate(value: float, rows: int) -> Interval:
    return wilson(value * rows, rows)


def average_precision(scores: Scores, labels: Labels) -> float:
    """Sum over distinct thresholds of (gain of recall) * precision, without interpolation."""
    scores, labels = _checked(scores, labels)
    return float(_average_precision(*_ladder(scores, labels), np.ones((1, len(scores))))[0])


def _ladder(scores: NDArray[np.float64], labels: Labels) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Last places of groups of equal scores, from the highest score down, and the labels in that order."""
    descending = scores[::-1]
    ends = np.flatnonzero(np.append(np.diff(descending) != 0, True))
    return ends, labels[::-1].astype(np.float64)


def _average_precision(
    ends: NDArray[np.int64], fake: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Average precision (resamples,) with a weight per row and resample; rows from the highest score down."""
    hits = (weights * fake).cumsum(axis=1)[:, ends]
    called = weights.cumsum(axis=1)[:, ends]
    precision = hits / np.maximum(called, 1)
    gain = np.diff(hits, axis=1, prepend=0) / hits[:, -1:]
    result: NDArray[np.float64] = (gain * precision).sum(axis=1)
    return result


def average_precision_interval(scores: Scores, labels: Labels, resamples: int = RESAMPLES) -> Interval:
    """95 % percentile interval of resamples drawn within each class; its seed is a digest of scores and labels."""
    scores, labels = _checked(scores, labels)
    key = hashlib.sha256(b"touchstone/bootstrap" + scores.tobytes() + labels.tobytes()).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "little")))
    ends, fake = _ladder(scores, labels)
    values = []
    step = max(1, BLOCK_NUMBERS // len(scores))
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        weights = np.empty((count, len(scores)))
        for label in (0.0, 1.0):
            rows = int((fake == label).sum())
            weights[:, fake == label] = generator.multinomial(rows, np.full(rows, 1 / rows), size=count)
        values.append(_average_precision(ends, fake, weights))
    drawn = np.concatenate(values)
    if drawn.max() - drawn.min() < 1e-12:
        return _degenerate(average_precision(scores, labels), int(min((fake == 1).sum(), (fake == 0).sum())))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def roc_points(scores: Scores, labels: Labels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False and true positive rates at every distinct threshold, from (0, 0) to (1, 1)."""
    scores, labels = _checked(scores, labels)
    ends, fake = _ladder(scores, labels)
    true, false = fake.cumsum()[ends], (1 - fake).cumsum()[ends]
    return np.append(0.0, false / false[-1]), np.append(0.0, true / true[-1])
