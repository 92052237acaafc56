"""What changes do to scores: intervals by group against the formula, verdicts, flips, what a band decides."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t

from stages.evaluation.score_shifts import decided, lines, mean_interval, shifts, summary, verdict


def test_an_interval_is_that_of_the_groups() -> None:
    values = np.array([0.1, 0.3, -0.2, 0.4, 0.05, 0.05])
    groups = np.array(["a", "a", "b", "c", "c", "c"])
    mean = values.sum() / 6
    residuals = [(0.1 - mean) + (0.3 - mean), -0.2 - mean, (0.4 - mean) + 2 * (0.05 - mean)]
    error = math.sqrt(3 / 2 * sum(one**2 for one in residuals)) / 6
    half = t.ppf(0.975, 2) * error
    assert mean_interval(values, groups) == pytest.approx((mean, max(mean - half, -1), min(mean + half, 1)), rel=1e-12)
    alone = mean_interval(values, np.arange(6))
    plain = t.ppf(0.975, 5) * values.std(ddof=1) / math.sqrt(6)
    assert alone == pytest.approx((mean, mean - plain, mean + plain), rel=1e-12)
    assert mean_interval(values, np.zeros(6)) == (pytest.approx(mean), -1, 1)
    assert mean_interval(np.zeros(4), np.arange(4)) == (0, 0, 0)
    odds = 30 * values  # no changes of a probability: they lie between other limits
    wide = mean_interval(odds, np.arange(6), (-27.6, 27.6))
    assert wide == pytest.approx((30 * mean, 30 * (mean - plain), 30 * (mean + plain)), rel=1e-12)
    assert mean_interval(odds, np.zeros(6), (-27.6, 27.6)) == (pytest.approx(30 * mean), -27.6, 27.6)


@pytest.mark.parametrize(
    ("real", "fake", "found"),
    [
        ((-0.05, 0.05), (0.0, 0.01), "invariant"),
        ((0.051, 0.3), (0.06, 0.4), "towards fake"),
        ((-0.3, -0.06), (-0.9, -0.051), "towards real"),
        ((0.06, 0.2), (-0.2, -0.06), "fragile"),
        ((0.06, 0.2), (-0.01, 0.01), "fragile"),
        ((0.06, 0.2), (-0.5, 0.5), "fragile"),
        ((0.04, 0.2), (0.06, 0.2), "fragile"),
        ((-0.01, 0.2), (-0.01, 0.01), "cannot tell"),
        ((-1.0, 1.0), (-1.0, 1.0), "cannot tell"),
    ],
)
def test_verdicts(real: tuple[float, float], fake: tuple[float, float], found: str) -> None:
    assert verdict(real, fake) == found


def test_shifts_are_told_by_class() -> None:
    scores = np.array([[0.1, 0.6], [0.2, 0.7], [0.8, 0.8], [0.9, 0.4]])
    labels, groups = np.array([0, 0, 1, 1], np.uint8), np.arange(4)
    (found,) = shifts(scores, ["jpeg"], labels, groups, 0.5)
    assert found["real"]["mean"] == pytest.approx(0.5)
    assert found["real"]["interval"] == pytest.approx([0.5, 0.5])
    assert (found["real"]["flips"], found["fake"]["flips"]) == (1.0, 0.5)
    assert found["fake"]["mean"] == pytest.approx(-0.25)
    assert found["verdict"] == "fragile"


def test_a_band_decides_where_it_does_not_cross() -> None:
    scores = np.array([[0.1, 0.2], [0.4, 0.6], [0.9, 0.5], [0.3, 0.1]])
    labels = np.array([0, 0, 1, 1], np.uint8)
    assert decided(scores, labels, 0.5) == {"decided": 0.75, "accuracy": 0.75, "accuracy_decided": pytest.approx(2 / 3)}
    assert decided(scores[1:2], labels[1:2], 0.5)["accuracy_decided"] is None


def test_both_classes_are_needed_and_lines_tell_all() -> None:
    scores, groups = np.array([[0.1, 0.2, 0.9], [0.9, 0.8, 0.8]]), np.arange(2)
    with pytest.raises(ValueError, match="both classes are needed, found 2 reals and 0 fakes"):
        summary(scores, ["a", "b"], ["b"], np.zeros(2, np.uint8), groups, 0.5)
    found = summary(scores, ["a", "b"], ["a"], np.array([0, 1], np.uint8), groups, 0.5)
    assert found["band"] == {"decided": 1.0, "accuracy": 1.0, "accuracy_decided": 1.0}
    first, second, band = lines(found)
    assert first.startswith("a          cannot tell   reals +0.100 [-1.000, +1.000], 0% flip; fakes -0.100")
    assert "reals +0.800" in second
    assert band == "the band decides 100% of the images, of which 100% are right; of all 100% are right"
