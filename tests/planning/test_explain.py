"""`explain`: the cause of staleness, from the closed list, in exact words."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
from code_project import Code
from PIL import Image
from toy_project import Project, touchstone, toy_id

from pipeline.commands.plan_text import plan_data, plan_lines, stale_lines
from pipeline.errors import FailedRowsError
from pipeline.planning.explain import CAUSES, Explainer

LINE = """
nodes:
  a: {stage: "toy:Numbers", count: 20}
  b: {stage: "toy:Scale", of: a, factor: 2.0}
  noisy: {stage: "toy:Jitter", of: b}
  mean: {stage: "toy:Mean", on: b}
  centered: {stage: "toy:Center", of: b, mean: mean}
"""


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = Project(tmp_path / "project", monkeypatch, LINE)
    project.run()
    return project


def test_a_fresh_pipeline_has_no_cause(line: Project) -> None:
    assert line.causes() == {}


def test_rows_of_an_empty_store_are_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path, monkeypatch, LINE)
    causes = project.causes()
    assert causes["a"] == [("new", "in source a; computed by no shard yet", 20)]
    assert causes["noisy"] == [("new", "in source a; computed by no shard yet", 40)]
    assert causes["mean"] == [("new", "made by no run yet", causes["mean"][0][2])]
    assert list(tmp_path.glob("store*")) == []


def test_new_rows_are_counted_apart_from_stale_ones(line: Project) -> None:
    causes = line.causes("nodes.a.count=23", "nodes.b.factor=4.0")
    assert causes["a"] == [("new", "in source a; computed by no shard yet", 3)]
    assert causes["b"] == [
        ("config", "config.factor 2.0 -> 4.0", 20),
        ("new", "in source a; computed by no shard yet", 3),
    ]


def test_config_is_named_with_both_values_and_below_it_upstream(line: Project) -> None:
    causes = line.causes("nodes.b.factor=2.5")
    assert causes["b"] == [("config", "config.factor 2.0 -> 2.5", 20)]
    assert causes["noisy"] == [("upstream", "b: config.factor 2.0 -> 2.5", 40)]
    assert [cause for cause, _, _ in causes["mean"]] == ["upstream"]
    assert causes["mean"][0][1] == "the rows that it is made from changed"
    assert [cause for cause, _, _ in causes["centered"]] == ["artifact", "upstream"]


@pytest.mark.parametrize("harm", ["longer", "gone", "card"])
def test_a_damaged_artifact_is_no_change_of_its_rows(line: Project, harm: str) -> None:
    (card,) = (line.folder / "store" / "mean").glob("*/artifact.json")
    (made,) = (path for path in card.parent.iterdir() if path.name not in (card.name, "consumed.npy"))
    if harm == "gone":
        made.unlink()
    elif harm == "longer":
        made.write_bytes(made.read_bytes() + b" ")
    else:
        card.write_bytes(card.read_bytes().replace(b'"node"', b'"nude"'))
    ((cause, text, _),) = line.causes()["mean"]
    assert cause == "damaged"
    assert text.startswith(str(card if harm == "card" else made))


def test_the_seed_is_a_setting_of_random_stages(line: Project) -> None:
    causes = line.causes("seed=3")
    assert causes["noisy"] == [("config", "seed 0 -> 3", 40)]
    assert "b" not in causes


def test_an_artifact_is_named_by_its_key(line: Project) -> None:
    change = "splits={train: 0.2, val: 0.2, test: 0.6}"
    causes = line.causes(change)
    keys = [line.plan(*overrides).artifacts["mean"].key.hex() for overrides in ((), (change,))]
    assert causes["centered"] == [("artifact", f"artifact.mean {keys[0]} -> {keys[1]}", 20)]
    assert set(causes) == {"mean", "centered"}


def test_a_library_is_environment(line: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.planning.recipes.library_version", lambda name: "99.1")
    causes = line.causes()
    assert causes["b"] == [("env", f"env.numpy {np.__version__} -> 99.1", 20)]
    assert [cause for cause, _, _ in causes["mean"]] == ["env"]


def test_a_schema_is_schema(line: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = {"value": toy.Field("<f8", (), "dB"), "vector": toy.Field("<f4", (3,), "1")}
    monkeypatch.setattr(toy.Scale, "schema", lambda *_: schema)
    assert line.causes()["b"] == [("schema", "schema.value ['<f8', [], '1'] -> ['<f8', [], 'dB']", 20)]


def test_a_failed_row_was_failed_before(line: Project) -> None:
    line.break_numbers(22)
    with pytest.raises(FailedRowsError, match="b: 1 row failed"):
        line.run(overrides=("nodes.a.count=25",))
    causes = line.causes("nodes.a.count=25")
    assert causes["b"] == [("failed before", "tried again (the number 22 is broken)", 1)]
    assert causes["noisy"] == [("new", "in source a; computed by no shard yet", 2)]


def test_failures_of_another_source_of_the_chain_give_no_reason(line: Project) -> None:
    """a and other share their recipe and so the chain of b; of the two failures one is a row of each."""
    line.write(LINE.replace("of: a, factor", "of: [a, other], factor") + '  other: {stage: "toy:Numbers", first: 50}\n')
    line.break_numbers(7, 53)
    with pytest.raises(FailedRowsError):
        line.run("b", overrides=("nodes.b.factor=7.0",))
    states = Explainer(line.plan("nodes.b.factor=7.0")).of("b")
    assert [state.causes for state in states] == [
        [("failed before", f"tried again (the number {number} is broken)", 1)] for number in (7, 53)
    ]


def test_rows_of_another_source_with_the_same_ids_are_no_predecessors(line: Project) -> None:
    """As seeds of two generators are: the rows of `tens` have the ids of a's, and another recipe."""
    twin = '  tens: {stage: "toy:Numbers", offset: 10.0, count: 4}\n'
    line.write(LINE.replace("of: a, factor", "of: [a, tens], factor") + twin)
    for _ in range(2):  # before and after the source is computed
        states = {state.node: state.causes for state in Explainer(line.plan()).of("b")}
        assert states == {"b <- a": [], "b <- tens": [("new", "in source tens; computed by no shard yet", 4)]}
        line.run("tens")
    line.run()
    line.write(line.file.read_text().replace("count: 4", "count: 6"))
    (state,) = Explainer(line.plan()).of("tens")
    assert state.causes == [("new", "in source tens; computed by no shard yet", 2)]


