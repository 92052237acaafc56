"""`touchstone compare`: two reports by what they embed, two pipelines by their scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import Command, command
from evaluations import evaluation, row

from pipeline.stage import Artifact
from stages.evaluation.comparison import made
from stages.report import ReportConfig
from stages.reporting import matrices
from stages.reporting.names import named
from stages.reporting.results import content
from stages.reporting.section import Given


def report(folder: Path, auc: float, c: float = 1.0, recipes: bool = True) -> Path:
    """A page with two cells, of which the second never moves."""
    rows = [row("fakes", auc, tpr=auc / 2, tpr_interval=[auc / 2 - 0.05, auc / 2 + 0.05]), row("others", 0.9)]
    results = [evaluation("SVM", ["fakes"], rows, "svm", config={"C": c}, counts={})]
    data = matrices.data(results, named(results)) | ({"made": made(results, [{}])} if recipes else {})
    folder.mkdir()
    place = folder / "report.html"
    place.write_text(f'<a id="matrices" href="{matrices.as_json(data)}">JSON</a>', encoding="utf-8")
    return place


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    return command(monkeypatch, capsys)


def test_two_reports_say_what_moved_and_what_changed(call: Command, tmp_path: Path) -> None:
    report(tmp_path / "old", 0.9)
    report(tmp_path / "new", 0.7, c=2.0)
    said = call("compare", "old/report.html", "new")
    assert said.code == 0
    assert said.out.splitlines() == [
        "auc: 1 of 2 cells moved",
        "  svm on fakes (raw): 0.900 [0.850, 0.950] -> 0.700 [0.650, 0.750], by intervals",
        "changed: 1 component",
        "  svm (config): config.C 1.0 -> 2.0; reaches svm",
    ]
    assert call("compare", "old", "new", "--fail-on", "moved").code == 1
    assert call("compare", "old", "old", "--fail-on", "moved").code == 0
    facts: dict[str, Any] = call("compare", "old", "new", "--json", "--metric", "tpr").facts()
    assert [(one["source"], one["moved"], one["new"]) for one in facts["cells"]] == [
        ("fakes", False, [0.35, 0.3, 0.4]),
        ("others", False, [0.9, 0.85, 0.95]),
    ]
    assert facts["changed"] == [
        {"where": "svm", "cause": "config", "what": "config.C 1.0 -> 2.0", "detectors": ["svm"]}
    ]


def test_a_report_embeds_how_its_evaluations_were_made(tmp_path: Path) -> None:
    """In the order of the pipeline file, not of the page."""
    results = [
        evaluation(name, ["fakes"], [row("fakes", 0.9)], name, counts={}, validation=None) for name in ("svm", "forest")
    ]
    recipes = {"svm": {"env": {"numpy": "2.0"}}, "forest": {"env": {"numpy": "2.1"}}}
    artifacts = [Artifact(name, name, tmp_path, {"recipe": recipe}) for name, recipe in recipes.items()]
    given = Given(ReportConfig(), results, [tmp_path] * 2, {"of": artifacts})
    shown = content(given)
    data = matrices.embedded(f'<a download="results.json" id="matrices" href="{shown["json"]}">')
    assert data is not None
    assert {name: one["evaluation"] for name, one in data["made"]["nodes"].items()} == recipes
    assert content(given) == shown


def test_an_older_report_is_compared_by_its_cells(call: Command, tmp_path: Path) -> None:
    report(tmp_path / "old", 0.9, recipes=False)
    report(tmp_path / "new", 0.7)
    said = call("compare", "old", "new")
    assert said.out.splitlines()[0] == "auc: 1 of 2 cells moved"
    assert "changed" not in said.out
    assert said.err == "old does not say how its evaluations were made; make the report again to have that compared\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("old", "absent.html"),
            "absent.html cannot be read (No such file or directory); expected a report.html, its ",
        ),
        (("old", "note.html"), "note.html is no report of Touchstone; expected a report.html, its folder in the store"),
        (
            ("old", "empty.html"),
            "empty.html is no report of Touchstone; expected a report.html, its folder in the store",
        ),
        (("old", "new", "--metric", "acc"), "--metric is 'acc', which no report has"),
        (("old", "other"), "old and other have no cell in common: a cell is a detector's node, a variant and a source"),
    ],
)
def test_what_cannot_be_compared_is_a_sentence(
    words: tuple[str, ...], sentence: str, call: Command, tmp_path: Path
) -> None:
    report(tmp_path / "old", 0.9)
    report(tmp_path / "new", 0.9)
    place = report(tmp_path / "other", 0.9)
    results = [evaluation("SVM", ["fakes"], [row("fakes", 0.9)], "forest", counts={})]
    text = matrices.as_json(matrices.data(results, named(results)))
    place.write_text(f'<a id="matrices" href="{text}">JSON</a>', encoding="utf-8")
    (tmp_path / "note.html").write_text("<p>nothing</p>")
    (tmp_path / "empty.html").write_text('<a id="matrices" href="data:application/json;base64,e30=">JSON</a>')
    said = call("compare", *words)
    assert said.code == 2
    assert said.err.startswith(f"touchstone: {sentence}")
