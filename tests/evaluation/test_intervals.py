"""Intervals by groups against slow loops and DeLong's formula; the comparison of two detectors."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from correlated_scores import correlated
from numpy.typing import NDArray

from stages.evaluation import intervals
from stages.evaluation.metrics import all_areas, rates, wilson


def alone(count: int) -> NDArray[np.int64]:
    """Each row a group of its own."""
    return np.arange(count)


def sample(seed: int, count: int = 240) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    random = np.random.default_rng(seed)
    labels = (np.arange(count) % 3 == 0).astype(np.uint8)
    return np.round(random.normal(size=count) + 0.8 * labels, 1), labels


def width(interval: list[float]) -> float:
    return interval[1] - interval[0]


def test_a_summary_has_all_values_and_what_chance_would_give() -> None:
    scores, labels = sample(1)
    found = intervals.summary(scores, labels, alone(240), 0.3)
    expected = all_areas(scores, labels) | rates(scores, labels, 0.3)
    expected |= {f"{name}_at_half": value for name, value in rates(scores, labels, 0.5).items()}
    assert {name: found[name] for name in expected} == expected
    assert (found["n_real"], found["n_fake"], found["threshold"]) == (160, 80, 0.3)
    assert (found["ap_chance"], found["ap_real_chance"]) == (80 / 240, 160 / 240)
    assert set(intervals.METRICS) == set(expected)
    for name in expected:
        assert found[f"{name}_interval"][0] <= found[name] <= found[f"{name}_interval"][1], name


def test_with_a_group_for_each_row_the_interval_is_that_of_delong() -> None:
    scores, labels = sample(3, count=600)
    fakes, reals = scores[labels == 1], scores[labels == 0]
    psi = np.array([[1.0 if f > r else 0.5 if f == r else 0.0 for r in reals] for f in fakes])
    area = psi.mean()
    of_fakes = sum((row.mean() - area) ** 2 for row in psi) / (len(fakes) - 1)
    of_reals = sum((column.mean() - area) ** 2 for column in psi.T) / (len(reals) - 1)
    deviation = math.sqrt(of_fakes / len(fakes) + of_reals / len(reals))
    center, half = math.log(area / (1 - area)), 1.959964 * deviation / (area * (1 - area))
    found = intervals.summary(scores, labels, alone(600), 0.3)["auc_interval"]
    assert found[0] == pytest.approx(1 / (1 + math.exp(half - center)), abs=3e-3)
    assert found[1] == pytest.approx(1 / (1 + math.exp(-half - center)), abs=3e-3)


def test_whole_groups_are_resampled_as_in_a_slow_loop() -> None:
    scores, labels, groups = correlated(np.random.default_rng(2), 40, 0.8)
    random = np.random.default_rng(1)
    classes = [np.unique(groups[labels == label]) for label in (0, 1)]
    rows = {group: np.flatnonzero(groups == group) for group in np.unique(groups)}
    drawn: dict[str, list[float]] = {name: [] for name in ("ap", "auc", "balanced_accuracy")}
    for _ in range(500):
        chosen = np.concatenate([rows[group] for part in classes for group in random.choice(part, len(part))])
        values = all_areas(scores[chosen], labels[chosen]) | rates(scores[chosen], labels[chosen], 0.4)
        for name, found in drawn.items():
            found.append(values[name])
    summary = intervals.summary(scores, labels, groups, 0.4)
    for name, found in drawn.items():
        assert summary[f"{name}_interval"] == pytest.approx(np.quantile(found, [0.025, 0.975]), abs=0.02), name


def test_four_draws_of_one_photograph_do_not_count_as_four() -> None:
    scores, labels = sample(4)
    one = intervals.summary(scores, labels, alone(240), 0.3)
    four = intervals.summary(scores.repeat(4), labels.repeat(4), alone(240).repeat(4), 0.3)
    for name in intervals.METRICS:
        assert four[name] == pytest.approx(one[name])
        assert width(four[f"{name}_interval"]) == pytest.approx(width(one[f"{name}_interval"]), rel=1e-4), name
    blind = intervals.summary(scores.repeat(4), labels.repeat(4), alone(960), 0.3)
    assert width(blind["auc_interval"]) == pytest.approx(width(one["auc_interval"]) / 2, rel=0.1)


def test_more_groups_and_scores_than_fit_are_put_together_without_narrowing_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scores, labels, groups = correlated(np.random.default_rng(3), 400, 0.8)
    whole = intervals.summary(scores, labels, groups, 0.4)
    monkeypatch.setattr(intervals, "MOST_BLOCKS", 128)
    monkeypatch.setattr(intervals, "MOST_RUNGS", 64)
    pooled = intervals.summary(scores, labels, groups, 0.4)
    for name in intervals.METRICS:
        assert pooled[name] == whole[name]
        assert width(pooled[f"{name}_interval"]) == pytest.approx(width(whole[f"{name}_interval"]), rel=0.25), name


def test_a_group_of_both_classes_is_drawn_as_one() -> None:
    """A fake scores as its photograph does: their difference is sure, however little the level is."""
    random = np.random.default_rng(5)
    level = random.normal(size=80)
    scores, labels = np.concatenate([level, level + 0.3]), np.repeat(np.array([0, 1], dtype=np.uint8), 80)
    together = intervals.summary(scores, labels, np.tile(alone(80), 2), 0.3)
    apart = intervals.summary(scores, labels, alone(160), 0.3)
    assert width(together["auc_interval"]) < 0.5 * width(apart["auc_interval"])


def test_few_groups_are_said_so() -> None:
    scores, labels = sample(6)
    sizes = np.minimum(np.arange(240) // 3 % 25, 19)  # one group of 6 in 20
    found = intervals.summary(scores, labels, sizes, 0.3)
    counts = np.bincount(sizes[labels == 1])
    assert found["effective_groups"] == pytest.approx(counts.sum() ** 2 / (counts**2).sum())
    assert found["few_groups"] is (found["effective_groups"] < 20) is True
    assert intervals.summary(scores, labels, alone(240), 0.3)["few_groups"] is False
    single = intervals.summary(scores, labels, labels, 0.3)
    assert single["auc_interval"] == [0.0, 1.0]


def test_perfect_separation_keeps_an_open_interval() -> None:
    labels = np.repeat(np.array([0, 1], dtype=np.uint8), [30, 20])
    found = intervals.summary(labels.astype(np.float64), labels, alone(50), 0.5)
    for name in ("auc", "ap", "ap_real", "accuracy", "tpr"):
        assert found[f"{name}_interval"] == pytest.approx([20 / (20 + 1.959964**2), 1.0], abs=1e-6)
    assert found["tnr_interval"] == pytest.approx([30 / (30 + 1.959964**2), 1.0], abs=1e-6)


def test_a_missing_class_is_nan_and_breaks_nothing() -> None:
    scores = sample(7)[0]
    found = intervals.summary(scores, np.ones(240, np.uint8), alone(240), 0.3)
    missing = {name for name in intervals.METRICS if math.isnan(found[name])}
    assert missing == {"auc", "ap_real", "tnr", "tnr_at_half", "balanced_accuracy", "balanced_accuracy_at_half"}
    assert all(map(math.isnan, found["auc_interval"]))
    assert found["tpr_interval"][0] < found["tpr"] < found["tpr_interval"][1]
    assert (found["ap"], found["ap_chance"]) == (1.0, 1.0)


def test_nothing_depends_on_the_order_of_rows() -> None:
    scores, labels, groups = correlated(np.random.default_rng(8), 20, 0.8)
    order = np.random.default_rng(0).permutation(len(scores))
    one = intervals.summary(scores, labels, groups, 0.3)
    assert intervals.summary(scores[order], labels[order], groups[order], 0.3) == one


def test_a_constant_answer_is_chance_however_unequal_the_classes() -> None:
    labels = np.repeat(np.array([0, 1], dtype=np.uint8), [80, 550])
    found = intervals.summary(np.ones(630), labels, alone(630), 0.5)
    assert (found["accuracy"], found["balanced_accuracy"]) == (pytest.approx(0.873, abs=5e-4), 0.5)
    assert (found["auc"], found["ap"], found["ap_real"]) == (0.5, found["ap_chance"], found["ap_real_chance"])


def test_two_detectors_are_compared_on_the_same_draws() -> None:
    """The second is the first with a little noise: their areas are near each other, their errors are shared."""
    scores, labels, groups = correlated(np.random.default_rng(9), 60, 1.0)
    noisy = scores + np.random.default_rng(1).normal(0, 0.3, len(scores))
    found = intervals.difference(scores, noisy, labels, groups)
    apart, interval = found["auc"]
    one, two = (intervals.summary(one, labels, groups, 0.5) for one in (scores, noisy))
    assert apart == pytest.approx(one["auc"] - two["auc"])
    assert interval[0] < apart < interval[1]
    assert interval[1] - interval[0] < 0.6 * width(one["auc_interval"])
    against = intervals.difference(noisy, scores, labels, groups)["auc"]
    assert against[0] == -apart
    assert against[1] == pytest.approx((-interval[1], -interval[0]))


def test_the_interval_of_a_difference_equals_that_of_a_slow_loop() -> None:
    scores, labels, groups = correlated(np.random.default_rng(10), 40, 1.0)
    noisy = scores + np.random.default_rng(1).normal(0, 1.0, len(scores))
    random = np.random.default_rng(1)
    classes = [np.unique(groups[labels == label]) for label in (0, 1)]
    rows = {group: np.flatnonzero(groups == group) for group in np.unique(groups)}
    drawn = []
    for _ in range(500):
        chosen = np.concatenate([rows[group] for part in classes for group in random.choice(part, len(part))])
        one, two = (all_areas(each[chosen], labels[chosen])["auc"] for each in (scores, noisy))
        drawn.append(one - two)
    interval = intervals.difference(scores, noisy, labels, groups)["auc"][1]
    assert interval == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.015)


@pytest.mark.parametrize("rows", [6, 20, 200])
def test_two_perfect_detectors_are_not_said_to_be_equal(rows: int) -> None:
    """Nor where they order the rows of a class otherwise, so that resamples are rounded otherwise."""
    labels = np.repeat(np.array([0, 1], dtype=np.uint8), rows)
    random = np.random.default_rng(0)
    one, two = (random.uniform(0, 0.4, 2 * rows) + 0.6 * labels for _ in range(2))
    found = intervals.difference(one, two, labels, alone(2 * rows))
    for name in intervals.METRICS:
        apart, (low, high) = found[name]
        assert apart == 0
        assert low == pytest.approx(-high)
        assert high == pytest.approx(1 - rows / (rows + 1.959964**2))


def test_a_constant_answer_is_as_open_as_a_coin() -> None:
    labels = np.repeat(np.array([0, 1], dtype=np.uint8), 50)
    found = intervals.summary(np.full(100, 0.2), labels, alone(100), 0.5)
    low, high = wilson(25, 50)
    for name in ("auc", "ap", "ap_real", "accuracy", "balanced_accuracy"):
        assert found[name] == 0.5
        assert found[f"{name}_interval"] == pytest.approx([low, high])


def test_the_accuracy_at_a_published_threshold_knows_groups_too() -> None:
    scores, labels = sample(3)
    groups = np.arange(240) // 6
    found = intervals.summary(scores, labels, groups, 0.1, published=0.3)
    assert found["accuracy_published"] == ((scores >= 0.3) == (labels == 1)).mean()
    same = intervals.summary(scores, labels, groups, 0.3)
    assert found["accuracy_published_interval"] == same["accuracy_interval"] != found["accuracy_interval"]
    assert "accuracy_published" not in same


def test_a_hundred_thousand_scores_take_no_time() -> None:
    labels = (np.arange(100_000) % 2).astype(np.uint8)
    scores = np.random.default_rng(0).normal(size=100_000) + labels
    started = time.process_time()
    intervals.summary(scores, labels, alone(100_000), 0.5)
    assert time.process_time() - started < 2
