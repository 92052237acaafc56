"""Metrics against scikit-learn, closed forms and slow loops; all are over items, whatever their order."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from stages.evaluation import metrics


def sample(
    seed: int, count: int = 150, shift: float = 0.8, digits: int = 1
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Scores with many ties."""
    random = np.random.default_rng(seed)
    labels = (np.arange(count) % 3 == 0).astype(np.uint8)
    return np.round(random.normal(size=count) + shift * labels, digits).astype(np.float32), labels


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shift", [-0.5, 0.0, 0.8, 9.0])
def test_areas_equal_those_of_scikit_learn(seed: int, shift: float) -> None:
    scores, labels = sample(seed, shift=shift)
    assert metrics.roc_auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    expected = average_precision_score(labels, scores)
    assert metrics.average_precision(scores, labels) == pytest.approx(expected, abs=1e-12)


def test_roc_points_equal_those_of_scikit_learn() -> None:
    scores, labels = sample(1)
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    found = metrics.roc_points(scores, labels)
    np.testing.assert_allclose(found[0], false)
    np.testing.assert_allclose(found[1], true)


def test_area_is_the_share_of_pairs_in_order() -> None:
    scores, labels = sample(2, count=40)
    fakes, reals = scores[labels == 1], scores[labels == 0]
    pairs = [1.0 if fake > real else 0.5 if fake == real else 0.0 for fake in fakes for real in reals]
    assert metrics.roc_auc(scores, labels) == pytest.approx(sum(pairs) / len(pairs))


def test_delong_variance_equals_a_slow_loop() -> None:
    scores, labels = sample(3, count=60)
    fakes, reals = scores[labels == 1], scores[labels == 0]
    psi = np.array([[1.0 if f > r else 0.5 if f == r else 0.0 for r in reals] for f in fakes])
    area = psi.mean()
    of_fakes = sum((row.mean() - area) ** 2 for row in psi) / (len(fakes) - 1)
    of_reals = sum((column.mean() - area) ** 2 for column in psi.T) / (len(reals) - 1)
    deviation = math.sqrt(of_fakes / len(fakes) + of_reals / len(reals))
    center, half = math.log(area / (1 - area)), 1.959964 * deviation / (area * (1 - area))
    low, high = metrics.roc_auc_interval(scores, labels)
    assert low == pytest.approx(1 / (1 + math.exp(half - center)), abs=1e-6)
    assert high == pytest.approx(1 / (1 + math.exp(-half - center)), abs=1e-6)


def test_wilson_interval_equals_published_values() -> None:
    # Newcombe 1998, table I, method 3 (score without continuity correction)
    for successes, trials, expected in ((81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0, 0.1611))):
        assert metrics.wilson(successes, trials) == pytest.approx(expected, abs=6e-5)
    assert metrics.wilson(29, 29) == pytest.approx((0.8830, 1.0), abs=6e-5)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Normal scores one deviation apart: the true area is Phi(1 / sqrt 2)."""
    truth = 0.5 * (1 + math.erf(0.5))
    random = np.random.default_rng(0)
    labels = np.repeat(np.array([0, 1], dtype=np.uint8), 60)
    hits = 0
    for _ in range(400):
        low, high = metrics.roc_auc_interval(random.normal(size=120) + labels, labels)
        hits += low <= truth <= high
    assert 0.92 <= hits / 400 <= 0.98


def test_perfect_separation_keeps_an_open_interval() -> None:
    labels = np.repeat(np.array([0, 1], dtype=np.uint8), [30, 20])
    for interval in (metrics.roc_auc_interval, metrics.average_precision_interval):
        assert interval(labels.astype(np.float64), labels) == pytest.approx((20 / (20 + 1.959964**2), 1.0), abs=1e-6)


def test_bootstrap_is_near_that_of_a_slow_loop() -> None:
    scores, labels = sample(4, count=120)
    random = np.random.default_rng(1)
    parts = [np.flatnonzero(labels == label) for label in (0, 1)]
    drawn = []
    for _ in range(600):
        rows = np.concatenate([random.choice(part, len(part)) for part in parts])
        drawn.append(average_precision_score(labels[rows], scores[rows]))
    low, high = metrics.average_precision_interval(scores, labels)
    assert low == pytest.approx(np.quantile(drawn, 0.025), abs=0.03)
    assert high == pytest.approx(np.quantile(drawn, 0.975), abs=0.03)


def test_nothing_depends_on_the_order_of_rows() -> None:
    scores, labels = sample(5)
    order = np.random.default_rng(2).permutation(len(scores))
    assert metrics.summary(scores, labels, 0.4) == metrics.summary(scores[order], labels[order], 0.4)


def test_rates_are_counted_at_both_thresholds() -> None:
    scores = np.array([0.1, 0.6, 0.3, 0.5, 0.9, 0.9])
    labels = np.array([0, 0, 0, 1, 1, 1], dtype=np.uint8)
    found = metrics.summary(scores, labels, 0.7)
    assert (found["tpr"], found["tnr"], found["accuracy"]) == pytest.approx((2 / 3, 1.0, 5 / 6))
    assert found["accuracy_at_half"] == pytest.approx(5 / 6)  # 0.5 itself means fake; 0.6 is a real called fake
    assert (found["n_real"], found["n_fake"]) == (3, 3)
    assert found["tpr_interval"] == list(metrics.wilson(2, 3))


def test_one_class_alone_has_no_metrics() -> None:
    with pytest.raises(ValueError, match="need both classes; found 3 fakes and 0 reals"):
        metrics.summary(np.zeros(3), np.ones(3, dtype=np.uint8), 0.5)


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="1 of 2 scores are not finite"):
        metrics.summary(np.array([0.0, np.nan]), np.array([0, 1], dtype=np.uint8), 0.5)
