"""`touchstone table`: what stands where, in which forms, beside a paper and against another detector."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Command, command
from toy_project import Project

from pipeline.errors import ConfigError
from stages.evaluation.pairing import Scored, compared
from stages.reporting import table_formats
from stages.reporting.baselines import lacking
from stages.reporting.matrix_table import (
    Cell,
    Column,
    Evaluation,
    Table,
    beside,
    columns_of,
    differences,
    from_paper,
    short,
    tabulated,
)

PIPELINE = """
nodes:
  photos: {stage: "toy_photos:Photos", count: 60, splits: [train, val, test]}
  fakes:
    stage: "toy_photos:Photos"
    matrix: {first: [100, 200]}
    count: 40
    first: "{first}"
    label: 1
    splits: [train, val, test]
  images: {stage: "toy_photos:Invert", of: [photos, fakes]}
  measures: {stage: measure, of: images}
  spectra: {stage: spectrum, of: images, features: [profile]}
  detectors:
    stage: train
    matrix: {train: ["100", "200"], detector: [profile-logistic, clipped]}
    on: {of: [measures, spectra], where: "source in [photos, 'fakes[{train}]']"}
    detector: "{detector}"
  fused:
    stage: train
    matrix: {train: ["100"]}
    on: {of: [measures, spectra], where: "source in [photos, 'fakes[{train}]']"}
    detector: profile-threshold
  tables:
    stage: evaluate
    matrix: {model: {of: [detectors, fused]}}
    model: "{model}"
    test: {raw: [measures, spectra]}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    with pytest.MonkeyPatch.context() as patch:
        found = Project(tmp_path_factory.mktemp("table"), patch, PIPELINE)
        found.run("tables")
    return found


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], project: Project) -> Command:
    monkeypatch.chdir(project.folder)
    return command(monkeypatch, capsys)


def results_of(project: Project, node: str) -> dict[str, Any]:
    found = project.plan(recorded=True).artifacts[node].found
    assert found is not None
    results: dict[str, Any] = json.loads((found.path / "results.json").read_text())
    return results


def test_every_cell_is_that_of_its_evaluation(call: Command, project: Project) -> None:
    data = call("table", "--json", "--metric", "balanced_accuracy").facts()
    cells = {(one["row"], one["trained"], one["tested"], one["variant"]): one for one in data["cells"]}
    assert len(cells) == len(data["cells"]) == 5 * 2
    results = results_of(project, "tables[detectors-200-clipped]")
    for row in results["rows"]:
        if row["source"] != "all":
            tested = row["source"].removeprefix("fakes[").rstrip("]")
            found = cells["clipped", "200", tested, "raw"]
            assert found["value"] == row["balanced_accuracy"]
            assert found["interval"] == row["balanced_accuracy_interval"]
            assert found["few_groups"] is row["few_groups"]
    values = [one["value"] for one in data["cells"] if one["row"] == "profile-logistic"]
    (line,) = [one for one in data["rows"] if one["row"] == "profile-logistic"]
    assert line == {
        "row": "profile-logistic", "mean": pytest.approx(sum(values) / len(values)), "minimum": min(values)
    }  # fmt: skip
    assert {one["row"] for one in data["rows"]} == {"profile-logistic", "clipped", "fused"}
    assert [one["auc"] for one in data["null"] if (one["row"], one["trained"]) == ("clipped", "200")] == [
        results["null"][0]["auc"]
    ]


def test_text_markdown_and_csv_say_the_same(call: Command) -> None:
    rows = list(csv.reader(io.StringIO(call("table", "--format", "csv").out)))
    assert rows[0][0] == "detector"
    assert rows[0][-4:] == ["mean", "minimum", "null 100", "null 200"]
    markdown = call("table", "tables", "--format", "markdown").out.splitlines()
    assert markdown[1] == "| --- |" + " ---: |" * (len(rows[0]) - 1)
    assert [line.strip("| ").split(" | ") for line in (markdown[0], *markdown[2:])] == rows
    text = call("table").out.split("\n\n")
    assert all(block.startswith("detector") for block in text)
    for row in rows:
        assert all(word in "".join(text) for word in row)
    latex = call("table", "--format", "latex").out
    assert latex.startswith(r"\begin{tabular}{l" + "r" * (len(rows[0]) - 1) + "}")
    assert latex.count(r"\\") == len(rows)
    assert r"$\to$" in latex


