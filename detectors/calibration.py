"""From decision values to scores in [0, 1], and the threshold: both chosen on validation rows only.

A detector's raw decision has no scale, so "accuracy at 0.5" would mean nothing (the commonest complaint about released
detectors is a threshold that does not fit). Platt (1999) fits a logistic curve to validation decisions; the numerically
stable Newton iteration is that of Lin, Lin and Weng (Machine Learning 68, 2007), with Platt's softened targets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def platt(
    decision: NDArray[np.float64],
    labels: NDArray[np.uint8],
    iterations: int = 100,
    *,
    balanced: bool = True,
    softened: bool = True,
) -> tuple[float, float]:
    """Slope and intercept of the logistic curve through validation decisions (n,), both classes with equal weight.

    Equal weight means that 0.5 is the balanced decision whatever the class counts. The slope is never negative: where
    validation would turn the detector around, its order is kept and the standardized decision goes through the plain
    logistic function.

    balanced  False: every row has equal weight, as in Platt's text
    softened  False: targets are 0 and 1, the plain maximum of the likelihood

    Raises ValueError where decisions of the classes do not overlap and targets are 0 and 1: no finite slope is best.
    """
    fake = labels == 1
    fakes, reals = int(fake.sum()), int((~fake).sum())
    target = np.where(fake, (fakes + 1) / (fakes + 2), 1 / (reals + 2))
    if not softened:
        _refuse_separable(decision, fake)
        target = fake.astype(np.float64)
    weight = np.where(fake, 0.5 / fakes, 0.5 / reals) if balanced else np.full(len(labels), 1 / len(labels))
    center, spread = float(decision.mean()), float(decision.std()) or 1.0
    scaled = (decision - center) / spread
    design = np.stack([scaled, np.ones_like(scaled)], axis=1)
    solution = np.zeros(2)
    loss = _loss(design @ solution, target, weight)
    for _ in range(iterations):
        probability = logistic(design @ solution)
        gradient = design.T @ (weight * (probability - target))
        if np.abs(gradient).max() < 1e-10:
            break
        curvature = (design * (weight * probability * (1 - probability))[:, None]).T @ design + 1e-12 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        length = 1.0
        while length > 1e-10 and _loss(design @ (solution - length * step), target, weight) > loss:
            length /= 2
        solution = solution - length * step
        loss = _loss(design @ solution, target, weight)
    slope, intercept = (float(value) for value in solution)
    if slope <= 0:
        slope, intercept = 1.0, 0.0
    return slope / spread, intercept - slope * center / spread


def temperature(decision: NDArray[np.float64], labels: NDArray[np.uint8]) -> float:
    """T for which the logistic function of decision / T is likeliest; 0 stays where it is (Guo et al. 2017).

    Raises ValueError where no finite T above 0 is best.
    """
    fake = labels == 1
    signed = np.where(fake, decision, -decision)
    if signed.min() >= 0 or signed.sum() <= 0:
        found = "always" if signed.min() >= 0 else "not even on the mean"
        raise ValueError(f"decisions have the sign of their labels {found}; no temperature is best, take a curve")
    low, high = 0.0, 1.0  # of 1 / T; the slope of the likelihood falls, and is above 0 at `low`
    while _slope(signed, high) > 0:
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        if _slope(signed, middle) > 0:
            low = middle
        else:
            high = middle
    return 2 / (low + high)


def _slope(signed: NDArray[np.float64], scale: float) -> float:
    return float((signed * logistic(-scale * signed)).sum())


def _refuse_separable(decision: NDArray[np.float64], fake: NDArray[np.bool_]) -> None:
    if decision[fake].min() >= decision[~fake].max() or decision[fake].max() <= decision[~fake].min():
        raise ValueError("decisions of the two classes do not overlap, so no finite slope is best; soften the targets")


def _loss(logit: NDArray[np.float64], target: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    return float((weight * (np.logaddexp(0, logit) - target * logit)).sum())


def logistic(logit: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-logit)) without overflow."""
    small = np.exp(-np.abs(logit))
    return np.where(logit >= 0, 1.0, small) / (1.0 + small)


def calibrated(decision: NDArray[np.float64], plain: Any) -> NDArray[np.float32]:
    """Scores (n,) in [0, 1] from decisions, with the `slope` and `intercept` of a state's plain data."""
    return logistic(plain["slope"] * decision + plain["intercept"]).astype(np.float32)


def best_threshold(scores: NDArray[np.float32], labels: NDArray[np.uint8]) -> float:
    """The threshold (score >= threshold means fake) with the best balanced accuracy.

    Candidates are the middles between neighboring distinct scores; of several equally good ones the widest gap wins,
    then the lower threshold. Where all scores are equal it is 0.5.
    """
    values, inverse = np.unique(scores.astype(np.float64), return_inverse=True)
    if len(values) == 1:
        return 0.5
    fakes = np.bincount(inverse[labels == 1], minlength=len(values))
    reals = np.bincount(inverse[labels == 0], minlength=len(values))
    above = fakes[::-1].cumsum()[::-1][1:] / fakes.sum()  # fakes at or above each candidate
    below = reals.cumsum()[:-1] / reals.sum()  # reals below it
    balanced = np.round((above + below) / 2, 12)
    gap = np.diff(values)
    best = np.lexsort((np.arange(len(gap)), -gap, -balanced))[0]
    return float((values[best] + values[best + 1]) / 2)