def test_a_new_fit_is_not_explained_by_another_of_its_stage(line: Project) -> None:
    line.write(LINE + '  other: {stage: "toy:Mean", on: a}\n')
    assert [(cause, text) for cause, text, _ in line.causes()["other"]] == [("new", "made by no run yet")]


def test_allowed_failures_leave_the_plan_as_fresh_as_the_run_says(line: Project) -> None:
    allowed = ("--set", "nodes.a.count=25", "--set", "max_failed_rows=1")
    line.break_numbers(22)
    assert touchstone(line, "run", *allowed).returncode == 0
    assert "nothing computed: all else is fresh" in touchstone(line, "run", *allowed).stdout
    said = touchstone(line, "plan", *allowed)
    assert said.stdout.splitlines() == [
        "nothing to compute: 121 rows and 1 artifact are fresh",  # a 25, b 24, noisy 48, centered 24
        "b <- a: 1 failed (allowed); `run` tries again",
    ]
    for node, sentence in {
        "mean": "mean: fresh\n",
        "centered": "centered <- a: fresh (24 rows)\n",
        "b": "b <- a: fresh (24 rows), 1 failed (allowed); `run` tries again\n",
    }.items():
        said = touchstone(line, "explain", node, *allowed)
        assert (said.returncode, said.stdout) == (0, sentence)
    said = touchstone(line, "explain", "b", *allowed[:2])  # not allowed any more
    assert said.returncode == 1
    assert "failed before: tried again (the number 22 is broken) (1 row)" in said.stdout
    assert ":::stale" not in touchstone(line, "graph", *allowed).stdout


