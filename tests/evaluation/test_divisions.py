"""Random divisions: no group stands in two parts, rows are tested equally often, and intervals are in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stages.evaluation.divisions import described, divided, quotas


def groups_of(numbers: list[int]) -> np.ndarray:
    return np.array([b"%016d" % number for number in numbers], "V16")


def test_shares_of_a_division_are_rounded_and_the_rest_is_learned() -> None:
    assert quotas(1000, {"val": 0.2, "test": 0.2}) == {"test": 100, "val": 100, "train": 300}
    assert quotas(20, {"val": 0.0, "test": 0.2}) == {"test": 2, "val": 0, "train": 8}
    assert quotas(14, {"val": 0.2, "test": 0.2}) == {"test": 1, "val": 1, "train": 5}
    with pytest.raises(ValueError, match="of 8 rows, 4 of each class, 0 of each are for test, expected 1 or more"):
        quotas(8, {"val": 0.2, "test": 0.1})
    with pytest.raises(ValueError, match="0 of each are for train, expected 2 or more"):
        quotas(8, {"val": 0.5, "test": 0.5})


def test_no_group_stands_in_two_parts_and_each_part_is_full() -> None:
    labels = np.array([0, 1, 1] * 40, np.uint8)  # a photograph and two fakes of it
    groups = groups_of([row // 3 // 2 for row in range(120)])  # two such triples together
    wanted = {"test": 5, "val": 4, "train": 12}
    for number in range(20):
        parts = divided(labels, groups, wanted, np.random.default_rng(number))
        for name, rows in parts.items():
            assert np.bincount(labels[rows], minlength=2).tolist() == [wanted[name]] * 2
            assert len(set(rows.tolist())) == len(rows)
        of_part = {name: {bytes(group) for group in groups[rows]} for name, rows in parts.items()}
        assert not of_part["test"] & of_part["val"]
        assert not of_part["train"] & (of_part["test"] | of_part["val"])


def test_every_row_is_tested_equally_often() -> None:
    """Twelve of each class, 3 of them tested: each row in a quarter of the divisions, with a binomial's deviation."""
    labels = np.repeat(np.array([0, 1], np.uint8), 12)
    often = np.zeros((3, 24))
    for number in range(500):
        parts = divided(labels, groups_of(list(range(24))), {"test": 3, "val": 0, "train": 6},
                        np.random.default_rng(number))  # fmt: skip
        for place, rows in enumerate(parts.values()):
            often[place, rows] += 1
    for counts, share in zip(often, (3 / 12, 0.0, 6 / 12), strict=True):
        assert abs(counts - 500 * share).max() <= 4.5 * math.sqrt(500 * share * (1 - share))


def test_of_a_group_that_is_too_large_rows_are_left_out_at_random() -> None:
    """Two videos of ten frames in each class: two frames of one of them are learned, each in a tenth of the draws."""
    labels = np.repeat(np.array([0, 1, 0, 1], np.uint8), 10)
    groups = groups_of([row // 10 for row in range(40)])
    often = np.zeros(40)
    for number in range(200):
        parts = divided(labels, groups, {"test": 1, "val": 0, "train": 2}, np.random.default_rng(number))
        often[parts["train"]] += 1
    expected, share = 200 * 2 / 20, 2 / 20
    assert abs(often - expected).max() <= 4.5 * math.sqrt(200 * share * (1 - share))


def test_groups_that_do_not_suffice_are_an_error() -> None:
    labels = np.tile(np.array([0, 1], np.uint8), 10)
    with pytest.raises(ValueError, match=r"1 groups do not give 4 rows of each class .* 4 are lacking; lower rows"):
        divided(labels, groups_of([0] * 20), {"test": 2, "val": 0, "train": 2}, np.random.default_rng(0))


def test_the_interval_of_a_mean_knows_that_divisions_share_rows() -> None:
    """Four values of mean 0.8 and variance 0.02 / 3, a quarter tested: by hand; Student's quantile is 3.182446."""
    found = described([0.7, 0.9, 0.8, 0.8], tested=20, learned=80, distinct=50)
    variance = (0.01 + 0.01) / 3
    half = 3.182446305 * math.sqrt((1 / 4 + 1 / 4) * variance)
    assert found["mean"] == pytest.approx(0.8)
    assert found["deviation"] == pytest.approx(math.sqrt(variance))
    assert found["interval"] == pytest.approx([0.8 - half, 0.8 + half], abs=1e-9)
    assert found["middle"] == pytest.approx([0.7 + 0.075 * 0.1, 0.9 - 0.075 * 0.1])
    wide = described([0.2, 1.0, 1.0, 1.0], tested=20, learned=80, distinct=50)
    assert wide["interval"][1] == 1.0  # type: ignore[index]


def test_without_a_spread_the_interval_is_that_of_the_rows_that_were_tested() -> None:
    """Wilson's lower end of 40 of 40 is 40 / (40 + 1.959964^2)."""
    found = described([1.0] * 5, tested=8, learned=30, distinct=40)
    assert found["interval"] == pytest.approx([40 / (40 + 1.959963985**2), 1.0])
    assert described([0.9], tested=10, learned=30, distinct=10)["deviation"] == 0.0
