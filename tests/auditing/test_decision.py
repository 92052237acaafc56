"""The decision rule against closed forms, slow loops and counting by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from stages.auditing import decision
from stages.auditing.columns import Classes, average_ranks, strata
from stages.auditing.decision import Column, compared, differs, is_equal, permutations

ONE = np.zeros(40, np.int64)


def labels(real: int, fake: int) -> np.ndarray:
    return np.repeat(np.array([0, 1], np.uint8), [real, fake])


def column(values: np.ndarray, marks: np.ndarray, kind: str = "share", own: np.ndarray | None = None) -> Column:
    own = np.zeros(len(values), np.int64) if own is None else own
    return Classes(marks).column("codec", "png", kind, values, own, "C")


def test_every_labeling_of_small_classes_is_drawn_about_as_often() -> None:
    marks = labels(3, 2)
    drawn = np.concatenate(list(permutations(marks, np.arange(5), 0)))
    assert len(drawn) == decision.PERMUTATIONS
    assert (drawn.sum(1) == 2).all()
    counts = dict.fromkeys(itertools.combinations(range(5), 2), 0)
    for row in drawn:
        counts[tuple(np.flatnonzero(row))] += 1
    expected = len(drawn) / 10
    assert all(abs(count - expected) < 5 * np.sqrt(expected) for count in counts.values())


def test_whole_groups_move_and_one_of_them_is_cut_at_the_seam() -> None:
    marks, groups = labels(6, 4), np.array([0, 0, 0, 1, 1, 1, 2, 2, 3, 3])
    for row in np.concatenate(list(permutations(marks, groups, 1)))[:500]:
        assert row.sum() == 4
        cut = [group for group in range(4) if 0 < row[groups == group].sum() < (groups == group).sum()]
        assert len(cut) <= 1


def test_labels_of_a_group_of_both_classes_stay_in_it() -> None:
    marks, groups = np.array([0, 0, 1, 0, 1, 1], np.uint8), np.array([0, 0, 0, 1, 1, 1])
    drawn = np.concatenate(list(permutations(marks, groups, 2)))
    assert (drawn[:, :3].sum(1) == 1).all()
    assert (drawn[:, 3:].sum(1) == 2).all()
    assert len({tuple(row) for row in drawn.tolist()}) == 9


def test_the_p_of_one_column_is_the_share_of_labelings_that_are_as_extreme() -> None:
    marks, values = labels(5, 5), np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1.0])
    (test,) = compared([column(values, marks)], marks, np.arange(10))
    observed = values[5:].mean() - values[:5].mean()
    all_effects = [
        np.delete(values, chosen).mean() - values[list(chosen)].mean()
        for chosen in itertools.combinations(range(10), 5)
    ]
    exact = np.mean([abs(effect) >= observed - 1e-9 for effect in all_effects])
    assert test.effect == pytest.approx(observed)
    assert test.deviation == pytest.approx(np.std(all_effects), rel=0.03)
    assert test.p == pytest.approx(exact, abs=4 * np.sqrt(exact / decision.PERMUTATIONS))


def test_corrected_p_values_are_those_of_a_slow_step_down() -> None:
    random = np.random.default_rng(3)
    sizes, size = np.abs(random.normal(size=(300, 6))), np.array([2.5, 0.3, 1.9, 1.9, 3.5, 0.1])
    expected = np.empty(6)
    before = 0.0
    left = list(np.argsort(-size, kind="stable"))
    while left:
        worst = left[0]
        exceeding = sum(max(row[place] for place in left) >= size[worst] for row in sizes)
        before = max(before, (1 + exceeding) / 301)
        expected[worst] = before
        left.pop(0)
    found = decision._step_down(size, sizes)
    assert found == pytest.approx(expected)


def test_the_effect_of_ranks_is_the_area_under_the_curve() -> None:
    random = np.random.default_rng(4)
    values, marks = random.integers(0, 9, 60).astype(float), labels(40, 20)
    made = column(average_ranks(values), marks, "rank")
    (test,) = compared([made], marks, np.arange(60))
    wins = [(fake > real) + (fake == real) / 2 for fake in values[40:] for real in values[:40]]
    assert test.effect == pytest.approx(np.mean(wins) - 0.5, abs=1e-6)


def test_strata_do_not_let_a_difference_of_their_shares_through() -> None:
    """Within JPEG rows and within PNG rows the classes are alike, though one class has many more JPEG rows."""
    marks = labels(60, 60)
    codec = np.array(["jpeg"] * 50 + ["png"] * 10 + ["jpeg"] * 10 + ["png"] * 50)
    values = (codec == "jpeg").astype(float)  # a fact that follows from the codec
    (apart,) = compared([column(values, marks, own=strata(list(codec)))], marks, np.arange(120))
    (together,) = compared([column(values, marks)], marks, np.arange(120))
    assert apart.effect == 0
    assert together.effect == pytest.approx(-40 / 60)


def test_a_difference_needs_proof_and_size() -> None:
    made = column(np.zeros(40), labels(20, 20))
    assert differs(made, decision.Outcome(0.05, 0.01, 5.0, 0.001))
    assert not differs(made, decision.Outcome(0.05, 0.01, 5.0, 0.0012))
    assert not differs(made, decision.Outcome(0.019, 0.001, 19.0, 0.0002))


@pytest.mark.parametrize(("rows", "equal"), [(59, False), (60, True)])
def test_a_fact_that_no_row_has_is_equal_from_sixty_rows_on(rows: int, equal: bool) -> None:
    """Rule of three: none among n is at most 3 / n."""
    marks = labels(rows, rows)
    made = column(np.zeros(2 * rows), marks)
    (test,) = compared([made], marks, np.arange(2 * rows))
    assert is_equal(made, test, rows) is equal


def test_equality_needs_the_whole_interval_within_the_bound() -> None:
    share, rank = (column(np.zeros(40), labels(20, 20), kind) for kind in ("share", "rank"))
    assert is_equal(share, decision.Outcome(0.02, 0.018, 1.1, 1.0), 10_000)
    assert not is_equal(share, decision.Outcome(0.02, 0.019, 1.0, 1.0), 10_000)
    assert is_equal(rank, decision.Outcome(0.05, 0.03, 1.7, 1.0), 10_000)
    assert not is_equal(share, decision.Outcome(0.0, 0.001, 0.0, 1.0), 20)  # twenty rows: 15 % may be unseen


def test_groups_that_go_to_one_class_whole_are_no_difference() -> None:
    """Twelve groups with habits of their own: rows taken for independent would differ beyond doubt."""
    random = np.random.default_rng(5)
    groups = np.repeat(np.arange(12), 30)
    values = np.repeat(random.random(12), 30) + random.normal(0, 0.01, 360)
    values[:180] += 0.1
    marks = labels(180, 180)
    made = column(average_ranks(values), marks, "rank")
    (by_group,), (by_row,) = (compared([made], marks, units) for units in (groups, np.arange(360)))
    assert by_row.p < 0.01 < by_group.p