def test_a_paper_stands_beside_and_what_one_of_them_lacks_is_told(call: Command, project: Project) -> None:
    paper = project.folder / "paper.yaml"
    paper.write_text(
        "{metric: accuracy, percent: true, cells: {clipped: {100 -> 200: {raw: 62.5, R: 50.0}}, "
        "magic: {'100': {raw: 99.9}}}}"
    )
    said = call("table", "--paper", "paper.yaml", "--format", "csv")
    head, *rows = list(csv.reader(io.StringIO(said.out)))
    (line,) = [row for row in rows if row[0] == "clipped"]
    own, published = line[head.index("100 > 200 raw")].split(" / ")
    assert published == "62.5"
    results = results_of(project, "tables[detectors-100-clipped]")
    (row,) = [one for one in results["rows"] if one["source"] == "fakes[200]"]
    assert own.rstrip("*") == f"{100 * row['accuracy']:.1f}"
    assert line[head.index("mean")].endswith(" / 56.2")
    assert line[head.index("minimum")].endswith(" / 50.0")
    assert "rows of the paper that this table lacks: magic" in said.err
    assert "columns of the paper that this table lacks: 100 > 200 R" in said.err


def test_differences_are_those_of_the_same_images(call: Command, project: Project) -> None:
    data = call("table", "--json", "--against", "clipped").facts()
    assert {one["row"] for one in data["cells"]} == {"profile-logistic", "fused"}
    places = [project.plan(recorded=True).artifacts[f"tables[detectors-100-{name}]"].found
              for name in ("profile-logistic", "clipped")]  # fmt: skip
    one, two = (Scored(found.path) for found in places if found is not None)
    found = compared(one, two, "raw", "fakes[200]")
    rows = [next(row for row in each.results["rows"] if row["source"] == "fakes[200]") for each in (one, two)]
    assert found.rows == rows[0]["n_real"] + rows[0]["n_fake"]
    assert found.differences["auc"][0] == pytest.approx(rows[0]["auc"] - rows[1]["auc"])
    (cell,) = [
        cell for cell in data["cells"]
        if (cell["row"], cell["trained"], cell["tested"]) == ("profile-logistic", "100", "200")
    ]  # fmt: skip
    assert (cell["value"], cell["interval"]) == (found.differences["auc"][0], list(found.differences["auc"][1]))
    turned = compared(one, two, "raw", "fakes[200]", turned=True)
    assert turned.differences["auc"][0] == pytest.approx(rows[0]["auc"] - (1 - rows[1]["auc"]))


def test_single_numbers_that_do_not_stand_beside_a_detector_are_named_with_the_way_to_add_them(
    call: Command, project: Project
) -> None:
    said = call("table", "--json")
    (sentence,) = [line for line in said.err.splitlines() if line.startswith("no ")]
    assert sentence.startswith("no border-step, spectral-slope beside tables in raw: add the stage measure of the same")
    assert said.facts()["lacking"] == [sentence]
    results = {name: results_of(project, f"tables[{name}]")
               for name in ("detectors-100-profile-logistic", "detectors-100-clipped")}  # fmt: skip
    assert lacking({"svm": results["detectors-100-profile-logistic"]}) == {
        ("clipped", "border-step", "spectral-slope"): {"svm": ["raw"]}
    }
    assert lacking({"clipped": results["detectors-100-clipped"]}) == {}


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [
        ([{"content": True}], True),
        ([{"content": True}, {"variant": False}], True),
        ([{"content": True}, {"variant": True}], False),
        ([{"content": False}], False),
    ],
)
def test_bytes_per_pixel_are_wanted_where_all_rows_were_files(steps: list[dict[str, bool]], wanted: bool) -> None:
    one = results("raw", "web", 0.9)
    one["model"] = {"made_from": [{"stage": "spectrum"}]}
    one |= {"steps": {"aa": [{"content": True}], "bb": steps}}
    one["variants"] = {"raw": {"parts": [{"chain": "aa"}, {"chain": "bb"}]}}
    ((absent, where),) = lacking({"svm": one}).items()
    assert where == {"svm": ["raw"]}
    assert ("bytes-per-pixel" in absent) is wanted
    number = {**one, "model": {"made_from": [{"stage": "measure"}], "config": {"feature": "border_step"}}}
    ((left, _),) = lacking({"svm": one, "number": number}).items()
    assert set(absent) - set(left) == {"border-step"}
    elsewhere = {**number, "rows": [{**number["rows"][0], "source": "other"}]}
    assert list(lacking({"svm": one, "number": elsewhere})) == [absent]
    two = {**one, "rows": [*one["rows"], *elsewhere["rows"]]}
    assert list(lacking({"svm": two, "number": number})) == [absent], "one of two sources is not enough"


