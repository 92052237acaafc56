"""Scores to probabilities, and the threshold: closed forms and exhaustive search."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.calibration import best_threshold, platt
from detectors.calibration import logistic as curve


def test_platt_finds_the_curve_that_made_the_labels() -> None:
    decision = np.linspace(-4, 4, 20001)
    random = np.random.default_rng(0)
    labels = (random.random(len(decision)) < curve(1.7 * decision)).astype(np.uint8)
    slope, intercept = platt(decision, labels)
    assert slope == pytest.approx(1.7, rel=0.05)
    assert intercept == pytest.approx(0, abs=0.08)


def test_platt_gives_both_classes_equal_weight() -> None:
    """Two decision values and two parameters: the curve goes through the weighted means of Platt's softened targets."""
    reals, fakes = {-1.0: 300, 1.0: 100}, {-1.0: 2, 1.0: 8}
    decision = np.repeat([-1.0, 1.0, -1.0, 1.0], [*reals.values(), *fakes.values()])
    labels = np.repeat(np.array([0, 1], dtype=np.uint8), [400, 10])
    slope, intercept = platt(decision, labels)
    for value in (-1.0, 1.0):
        weights = reals[value] / 400, fakes[value] / 10
        expected = (weights[0] * 1 / 402 + weights[1] * 11 / 12) / sum(weights)
        assert curve(np.array([slope * value + intercept]))[0] == pytest.approx(expected, abs=1e-8)


def test_platt_never_turns_a_detector_around() -> None:
    decision = np.linspace(-1, 1, 50)
    slope, _ = platt(decision, (decision < 0).astype(np.uint8))
    assert slope > 0


def test_the_threshold_is_the_middle_of_the_widest_best_gap() -> None:
    scores = np.array([0.1, 0.2, 0.3, 0.7, 0.8], dtype=np.float32)
    assert best_threshold(scores, np.array([0, 0, 0, 1, 1], dtype=np.uint8)) == pytest.approx(0.5)
    tied = np.array([0.1, 0.2, 0.3, 0.9], dtype=np.float32)  # 0.15 and 0.6 are equally good
    assert best_threshold(tied, np.array([0, 1, 0, 1], dtype=np.uint8)) == pytest.approx(0.6)
    assert best_threshold(np.full(4, 0.3, np.float32), np.array([0, 1, 0, 1], dtype=np.uint8)) == 0.5


def test_no_other_threshold_is_better() -> None:
    random = np.random.default_rng(3)
    labels = (random.random(200) < 0.3).astype(np.uint8)
    scores = np.round(random.random(200) * 0.7 + 0.3 * labels, 2).astype(np.float32)

    def balanced(threshold: float) -> float:
        return float(((scores[labels == 1] >= threshold).mean() + (scores[labels == 0] < threshold).mean()) / 2)

    best = max(balanced(value) for value in np.arange(0, 1.01, 0.005))
    assert balanced(best_threshold(scores, labels)) == pytest.approx(best)
