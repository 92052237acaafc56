"""What stands first in a report: verdicts, a matrix per variant, names that no two detectors share, downloads."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import jinja2
from evaluations import evaluation, row

from stages.reporting import matrices
from stages.reporting.compared import branches
from stages.reporting.names import Name, named
from stages.reporting.results import METRICS, SECTION
from stages.reporting.section import Given
from stages.reporting.verdicts import tiles

GOOD = evaluation("SVM", ["a"], [row("a", 0.9), row("b", 0.7), row("all", 0.8), row("a", 0.6, "P")], "svm")
POOR = evaluation("forest", ["a"], [row("a", 0.8), row("b", 0.3), row("all", 0.5)], "forest")
BASELINE = evaluation("threshold", ["a"], [row("a", 0.1), row("b", 0.1)], "one", made_from=[{"stage": "measure"}])


def content(*evaluations: dict[str, Any]) -> tuple[dict[str, Any], str]:
    given = Given(None, evaluations, [Path()] * len(evaluations))
    found = dict(SECTION.content(given))
    return found, jinja2.Template(SECTION.template, autoescape=True).render(found)


def decoded(uri: str) -> str:
    return base64.b64decode(uri.partition("base64,")[2]).decode()


def test_namesakes_are_told_apart_by_settings_then_by_nodes_then_by_numbers() -> None:
    def names(*models: tuple[str, dict[str, Any]]) -> list[str]:
        found = named([evaluation("SVM", ["a"], [], node, config=config) for node, config in models])
        assert {name.trained_on for name in found} == {"a"}
        return [name.detector for name in found]

    assert names(("x", {"C": 1})) == ["SVM"]
    assert names(("x", {"C": 1, "e": 2}), ("y", {"C": 10, "e": 2})) == ["SVM (C 1)", "SVM (C 10)"]
    nested = [("x", {"net": {"depth": 18}}), ("y", {"net": {"depth": 50}})]
    assert names(*nested) == ["SVM (net.depth 18)", "SVM (net.depth 50)"]
    assert names(("x", {"C": 1}), ("y", {"C": 1})) == ["SVM (x)", "SVM (y)"]
    assert names(("x", {"C": 1}), ("y", {"C": 1}), ("z", {"C": 2})) == ["SVM (x)", "SVM (y)", "SVM (z)"]
    assert names(("x", {}), ("x", {})) == ["SVM (evaluation 1)", "SVM (evaluation 2)"]
    assert str(Name("SVM", "a")) == "SVM, trained on a"
    assert str(Name("SVM", "")) == "SVM"


def test_each_variant_has_a_matrix_with_its_own_sources_mean_and_minimum() -> None:
    found, page = content(GOOD, POOR)
    shown = [(one["called"], one["sources"], [line["detector"] for line in one["rows"]]) for one in found["matrices"]]
    assert shown == [("raw", ["a", "b"], ["SVM", "forest"]), ("P (reals of raw)", ["a"], ["SVM"])]
    assert page.count('<table class="matrix') == 2
    (line,) = re.findall(r'<tr data-row="1">.*?</tr>', page, re.S)
    assert re.findall(r'<td class="([^"]*)">([\d.]*)</td>', line) == [
        ("s16 home", "0.800"), ("s6", "0.300"), ("s11 end", "0.550"), ("s6 end", "0.300"),
    ]  # fmt: skip


def test_a_cell_that_nobody_measured_is_empty_and_no_part_of_the_mean() -> None:
    other = evaluation("other", [], [row("b", 0.4), row("c", None)], "other")
    found, _ = content(GOOD, other)
    (line,) = [one for one in found["matrices"][0]["rows"] if one["detector"] == "other"]
    assert [cell["text"] for cell in line["cells"]] == ["", "0.400", ""]
    assert [cell["text"] for cell in line["ends"]] == ["0.400", "0.400"]


def test_what_is_downloaded_has_every_metric_with_its_interval() -> None:
    found, _ = content(GOOD, POOR)
    data = json.loads(decoded(found["json"]))
    assert list(data["metrics"]) == ["AUC", "AP", "Balanced accuracy", "Accuracy", "TPR", "TNR"]
    cells = data["matrices"][0]["rows"][0]["cells"]
    assert cells[1] == [[0.7, 0.65, 0.75]] * 6
    lines = list(csv.DictReader(io.StringIO(decoded(found["csv"]))))
    assert [(one["detector"], one["variant"], one["source"]) for one in lines] == [
        ("SVM", "raw", "a"), ("SVM", "raw", "b"), ("SVM", "raw", "all"), ("SVM", "P", "a"),
        ("forest", "raw", "a"), ("forest", "raw", "b"), ("forest", "raw", "all"),
    ]  # fmt: skip
    assert [float(lines[1][f"auc{end}"]) for end in ("", "_low", "_high")] == [0.7, 0.7 - 0.05, 0.7 + 0.05]
    assert {f"{name}_low" for name in METRICS.values()} <= set(lines[0])


def test_all_numbers_name_their_detector_in_every_line_so_that_they_can_be_sorted() -> None:
    found, page = content(GOOD, POOR)
    assert [one["detector"] for one in found["rows"]] == ["SVM"] * 4 + ["forest"] * 3
    assert "<details" in page
    assert " open>" in page  # a short table needs no click, script or not


def test_the_colors_of_cells_are_neutral_in_the_middle_only() -> None:
    lines = matrices.shades().splitlines()
    assert len(lines) == 21
    assert [line for line in lines if " 0%" in line] == [lines[10]]
    assert "--low" in lines[0]
    assert "--high" in lines[20]
    assert "100%" in lines[20]


def test_verdicts_name_the_best_and_worst_detector_where_trained_and_elsewhere_and_the_least_cell() -> None:
    found = [(tile.name, tile.value, tile.about) for tile in tiles([GOOD, POOR, BASELINE])]
    assert found == [
        ("best on sources seen in training", "0.900", "SVM, trained on a"),
        ("worst on sources seen in training", "0.800", "forest, trained on a"),
        ("best on unseen sources", "0.700", "SVM, trained on a"),
        ("worst on unseen sources", "0.300", "forest, trained on a"),
        ("least AUC of all cells", "0.300", "0.250 – 0.350: forest, trained on a, on b in raw"),
    ]


def test_verdicts_of_one_detector_are_no_contest_and_equals_are_counted() -> None:
    assert [tile.name for tile in tiles([GOOD])] == [
        "mean on sources seen in training", "mean on unseen sources", "least AUC of all cells",
    ]  # fmt: skip
    twin = evaluation("twin", ["a"], GOOD["rows"], "twin")
    assert tiles([GOOD, twin, POOR])[0].about == "SVM, trained on a, and 1 more"
    assert [tile.value for tile in tiles([BASELINE])] == ["0.100"] * 3  # baselines alone are judged


def test_steps_are_folded_into_groups_of_equal_chains() -> None:
    steps = [{"stage": "sample", "config": {}}, {"stage": "equalize", "config": {"size": 64}}]
    one = evaluation("SVM", ["a"], [row("a", 0.9), row("b", 0.9), row("a", 0.9, "P")], "svm")
    one["steps"] = {"1": steps, "2": steps, "3": [*steps, {"stage": "perturb", "config": {}}]}
    one["variants"]["raw"]["parts"] = [{"chain": c, "real": 0, "fake": 5, "sources": [s]} for c, s in ("1a", "2b")]
    one["variants"]["P"]["parts"] = [{"chain": "3", "real": 0, "fake": 5, "sources": ["a"]}]
    groups = branches([one, one])["groups"]
    assert [(group["stages"], group["about"]) for group in groups] == [
        ("sample → equalize", "a, b (fake), raw"), ("sample → equalize → perturb", "a (fake), P"),
    ]  # fmt: skip
    assert groups[0]["steps"] == "sample → equalize(size 64)"
    assert [(part["source"], part["rows"]) for part in groups[0]["parts"]] == [("a", 5), ("b", 5)]
