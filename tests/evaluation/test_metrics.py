"""Metrics against scikit-learn, closed forms and slow loops; all are over items, whatever their order."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    recall_score,
    roc_auc_score,
    roc_curve,
)

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
    found = metrics.all_areas(scores, labels)
    assert found["auc"] == metrics.roc_auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert found["ap"] == metrics.average_precision(scores, labels)
    assert found["ap"] == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    assert found["ap_real"] == pytest.approx(average_precision_score(1 - labels, -scores), abs=1e-12)


@pytest.mark.parametrize("threshold", [0.5, 0.1, 7.0])
def test_rates_equal_those_of_scikit_learn(threshold: float) -> None:
    scores, labels = sample(3)
    called = (scores >= np.float64(threshold)).astype(np.uint8)
    found = metrics.rates(scores, labels, threshold)
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, called))
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, called))
    assert found["tpr"] == pytest.approx(recall_score(labels, called))
    assert found["tnr"] == pytest.approx(recall_score(labels, called, pos_label=0))


@pytest.mark.parametrize("label", [0, 1])
def test_without_a_class_a_value_is_that_of_scikit_learn_or_nan_where_it_warns(label: int) -> None:
    scores = sample(1)[0]
    labels = np.full(len(scores), label, dtype=np.uint8)
    found = metrics.all_areas(scores, labels) | metrics.rates(scores, labels, 0.5)
    called = (scores >= 0.5).astype(np.uint8)
    theirs = {
        "auc": lambda: roc_auc_score(labels, scores),
        "ap": lambda: average_precision_score(labels, scores),
        "ap_real": lambda: average_precision_score(1 - labels, -scores),
        "tpr": lambda: recall_score(labels, called),
        "tnr": lambda: recall_score(labels, called, pos_label=0),
        "balanced_accuracy": lambda: balanced_accuracy_score(labels, called),
        "accuracy": lambda: accuracy_score(labels, called),
    }
    for name, value in theirs.items():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                assert found[name] == pytest.approx(value()), name
            except (UndefinedMetricWarning, UserWarning):
                assert math.isnan(found[name]), name
    assert sum(map(math.isnan, found.values())) == 4


def test_no_rows_give_no_numbers() -> None:
    nothing = np.zeros(0), np.zeros(0, np.uint8)
    assert all(map(math.isnan, (metrics.all_areas(*nothing) | metrics.rates(*nothing, 0.5)).values()))


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


def test_weights_count_as_rows_that_stand_several_times() -> None:
    scores, labels = sample(5, count=60)
    weights = np.random.default_rng(0).integers(1, 4, len(scores))
    order = np.argsort(scores, kind="stable")
    first = metrics.rungs(scores[order].astype(np.float64))
    ladders = [np.add.reduceat(np.where(labels == label, weights, 0)[order], first)[:, None] for label in (1, 0)]
    found = metrics.areas(*(ladder.astype(np.float64) for ladder in ladders))
    expected = metrics.all_areas(scores.repeat(weights), labels.repeat(weights))
    assert {name: value[0] for name, value in found._asdict().items()} == pytest.approx(expected)


def test_wilson_interval_equals_published_values() -> None:
    # Newcombe 1998, table I, method 3 (score without continuity correction)
    for successes, trials, expected in ((81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0, 0.1611))):
        assert metrics.wilson(successes, trials) == pytest.approx(expected, abs=6e-5)
    assert metrics.wilson(29, 29) == pytest.approx((0.8830, 1.0), abs=6e-5)


@pytest.mark.parametrize(
    ("scores", "labels", "sentence"),
    [
        ([0.1, np.nan], [0, 1], "1 of 2 scores are not finite"),
        ([np.inf, 0.2], [0, 1], "1 of 2 scores are not finite"),
        ([0.1, 0.2], [0], r"found \(2,\) scores for \(1,\) labels; expected one label for each score"),
    ],
)
def test_what_cannot_be_measured_is_refused(scores: list[float], labels: list[int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        metrics.roc_auc(np.array(scores), np.array(labels, dtype=np.uint8))
