"""From decision values to scores in [0, 1], and the threshold: both chosen on validation rows only.

A detector's raw decision has no scale, so "accuracy at 0.5" would mean nothing (the commonest complaint about released
detectors is a threshold that does not fit). Platt (1999) fits a logistic curve to validation decisions; the numerically
stable Newton iteration is that of Lin, Lin and Weng (Machine Learning 68, 2007), with Platt's softened targets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def platt(decision: NDArray[np.float64], labels: NDArray[np.uint8], iterations: int = 100) -> tuple[float, float]:
    """Slope and intercept of the logistic curve through validation decisions (n,), both classes with equal weight.

    Equal weight means that 0.5 is the balanced decision whatever the class counts. The slope is never negative: where
    validation would turn the detector around, its order is kept and the standardized decision goes through the plain
    logistic function.
    """
    fake = labels == 1
    fakes, reals = int(fake.sum()), int((~fake).sum())
    target = np.where(fake, (fakes + 1) / (fakes + 2), 1 / (reals + 2))
    weight = np.where(fake, 0.5 / fakes, 0.5 / reals)
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
