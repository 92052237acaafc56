"""Metrics of scores against labels, over items and never over batches.

Everything is a sum of weights on a ladder: its rungs are the distinct scores from the lowest up, and each holds the
weight of the fakes and of the reals with that score. With weights of one the values are those of scikit-learn; a row
of other weights is a resample (`stages.evaluation.intervals`). The area under the ROC curve is the Mann-Whitney
statistic, ties half. Average precision is the sum over thresholds of (gain of recall) * precision; it depends on which
class is sought and on how common that one is, so both conventions are given: `ap` seeks fakes, `ap_real` reals, and
the chance level of either is the share of its class. Where a class is missing a metric that needs it is NaN.
Labels: 1 = fake, 0 = real; a score at or above a threshold means fake.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating[Any]]
Labels = NDArray[np.uint8]
Values = NDArray[np.floating[Any]]
Interval = tuple[float, float]

Z = 1.959963984540054
"""97.5 % point of the normal distribution."""


class Areas(NamedTuple):
    """One value per row of weights."""

    auc: Values
    ap: Values
    ap_real: Values


def checked(scores: Scores, labels: Labels) -> tuple[NDArray[np.float64], Labels]:
    """Scores as float64 and labels. Raises ValueError where their numbers differ or a score is not finite."""
    scores = np.asarray(scores, dtype=np.float64) + 0.0  # -0.0 becomes 0.0: the bytes seed the bootstrap
    labels = np.asarray(labels, dtype=np.uint8)
    if scores.shape != labels.shape:
        raise ValueError(f"found {scores.shape} scores for {labels.shape} labels; expected one label for each score")
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite numbers")
    return scores, labels


def areas(fake: Values, real: Values) -> Areas:
    """Areas from weights on a ladder, each (rungs, resamples) with the lowest score first; NaN without a class.

    The average precision of fakes goes down the ladder from its top, that of reals up from its foot.
    """
    fakes_up, reals_up = fake.cumsum(axis=0), real.cumsum(axis=0)
    fakes, reals = fakes_up[-1], reals_up[-1]
    fakes_down, reals_down = fakes - fakes_up + fake, reals - reals_up + real
    with np.errstate(divide="ignore", invalid="ignore"):
        return Areas(
            (fake * (reals_up - real / 2)).sum(axis=0) / (fakes * reals),
            _precision(fake, fakes_down, reals_down) / fakes,
            _precision(real, reals_up, fakes_up) / reals,
        )


def _precision(sought: Values, found: Values, wrong: Values) -> Values:
    """Sum over rungs of the weight that is sought there, times the precision of all that has been called by then."""
    called = found + wrong
    result: Values = (sought * np.divide(found, called, out=np.zeros_like(called), where=called > 0)).sum(axis=0)
    return result


def rungs(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """First places of the runs of equal scores, which are sorted."""
    return np.flatnonzero(np.append(True, np.diff(scores) != 0)) if len(scores) else np.zeros(0, np.int64)


def _ladder(scores: Scores, labels: Labels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights of one (rungs, 1) of fakes and of reals."""
    scores, labels = checked(scores, labels)
    order = np.argsort(scores, kind="stable")
    first, is_fake = rungs(scores[order]), (labels[order] == 1).astype(np.float64)
    if not len(first):
        return np.zeros((1, 1)), np.zeros((1, 1))
    return np.add.reduceat(is_fake, first)[:, None], np.add.reduceat(1 - is_fake, first)[:, None]


def all_areas(scores: Scores, labels: Labels) -> dict[str, float]:
    """`auc`, `ap` and `ap_real` of (n,) scores; a class that is missing gives NaN where it is needed."""
    found = areas(*_ladder(scores, labels))
    return {name: float(value[0]) for name, value in found._asdict().items()}


def roc_auc(scores: Scores, labels: Labels) -> float:
    """P(fake > real) + P(fake = real) / 2 over all pairs; NaN without one of the classes."""
    return all_areas(scores, labels)["auc"]


def average_precision(scores: Scores, labels: Labels) -> float:
    """Sum over distinct thresholds of (gain of recall) * precision, fakes sought; NaN without fakes."""
    return all_areas(scores, labels)["ap"]


def rates(scores: Scores, labels: Labels, threshold: float) -> dict[str, float]:
    """`tpr`, `tnr`, their mean `balanced_accuracy`, and `accuracy`; NaN where a class is missing that they need."""
    scores, labels = checked(scores, labels)
    fake, real = scores[labels == 1], scores[labels == 0]
    caught, passed = int((fake >= threshold).sum()), int((real < threshold).sum())
    tpr, tnr = _share(caught, len(fake)), _share(passed, len(real))
    balanced = (tpr + tnr) / 2
    return {"tpr": tpr, "tnr": tnr, "balanced_accuracy": balanced, "accuracy": _share(caught + passed, len(scores))}


def _share(count: int, total: int) -> float:
    return count / total if total else math.nan


def wilson(successes: float, trials: float) -> Interval:
    """Wilson's 95 % interval (1927) of a rate; trials: independent ones, which may be a fraction."""
    rate = successes / trials
    center = (rate + Z**2 / (2 * trials)) / (1 + Z**2 / trials)
    half = Z / (1 + Z**2 / trials) * math.sqrt(rate * (1 - rate) / trials + Z**2 / (4 * trials**2))
    return (0.0 if successes == 0 else center - half), (1.0 if successes == trials else center + half)


def roc_points(scores: Scores, labels: Labels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False and true positive rates at every distinct threshold, from (0, 0) to (1, 1); both classes are needed."""
    fake, real = _ladder(scores, labels)
    true, false = fake[::-1, 0].cumsum(), real[::-1, 0].cumsum()
    return np.append(0.0, false / false[-1]), np.append(0.0, true / true[-1])
