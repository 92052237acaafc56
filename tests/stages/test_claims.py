"""Claims: cells are chosen by patterns, and only an interval on one side of the margin decides."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory_rows import context, digest
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline.errors import StageError
from pipeline.stage import Artifact
from stages.claims import Claims, ClaimsConfig, line
from stages.evaluation.claims import Cell, Chosen, Shared, judge, read_cells
from stages.evaluation.metrics import wilson
from stages.report import Report, ReportConfig

ROWS, OF_GROUP = 400, 4


def cell(node: str, shift: float, seed: int, source: str = "all", variant: str = "raw") -> Cell:
    """Normal scores in groups of four that share half of their variance; the same groups whatever the seed."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.array([0, 1], np.uint8), ROWS // 2)
    shared = np.repeat(random.normal(size=ROWS // OF_GROUP), OF_GROUP)
    scores = (shared + random.normal(size=ROWS) + shift * labels).astype(np.float32)
    numbers = np.repeat(np.arange(ROWS // OF_GROUP), OF_GROUP)
    groups = np.array([b"%016d" % number for number in numbers], "V16")
    return Cell(node, variant, source, scores, labels, groups, 0.5)


def slow_error(first: Cell, second: Cell) -> float:
    """Standard deviation of the difference of AUC when whole groups are drawn with replacement, class by class."""
    random, found = np.random.default_rng(1), []
    rows = np.arange(ROWS).reshape(-1, OF_GROUP)
    half = len(rows) // 2
    for _ in range(100):
        drawn = np.concatenate([random.integers(0, half, half), half + random.integers(0, half, half)])
        chosen = rows[drawn].ravel()
        one, two = (roc_auc_score(each.labels[chosen], each.scores[chosen]) for each in (first, second))
        found.append(one - two)
    return float(np.std(found))


def test_a_difference_is_that_of_the_metric_and_its_interval_that_of_whole_groups() -> None:
    first, second = cell("a", 1.5, 1), cell("b", 1.0, 2)
    found = judge([first], [second], "auc", "mean", 0.0)
    aucs = [roc_auc_score(each.labels, each.scores) for each in (first, second)]
    assert found.sides == pytest.approx(aucs, abs=1e-12)
    assert found.value == pytest.approx(aucs[0] - aucs[1], abs=1e-12)
    low, high = found.interval
    assert (low + high) / 2 == pytest.approx(found.value, abs=1e-9)
    assert (high - low) / 2 / 2.01 == pytest.approx(slow_error(first, second), rel=0.2)  # t of 49 groups
    assert not found.few_groups


def perfect(node: str, constant: bool) -> Cell:
    one = cell(node, 0.0, 0)
    return replace(one, scores=np.full(ROWS, 0.2, np.float32) if constant else (one.labels * 0.8).astype(np.float32))


@pytest.mark.parametrize(("metric", "value"), [("auc", 0.5), ("ap", 0.5), ("balanced_accuracy", 0.5), ("tpr", 1.0)])
def test_a_perfect_detector_exceeds_a_constant_one(metric: str, value: float) -> None:
    """No resample changes anything, so that the intervals of both decide: Wilson's, for fifty groups of a class."""
    good, bad = perfect("good", False), perfect("bad", True)
    found = judge([good], [bad], metric, "mean", 0.0)
    least = 50 / (50 + 1.959964**2)
    assert (found.verdict, found.value) == ("holds", value)
    assert found.interval[0] == pytest.approx(least - wilson((1 - value) * 50, 50)[1])
    assert judge([bad], [good], metric, "mean", 0.0).verdict == "does not hold"
    assert judge([good], [perfect("other", False)], metric, "mean", 0.0).verdict == "cannot tell"


def test_what_is_hard_for_both_sides_is_no_difference() -> None:
    first = cell("a", 1.0, 1)
    noise = np.random.default_rng(5).normal(0, 0.05, ROWS).astype(np.float32)
    twin = Cell("b", "raw", "all", first.scores + noise, first.labels, first.groups, 0.5)
    other = cell("c", 1.0, 9)
    near, far = (judge([first], [one], "auc", "mean", 0.0).interval for one in (twin, other))
    assert near[1] - near[0] < 0.2 * (far[1] - far[0])


@pytest.mark.parametrize(
    ("than", "margin", "verdict"),
    [
        (0.5, 0.0, "holds"), (0.99, 0.0, "does not hold"), (0.9, 0.0, "cannot tell"), (0.5, 0.4, "cannot tell"),
        (0.5, 0.45, "does not hold"),
    ],
)  # fmt: skip
def test_only_an_interval_on_one_side_of_the_margin_decides(than: float, margin: float, verdict: str) -> None:
    found = judge([cell("a", 2.2, 1)], than, "auc", "mean", margin)
    assert 0.8 < found.sides[0] < 0.92
    assert found.verdict == verdict
    low, high = found.interval
    assert {"holds": low > margin, "does not hold": high <= margin, "cannot tell": low <= margin < high}[verdict]


def test_cells_stay_below_a_number_where_the_whole_interval_does() -> None:
    assert judge(0.65, [cell("a", 0.0, 1)], "auc", "mean", 0.0).verdict == "holds"
    assert judge(0.65, [cell("a", 2.0, 1)], "auc", "mean", 0.0).verdict == "does not hold"
    with pytest.raises(ValueError, match="'more' and 'than' are both numbers; name cells in one of them"):
        ClaimsConfig.model_validate_json('{"claims": [{"says": "x", "more": 0.5, "than": 0.4}]}')


def test_the_mean_and_the_least_of_several_cells_stand_for_them() -> None:
    cells = [cell("a", shift, seed) for seed, shift in enumerate((0.5, 1.0, 2.0))]
    aps = [average_precision_score(one.labels, one.scores) for one in cells]
    assert judge(cells, 0.0, "ap", "mean", 0.0).sides[0] == pytest.approx(np.mean(aps), abs=1e-6)
    assert judge(cells, 0.0, "ap", "minimum", 0.0).sides[0] == pytest.approx(min(aps), abs=1e-6)


def test_the_least_of_means_is_over_tests_of_means_over_seeds_with_the_interval_of_whole_groups() -> None:
    """Two seeds on two sources each: means by hand, and the error of whole groups that are drawn with replacement."""
    ours, theirs = (
        [cell(f"{name}-{seed}", shift, 10 * seed + number, source)
         for seed, both in enumerate(shifts)
         for number, (source, shift) in enumerate(zip("xy", both, strict=True))]
        for name, shifts in (("a", ((1.0, 2.0), (2.0, 1.2))), ("b", ((0.6, 1.6), (1.4, 0.5))))
    )  # fmt: skip

    def least(cells: list[Cell], rows: Any) -> float:
        areas = [roc_auc_score(one.labels[rows], one.scores[rows]) for one in cells]
        return min((areas[0] + areas[2]) / 2, (areas[1] + areas[3]) / 2)

    found = judge(ours, theirs, "auc", "minimum of means", 0.0)
    assert found.sides == pytest.approx([least(side, slice(None)) for side in (ours, theirs)], abs=1e-12)
    assert found.sides[0] > judge(ours, theirs, "auc", "minimum", 0.0).sides[0] + 0.01
    random, drawn, groups = np.random.default_rng(1), [], np.arange(ROWS).reshape(-1, OF_GROUP)
    half = len(groups) // 2
    for _ in range(100):
        taken = np.concatenate([random.integers(0, half, half), half + random.integers(0, half, half)])
        drawn.append(least(ours, groups[taken].ravel()) - least(theirs, groups[taken].ravel()))
    low, high = found.interval
    assert (low + high) / 2 == pytest.approx(found.value, abs=1e-9)
    assert (high - low) / 2 / 2.01 == pytest.approx(float(np.std(drawn)), rel=0.2)


def test_perfect_cells_against_a_number_have_wilsons_interval_of_their_groups() -> None:
    """Fifty groups of each class that are all told apart: the lower end is 50 / (50 + 1.959964^2)."""
    one = cell("a", 0.0, 1)
    perfect = Cell("a", "raw", "all", one.labels.astype(np.float32), one.labels, one.groups, 0.5)
    low = 50 / (50 + 1.959963985**2)
    assert judge([perfect], 0.9, "ap", "mean", 0.0).interval == pytest.approx((low - 0.9, 0.1))
    assert judge([perfect, perfect], 0.9, "accuracy", "minimum", 0.0).verdict == "holds"
    assert judge([perfect], 0.95, "ap", "mean", 0.0).verdict == "cannot tell"
    assert judge([perfect], 1.0, "ap", "mean", 0.0).verdict == "does not hold"
    noise = np.random.default_rng(2).random(ROWS, np.float32)
    rounded = Cell("a", "raw", "all", (one.labels + noise) / 2, one.labels, one.groups, 0.5)
    assert 0 < np.std(Shared([rounded]).of(rounded, "auc")) < 1e-6  # 1 but for the rounding of weights
    assert judge([rounded], 0.9, "auc", "mean", 0.0).interval == pytest.approx((low - 0.9, 0.1))
    assert judge([rounded], [rounded], "auc", "mean", 0.0).verdict == "cannot tell"
    below = judge(0.9, [perfect], "ap", "mean", 0.0)
    assert below.verdict == "does not hold"
    assert below.interval == pytest.approx((-0.1, 0.9 - low))


def test_equal_cells_and_a_single_group_cannot_be_told() -> None:
    one = cell("a", 1.0, 1)
    found = judge([one], [Cell("b", *list(vars(one).values())[1:])], "auc", "mean", 0.0)
    assert (found.verdict, found.value) == ("cannot tell", 0.0)
    assert all(math.isnan(end) for end in found.interval)
    alone = Cell("c", "raw", "all", one.scores, one.labels, np.full(ROWS, b"0" * 16, "V16"), 0.5)
    found = judge([alone], 0.5, "auc", "mean", 0.0)
    assert (found.verdict, found.few_groups) == ("cannot tell", True)


NODES = ("detectors[stylegan,svm]", "detectors[stylegan,cnn]", "detectors[progan,svm]", "s")
CELLS = [
    cell(node, 1.0, seed, source, variant)
    for seed, node in enumerate(NODES)
    for source in ("gan", "all")
    for variant in ("raw", "P")
]


@pytest.mark.parametrize(
    ("chosen", "count", "nodes"),
    [
        (Chosen(), 4, set(NODES)),
        (Chosen(node="detectors[stylegan,*]"), 2, set(NODES[:2])),
        (Chosen(node="*svm]", variant="*", source="*"), 8, {NODES[0], NODES[2]}),
        (Chosen(node="s|detectors[progan,svm]"), 2, {NODES[2], "s"}),
    ],
)
def test_patterns_choose_cells_and_brackets_stand_for_themselves(chosen: Chosen, count: int, nodes: set[str]) -> None:
    found = chosen.of(CELLS)
    assert (len(found), {one.node for one in found}) == (count, nodes)


@pytest.mark.parametrize(
    ("pattern", "nodes"),
    [
        ("*", {"cnn", "svm"}), ("c*", {"cnn"}), ("clipped", {"clipped"}), ("*clip*|svm", {"clipped", "svm"}),
        ("cl*", {"clipped"}),
    ],
)  # fmt: skip
def test_a_star_means_detectors_where_it_fits_some_and_a_single_number_is_named(
    pattern: str, nodes: set[str], tmp_path: Path
) -> None:
    cells = []
    for node, stage in (("svm", "spectrum"), ("cnn", "equalize"), ("clipped", "measure")):
        made = evaluation(tmp_path / node, node, 1.0, 1)
        results = json.loads((made.path / "results.json").read_text())
        results["model"]["made_from"] = [{"stage": stage}]
        cells += read_cells(results, made.path)
    assert {one.node for one in Chosen(node=pattern).of(cells)} == nodes


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        (Chosen(node="detectors[stylegan,svn]"), r"has the node 'detectors\[stylegan,svn\]'; did you mean"),
        (Chosen(variant="E"), "no evaluated cell has the variant 'E'; there are P, raw"),
        (Chosen(node="s", source="diffusion"), "has the source 'diffusion'; there are all, gan"),
    ],
)
def test_a_pattern_that_nothing_fits_is_a_sentence(chosen: Chosen, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        chosen.of(CELLS)


def evaluation(folder: Path, node: str, shift: float, seed: int) -> Artifact:
    """An evaluation as `evaluate` writes it, of two sources."""
    one = cell(node, shift, seed)
    rows = [{"variant": "raw", "source": source, "reals_from": "raw"} for source in ("gan", "other", "all")]
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps({"model": {"node": node, "threshold": 0.5}, "rows": rows}))
    sources = np.where(one.labels == 0, 2, np.arange(ROWS) % 2)
    np.savez(
        folder / "scores.npz", label=one.labels, score=one.scores, group=one.groups, source=sources,
        variant=np.zeros(ROWS, np.int32), sources=np.array(["gan", "other", "photos"]), variants=np.array(["raw"]),
    )  # fmt: skip
    return Artifact(node, digest(node).hex(), folder)


SAYS = [
    {"says": "A exceeds B", "where": "Somebody 2020", "more": {"node": "a"}, "than": {"node": "b"}, "metric": "auc"},
    {"says": "B is perfect on gan", "more": {"node": "b", "source": "gan"}, "than": 0.99, "metric": "auc"},
]


def judged(folder: Path, claims: list[Any]) -> Any:
    folder.mkdir(exist_ok=True)
    made = (evaluation(folder / "a", "a", 2.0, 1), evaluation(folder / "b", "b", 0.5, 2))
    ctx = context(folder / "claims", "claims", artifacts={"of": made})
    Claims().fit(ClaimsConfig.model_validate_json(json.dumps({"claims": claims})), {}, ctx)
    return ctx


def test_the_stage_writes_verdicts_as_data_and_as_lines(tmp_path: Path) -> None:
    ctx = judged(tmp_path, SAYS)
    first, second = json.loads((ctx.out / "claims.json").read_text())["claims"]
    assert (first["verdict"], second["verdict"]) == ("holds", "does not hold")
    assert (first["more"], first["than"]) == (["a on all (raw)"], ["b on all (raw)"])
    one = cell("b", 0.5, 2)
    kept = (one.labels == 0) | (np.arange(ROWS) % 2 == 0)
    assert second["sides"][0] == pytest.approx(roc_auc_score(one.labels[kept], one.scores[kept]), abs=1e-12)
    assert ctx.facts == {"holds": 1, "does not hold": 1, "cannot tell": 0}
    lines = (ctx.out / "claims.md").read_text().splitlines()
    assert lines[0].startswith("- holds: A exceeds B (Somebody 2020). auc, mean of 1 and 1 cells: +0.2")
    assert lines[1].startswith("- does not hold: B is perfect on gan. auc, mean of 1 and 0 cells: -0.")


def test_a_claim_about_cells_that_are_not_there_names_itself(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"the claim 'x': no evaluated cell has the node 'c'.*; correct 'more' or"):
        judged(tmp_path, [{"says": "x", "more": {"node": "c"}, "than": 0.5}])


AGAINST = {"says": "A exceeds it", "more": {"node": "a", "source": "*"}, "than": {"source": "*"}, "metric": "auc"}


def test_a_claim_against_each_is_one_against_every_pattern(tmp_path: Path) -> None:
    each = [AGAINST | {"each": ["b", "a|b"]}]
    found = json.loads((judged(tmp_path / "each", each).out / "claims.json").read_text())["claims"]
    alone = [AGAINST | {"than": {"node": node, "source": "*"}} for node in ("b", "a|b")]
    expected = json.loads((judged(tmp_path / "alone", alone).out / "claims.json").read_text())["claims"]
    assert [one.pop("says") for one in found] == ["A exceeds it: b", "A exceeds it: a|b"]
    assert [{**one, "says": "A exceeds it"} for one in found] == expected
    assert [len(one["than"]) for one in found] == [3, 6]


def test_claims_about_the_same_cells_share_their_resamples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Counted(Shared):
        def __init__(self, cells: Any) -> None:
            made.append(len(cells))
            super().__init__(cells)

    monkeypatch.setattr("stages.claims.Shared", Counted)
    claims = [AGAINST | {"each": ["b"], "over": over} for over in ("mean", "minimum of means")]
    ctx = judged(tmp_path, [*claims, SAYS[0]])
    assert made == [6, 2]
    assert len(json.loads((ctx.out / "claims.json").read_text())["claims"]) == 3


def test_a_claim_against_each_is_of_the_same_variants_and_sources(tmp_path: Path) -> None:
    unlike = [{**AGAINST, "than": {"source": "gan|all"}, "each": ["b"]}]
    sentence = (
        r"the claim 'A exceeds it: b': 1 variants and sources are on one side alone, first other \(raw\); name in"
    )
    with pytest.raises(StageError, match=sentence):
        judged(tmp_path, unlike)
    with pytest.raises(ValueError, match="'each' has no effect on a number; name cells in 'more' and 'than'"):
        ClaimsConfig.model_validate_json(json.dumps({"claims": [{**AGAINST, "than": 0.5, "each": ["b"]}]}))


def test_a_number_that_is_none_is_null_and_said(tmp_path: Path) -> None:
    ctx = judged(tmp_path, [{"says": "x", "more": {"node": "a"}, "than": {"node": "a"}}])
    (claim,) = json.loads((ctx.out / "claims.json").read_text())["claims"]
    assert claim["interval"] == [None, None]
    assert line(claim).endswith("+0.000, 95 % interval open to open.")


def test_the_report_shows_them(tmp_path: Path) -> None:
    ctx = judged(tmp_path, SAYS)
    made = Artifact("claims", digest("claims").hex(), ctx.out)
    from stages.reporting.claims import content
    from stages.reporting.section import Given

    shown = content(Given(ReportConfig(), (), (), {"claims": (made,)}))["claims"]
    assert [one["verdict"] for one in shown] == ["holds", "does not hold"]
    assert "claims" in Report.inputs
