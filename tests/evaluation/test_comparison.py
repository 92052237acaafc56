"""Two sets of evaluations: cells that moved, and the component of a recipe that changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evaluations import evaluation, row, stored

from stages.evaluation.comparison import (
    BY_INTERVALS,
    BY_ROWS,
    NOT_TOLD,
    Side,
    cells_compared,
    changes,
    made,
    told_apart,
)
from stages.evaluation.pairing import Scored, compared

SPOT = ("svm", "raw", "fakes")
KEYS = [(label, "fakes" if label else "photos", f"{label} {number}") for label in (0, 1) for number in range(40)]


def cells(old: tuple[float, ...], new: tuple[float, ...]) -> tuple[str, bool]:
    (found,) = cells_compared(Side("a", {SPOT: old}, None), Side("b", {SPOT: new}, None), "auc")
    return found.by, found.moved


def test_without_scores_two_intervals_must_have_no_number_in_common() -> None:
    assert cells((0.5, 0.4, 0.6), (0.8, 0.61, 0.9)) == (BY_INTERVALS, True)
    assert cells((0.8, 0.61, 0.9), (0.5, 0.4, 0.6)) == (BY_INTERVALS, True)
    assert cells((0.5, 0.4, 0.6), (0.8, 0.6, 0.9)) == (BY_INTERVALS, False)
    assert cells((0.5, 0.4, 0.6), (0.8, float("nan"), 0.9)) == (NOT_TOLD, False)


def test_cells_that_one_side_lacks_are_not_compared() -> None:
    one = Side("a", {SPOT: (0.5, 0.4, 0.6), ("svm", "P", "fakes"): None}, None)
    two = Side("b", {("svm", "P", "fakes"): (0.5, 0.4, 0.6), ("svm", "E", "fakes"): (0.5, 0.4, 0.6)}, None)
    assert cells_compared(one, two, "auc") == []


def scored(folder: Path, shift: float, keys: list[Any] = KEYS) -> Side:
    """Real scores 0 to 39, fake ones above or among them; `shift` moves the fakes."""
    scores = [number + label * (0.1 + shift) for number, (label, *_) in enumerate(keys)]
    scores = [score - 40 * label for score, (label, *_) in zip(scores, keys, strict=True)]
    results = evaluation("SVM", ["fakes"], [row("fakes", 0.5)], "svm")
    return Side("x", {SPOT: (0.5, 0.3, 0.7)}, None, {SPOT: Scored(stored(folder, results, keys, scores))})


def test_of_the_same_rows_the_difference_decides(tmp_path: Path) -> None:
    """The intervals are the same on both sides and tell nothing; the fakes rose past a quarter of the reals."""
    low, high = scored(tmp_path / "low", 0.0), scored(tmp_path / "high", 10.0)
    (found,) = cells_compared(low, high, "auc")
    assert (found.by, found.moved) == (BY_ROWS, True)
    (found,) = cells_compared(high, low, "auc")
    assert (found.by, found.moved) == (BY_ROWS, True)
    (found,) = cells_compared(low, low, "auc")
    assert (found.by, found.moved) == (BY_ROWS, False)
    others = scored(tmp_path / "others", 10.0, KEYS[:-1])
    (found,) = cells_compared(low, others, "auc")
    assert (found.by, found.moved) == (BY_INTERVALS, False)


def test_rows_that_a_variant_holds_in_several_ways_have_no_partner(tmp_path: Path) -> None:
    """Two perturbations of one image have one id: set against each other, a detector would differ from itself."""
    twice = [*KEYS, *KEYS[:20], *KEYS[40:60]]
    side = scored(tmp_path / "twice", 10.0, twice)
    found = compared(side.scored[SPOT], side.scored[SPOT], "raw", "fakes")
    assert found.rows == len(KEYS) - 40
    assert all(value == 0 for value, _ in found.differences.values())
    (cell,) = cells_compared(side, side, "auc")
    assert (cell.by, cell.moved) == (BY_INTERVALS, False)


def test_two_evaluations_of_one_detector_are_compared_each_with_its_own(tmp_path: Path) -> None:
    """The second one's scores moved: its cell, and not the first one's."""
    spots = told_apart([SPOT, SPOT, ("svm", "P", "fakes")])
    assert spots == [SPOT, ("svm (2)", "raw", "fakes"), ("svm", "P", "fakes")]
    old, new = (
        Side(
            name,
            dict.fromkeys(spots[:2], (0.5, 0.3, 0.7)),
            None,
            {spot: scored(tmp_path / f"{name}{number}", shift).scored[SPOT]
             for number, (spot, shift) in enumerate(zip(spots, shifts, strict=False))},
        )
        for name, shifts in (("old", (0.0, 0.0)), ("new", (0.0, 10.0)))
    )  # fmt: skip
    found = cells_compared(old, new, "auc")
    assert [(cell.spot, cell.by, cell.moved) for cell in found] == [
        (SPOT, BY_ROWS, False),
        (("svm (2)", "raw", "fakes"), BY_ROWS, True),
    ]


def test_what_made_the_second_evaluation_of_a_detector_is_not_held_against_the_first() -> None:
    one, two = facts(), facts(equalize={"recipe": "e2", "config": {"size": 32}})
    sides = [Side("x", {}, made([one, two], [RECIPE, RECIPE])) for _ in range(2)]
    assert changes(*sides) == []
    moved = Side("x", {}, made([one, facts(equalize={"recipe": "e3", "config": {"size": 16}})], [RECIPE, RECIPE]))
    (found,) = changes(sides[0], moved)
    assert (found["what"], found["detectors"]) == ("config.size 32 -> 16", ["svm"])


def test_rows_of_a_source_that_were_made_in_two_ways_are_alike_on_both_sides() -> None:
    both = facts()
    other = [*both["steps"]["chain"], {"stage": "perturb", "recipe": "p1", "config": {"name": "noise"}}]
    more = [*both["steps"]["chain"], {"stage": "perturb", "recipe": "p2", "config": {"name": "blur"}}]
    both["steps"] |= {"noisy": other, "blurred": more}
    both["variants"]["raw"]["parts"] = [{"chain": one, "sources": ["fakes"]} for one in ("noisy", "blurred")]
    sides = [Side("x", {}, made([both], [RECIPE])) for _ in range(2)]
    assert changes(*sides) == []
    left = {**both, "variants": {"raw": {**both["variants"]["raw"], "parts": both["variants"]["raw"]["parts"][:1]}}}
    left["steps"] = {"noisy": [*other[:2], {**other[2], "recipe": "p3", "config": {"name": "crop"}}]}
    found = changes(Side("x", {}, made([left], [RECIPE])), sides[1])
    assert [one["what"] for one in found] == ["config.name crop -> noise"]


def facts(**changed: Any) -> dict[str, Any]:
    """Results of a detector whose test rows passed two steps."""
    found = evaluation("SVM", ["fakes"], [row("fakes", 0.5)], "svm", config={"C": changed.get("C", 1.0)}, counts={})
    steps = [
        {"stage": "equalize", "recipe": "e1", "config": {"size": 64}, "environment": {"pillow": "12.0"}},
        {"stage": "spectrum", "recipe": "s1", "config": {}, "environment": {}, "files": {}, "artifacts": {}},
    ]
    steps[0] |= changed.get("equalize", {})
    steps[1] |= changed.get("spectrum", {})
    found["steps"] = {"chain": steps}
    found["variants"]["raw"]["parts"] = [{"chain": "chain", "sources": ["fakes"]}]
    return found


RECIPE = {"code": {"stages.evaluate": "1"}, "env": {"numpy": "2.0"}, "artifact": {"model svm": "ab" * 16}}


def told(new: dict[str, Any], recipe: dict[str, Any] = RECIPE) -> list[tuple[str, str, str]]:
    sides = [Side("x", {}, made([one], [of])) for one, of in ((facts(), RECIPE), (new, recipe))]
    found = changes(*sides)
    assert all(one["detectors"] == ["svm"] for one in found)
    return [(one["where"], one["cause"], one["what"]) for one in found]


def test_each_kind_of_component_is_named() -> None:
    assert told(facts()) == []
    assert told(facts(C=2.0)) == [("svm", "config", "config.C 1.0 -> 2.0")]
    size = {"equalize": {"recipe": "e2", "config": {"size": 32}}}
    assert told(facts(**size)) == [("equalize", "config", "config.size 64 -> 32")]
    library = {"equalize": {"recipe": "e2", "environment": {"pillow": "13.0"}}}
    assert told(facts(**library)) == [("equalize", "env", "env.pillow 12.0 -> 13.0")]
    assert told(facts(spectrum={"recipe": "s2"})) == [("spectrum", "code", "its code changed")]
    assert told(facts(**size, spectrum={"recipe": "s2"})) == [
        ("equalize", "config", "config.size 64 -> 32"),
        ("spectrum", "upstream", "rows of another size, or other code"),
    ]
    weights = {"recipe": "s2", "files": {"model": "f" * 64}}
    assert told(facts(spectrum=weights))[0][:2] == ("spectrum", "artifact")
    assert told(facts(spectrum={"stage": "residual", "recipe": "r1"})) == [
        ("residual", "upstream", "steps equalize > spectrum -> equalize > residual")
    ]


def test_the_evaluation_s_own_recipe_counts_and_its_parent_is_named_shortly() -> None:
    assert told(facts(), RECIPE | {"env": {"numpy": "2.1"}}) == [("evaluate", "env", "env.numpy 2.0 -> 2.1")]
    assert told(facts(), RECIPE | {"artifact": {"model svm": "cd" * 16}}) == [
        ("evaluate", "parent", f"artifact.model svm {'ab' * 6} -> {'cd' * 6}")
    ]
    (code,) = told(facts(), RECIPE | {"code": {"stages.evaluate": "2"}})
    assert code[:2] == ("evaluate", "code")
    assert code[2].startswith("stages.evaluate changed")


def test_a_report_without_recipes_gives_no_changes() -> None:
    assert changes(Side("x", {}, None), Side("y", {}, made([facts()], [RECIPE]))) == []