def test_the_table_is_written_where_one_says(call: Command, project: Project) -> None:
    assert call("table", "--out", "table.txt").out.strip() == "table.txt"
    assert (project.folder / "table.txt").read_text() == call("table").out


@pytest.mark.parametrize(
    ("words", "sentence", "code"),
    [
        (["spectra"], "'spectra' is no node of the stage 'evaluate'; its nodes are tables", 2),
        (["--metric", "ауc"], "--metric is 'ауc', which no evaluation has", 2),
        (["--against", "cliped"], "--against is 'cliped', which is no row of the table; did you mean 'clipped'?", 2),
        (["--paper", "pipeline.yaml"], "pipeline.yaml is no file of published cells; expected metric, percent", 2),
        (["--set", "nodes.spectra.convention=jung21"], "is not made yet, or stale; `touchstone run tables` makes", 1),
    ],
)
def test_what_cannot_be_shown_is_a_sentence(call: Command, words: list[str], sentence: str, code: int) -> None:
    said = call("table", *words)
    assert sentence in said.err
    assert said.code == code


def results(variant: str, source: str, auc: float | None, trained_on: str = "fakes[p-raw]") -> dict[str, Any]:
    row = {"variant": variant, "source": source, "auc": auc, "auc_interval": [auc, auc], "few_groups": False}
    return {"model": {"trained_on": [trained_on]}, "rows": [row], "null": []}


def test_names_are_as_short_as_tells_detectors_apart() -> None:
    assert short("fakes[progan-R]", "R") == short("fakes[progan-raw]", "P") == "progan"
    assert (short("fakes[progan-R]", "raw"), short("web", "raw"), short("web-raw", "P")) == ("progan-R", "web", "web")
    assert (short("web[raw]", "raw"), short("web[R]", "R"), short("web[raw]", "P")) == ("web", "web", "web")
    one = Evaluation("t[a]", results("raw", "fakes[p-raw]", 0.9), None, "svms", {"train": "p", "detector": "svm"})
    two = Evaluation("t[b]", results("raw", "fakes[p-raw]", 0.8), None, "more", {"train": "p", "detector": "svm"})
    far = Evaluation("t[c]", results("raw", "fakes[q-raw]", 0.7), None, "svms", {"train": "p", "detector": "svm"})
    own = Evaluation("t[d]", results("raw", "fakes[p-raw]", 0.6), "mine", "x", {})
    level = Evaluation("t[e]", results("raw", "fakes[p-raw]", 0.5), None, "residual", {"train": "p", "level": 5})
    assert list(tabulated([one, far, own, level], "auc").cells) == ["svm", "mine", "residual 5"]
    table = tabulated([one, two], "auc")
    assert list(table.cells) == ["svms svm", "more svm"]
    assert table.columns == [Column("p", "p", "raw")]


def test_sources_of_one_short_name_have_a_column_each() -> None:
    lines = [results("raw", source, auc)["rows"][0] for source, auc in
             (("near[p]", 0.9), ("far[p]", 0.6), ("near[q]", 0.7))]  # fmt: skip
    one = Evaluation("t", {**results("raw", "near[p]", 0.9), "rows": lines}, "svm", "svms", {"train": "p"})
    other = Evaluation("u", results("raw", "far[p]", 0.5), "cnn", "svms", {"train": "p"})
    table = tabulated([one, other], "auc")
    values = {(row, column.tested): cell.value for row, found in table.cells.items() for column, cell in found.items()}
    assert values == {("svm", "near[p]"): 0.9, ("svm", "far[p]"): 0.6, ("svm", "q"): 0.7, ("cnn", "far[p]"): 0.5}
    assert columns_of([one, other], {"far[p]"}) == {Column("p", "far[p]", "raw")}