def test_a_damaged_shard_is_named(line: Project) -> None:
    shard = next((line.store.chain_dir("scale", line.plan().branches["b"][0].chain)).glob("*.zarr"))
    shutil.rmtree(shard / "vector")
    ((cause, text, rows),) = line.causes()["b"]
    assert (cause, rows) == ("damaged", 20)
    assert text.startswith(f"{shard}/vector/")
    assert "is missing, expected" in text


def test_changed_content_is_told_from_a_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path, monkeypatch, "nodes:\n  photos: {stage: ingest, folder: photos}\n")
    (tmp_path / "photos").mkdir()

    def paint(name: str, seed: int) -> None:
        pixels = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / name)

    for number in range(4):
        paint(f"{number}.png", number)
    project.run()
    paint("0.png", 50)
    paint("9.png", 51)
    assert project.causes()["photos"] == [
        ("content", "files of photos have another content", 1),
        ("new", "in source photos; computed by no shard yet", 1),
    ]


def test_code_names_the_function_and_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = Code(tmp_path, monkeypatch)
    code.run()
    code.edit("one/kernel.py", "def bend(x, power):\n", "# the kernel\ndef bend(x, power):\n    power = float(power)\n")
    causes = code.causes()
    assert causes["one"] == [("code", "touchstone_case_one.kernel changed (bend, line 2)", 9)]
    assert causes["two"] == [("upstream", "one: touchstone_case_one.kernel changed (bend, line 2)", 9)]
    assert set(causes) == {"one", "two"}
    code.forget()


def test_every_cause_is_in_the_closed_list_and_first_comes_first(line: Project) -> None:
    found = line.causes("nodes.b.factor=9.0", "seed=8", "nodes.a.count=22")
    assert {cause for causes in found.values() for cause, _, _ in causes} <= set(CAUSES)
    assert [cause for cause, _, _ in found["noisy"]] == ["config", "upstream", "new"]


def test_the_plan_says_what_would_be_done_in_words(line: Project) -> None:
    plan = line.plan("nodes.b.factor=2.5")
    states = Explainer(plan).all()
    lines = list(plan_lines(plan, states, verbose=False))
    assert lines[0].startswith("b: 20 rows, about ")
    assert lines[0].endswith("  config: config.factor 2.0 -> 2.5")
    assert re.fullmatch(r"in all: 80 rows, about \d+ s of one core; 1 artifact, about \d+ s of one core", lines[-1])
    data = plan_data(plan, states)
    assert (data["rows"], data["artifacts"]) == (80, ["mean"])
    fresh = line.plan()
    assert list(plan_lines(fresh, Explainer(fresh).all(), False)) == [
        "nothing to compute: 100 rows and 1 artifact are fresh"
    ]


def test_all_causes_are_shown_on_demand(line: Project) -> None:
    plan = line.plan("nodes.b.factor=9.0", "nodes.a.count=22")
    (state,) = [state for state in Explainer(plan).all() if state.node == "b <- a"]
    short, long = (list(stale_lines(state, verbose)) for verbose in (False, True))
    assert short[2:] == ["  and 1 more (-v)"]
    assert long[2:] == ["  new: in source a; computed by no shard yet (2 rows)"]


def test_a_row_is_explained_with_its_lineage(line: Project) -> None:
    explainer: Any = Explainer(line.plan("nodes.a.count=21"))
    lines = explainer.row("b", toy_id(4).hex()[:10])
    assert lines[0] == f"{toy_id(4).hex()}  computed in b, born as a {toy_id(4).hex()[:12]}"
    assert lines[1].startswith("  label real, split ")
    assert [text.split(" chain")[0].strip() for text in lines[2:]] == ["b (scale)", "a (numbers)"]
    lines = explainer.row("b", toy_id(20).hex())
    assert "MISSING in b" in lines[0]
    assert lines[-1] == "  computed by no shard yet"
    assert explainer.row("b", "zz") == []