def test_rows_of_another_split_are_called_so_beside_those_of_the_test() -> None:
    made = [Evaluation(split, results("raw", "fakes[p-raw]", 0.9) | {"split": split}, split[0], "x", {"train": "p"})
            for split in ("test", "val")]  # fmt: skip
    assert list(tabulated(made, "auc").cells) == ["t", "v (val)"]
    assert list(tabulated(made[1:], "auc").cells) == ["v"]


def test_without_an_image_in_common_there_is_no_difference(tmp_path: Path) -> None:
    kinds, made = np.arange(40, dtype=np.uint8) % 2, []
    for name, ids in (("a", range(40)), ("b", range(40, 80))):
        (tmp_path / name).mkdir()
        about = results("raw", "fakes[p-raw]", 0.5)
        about["model"]["threshold"], about["variants"] = 0.5, {"raw": {"reals_from": "raw"}}
        names = np.frombuffer(b"".join(one.to_bytes(16, "big") for one in ids), "V16")
        zeros = np.zeros(40, np.int32)
        words = {"sources": np.array(["fakes[p-raw]"]), "variants": np.array(["raw"])}
        values = {"id": names, "group": names, "label": kinds, "score": np.linspace(0, 1, 40)}
        np.savez(tmp_path / name / "scores.npz", variant=zeros, source=zeros, **words, **values)
        (tmp_path / name / "results.json").write_text(json.dumps(about))
        made.append((Evaluation(name, about, name, "x", {"train": "p"}), tmp_path / name))
    table = differences(made, "auc", "b")
    assert table.cells == {"a": {Column("p", "p", "raw"): Cell(None)}}
    assert table.apart == ["a and b have scored no image of p raw alike, so there is no difference"]
    assert json.loads(json.dumps(table_formats.as_data(table, None), allow_nan=False))["cells"][0]["value"] is None


def test_the_null_result_is_that_of_raw_rows_whatever_the_order_and_in_percent_as_all_else() -> None:
    halves = {name: {"variant": name, "auc": auc, "auc_interval": [0.4, 0.6], "few_groups": False}
              for name, auc in (("raw", 0.5), ("P", 0.25))}  # fmt: skip
    both = [
        Evaluation(f"t[{name}]", results(name, "fakes[p-raw]", 0.75) | {"null": [halves[name]]}, "svm", "svms", {})
        for name in halves
    ]
    for order in (both, both[::-1]):
        table = tabulated(order, "auc")
        assert table.null == {("svm", "p"): Cell(0.5, 0.4, 0.6)}
        assert table_formats.grid(table, None, True, False)[1] == ["svm", "75.0", "75.0", "75.0", "75.0", "50.0"]
    assert tabulated(both[1:], "auc").null == {("svm", "p"): Cell(0.25, 0.4, 0.6)}


def test_missing_values_count_in_no_mean() -> None:
    table = Table("auc")
    for variant, value in (("raw", 0.9), ("P", None), ("R", 0.5)):
        table.put("svm", Column("p", "p", variant), Cell(value))
    table.put("other", Column("p", "q", "raw"), Cell(None))
    assert (table.mean("svm"), table.least("svm")) == (0.7, 0.5)
    lines = table_formats.grid(table, None, False, False)
    assert lines[1] == ["svm", "0.900", "-", "0.500", "-", "0.700 (2 of 4)", "0.500"]
    assert lines[2][1:] == ["-"] * 6
    assert np.isnan(table.mean("other"))
    text = table_formats.as_data(table, None)
    assert text["rows"][1] == {"row": "other", "mean": None, "minimum": None}


def test_letters_that_mean_something_in_latex_and_markdown_are_plain_there() -> None:
    lines = [["a_b & 50%", "x|y"], ["p > q", "1"]]
    assert r"a\_b \& 50\% & x|y \\" in table_formats.as_latex(lines)
    assert re.search(r"x\\\|y", table_formats.as_markdown(lines))
    paper = from_paper({"metric": "auc", "cells": {"svm": {"p": {"raw": 0.5}}}})
    assert paper.cells["svm"][Column("p", "p", "raw")] == Cell(0.5)
    assert beside(paper, paper) == []
    assert issubclass(ConfigError, Exception)
