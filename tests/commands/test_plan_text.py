"""What `plan`, `status` and `graph` print, word for word, on three nodes of toys."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_project import Project

from pipeline.commands.plan_text import mermaid, plan_data, plan_lines, stale_lines, status_data, status_lines
from pipeline.planning.explain import Explainer, Staleness
from pipeline.sentences import duration

THREE = """
nodes:
  a: {stage: "toy:Numbers", count: 4}
  twice: {stage: "toy:Scale", of: a, factor: 2.0}
  mean: {stage: "toy:Mean", on: twice}
"""
GRAPH = """flowchart LR
  classDef stale stroke-dasharray: 4
  n0["a<br/>{0} of 4"]{1}
  n1["twice<br/>{0} of 4"]{1}
  n0 --> n1
  n2(["mean"]){1}
  n1 --> n2"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path / "project", monkeypatch, THREE)


def test_of_an_empty_store_everything_is_to_be_done(project: Project) -> None:
    plan = project.plan()
    states = Explainer(plan).all()
    assert list(plan_lines(plan, states, verbose=False)) == [
        "a: 4 rows         new: in source a; computed by no shard yet",
        "twice: 4 rows     new: in source a; computed by no shard yet",
        "mean: 1 artifact  new: made by no run yet",
        "in all: 8 rows, not estimated; 1 artifact, not estimated",
    ]
    assert list(plan_lines(plan, states, verbose=True)) == [
        "a: STALE  4 of 4 rows",
        "  new: in source a; computed by no shard yet (4 rows)",
        "twice <- a: STALE  4 of 4 rows",
        "  new: in source a; computed by no shard yet (4 rows)",
        "mean: STALE  to be made",
        "  new: made by no run yet",
        "in all: 8 rows, not estimated; 1 artifact, not estimated",
    ]
    assert list(status_lines(plan)) == [
        "a      numbers     0 of 4 rows",
        "twice  scale       0 of 4 rows",
        "mean   mean        to be made from 4 rows",
    ]
    assert mermaid(plan) == GRAPH.format(0, ":::stale")
    data = plan_data(plan, states)
    assert {name: data[name] for name in data if name != "nodes"} == {
        "rows": 8, "artifacts": ["mean"], "notes": [], "failed": {}, "fails": None,
    }  # fmt: skip
    assert [(one["node"], one["missing"], one["estimate_s"]) for one in data["nodes"]] == [
        ("a", 4, None), ("twice <- a", 4, None), ("mean", 1, None),
    ]  # fmt: skip


def test_after_a_run_nothing_is(project: Project) -> None:
    project.run()
    plan = project.plan()
    assert list(plan_lines(plan, Explainer(plan).all(), verbose=False)) == [
        "nothing to compute: 8 rows and 1 artifact are fresh"
    ]
    assert list(status_lines(plan))[2] == "mean   mean        made from 4 rows"
    assert mermaid(plan) == GRAPH.format(4, "")
    found = [{name: one[name] for name in one if name not in ("chains", "key")} for one in status_data(plan)]
    assert found == [
        {"node": "a", "stage": "numbers", "kind": "rows", "wanted": 4, "present": 4, "failed": 0},
        {"node": "twice", "stage": "scale", "kind": "rows", "wanted": 4, "present": 4, "failed": 0},
        {"node": "mean", "stage": "mean", "kind": "artifact", "present": True, "pinned": False, "rows": 4},
    ]


def test_a_row_that_may_fail_is_counted(project: Project) -> None:
    project.replace("of: a, factor", "of: a, max_failed_rows: 1, factor")
    project.break_numbers(2)
    project.run()
    plan = project.plan(recorded=True)
    assert list(status_lines(plan))[1:] == [
        "twice  scale       3 of 4 rows, 1 failed",
        "mean   mean        made from 3 rows",
    ]
    assert mermaid(plan) == GRAPH.format(4, "").replace("twice<br/>4", "twice<br/>3")


def test_one_state_is_a_headline_and_its_first_cause() -> None:
    causes = [("config", "factor 2 -> 3", 1200), ("new", "in source a", 34)]
    state = Staleness("b <- a", 5000, 1234, causes, seconds=95.0)
    assert list(stale_lines(state, verbose=False)) == [
        "b <- a: STALE  1,234 of 5,000 rows, est. 2 min",
        "  config: factor 2 -> 3 (1,200 rows)",
        "  and 1 more (-v)",
    ]
    assert list(stale_lines(state, verbose=True))[1:] == [
        "  config: factor 2 -> 3 (1,200 rows)",
        "  new: in source a (34 rows)",
    ]
    fresh = Staleness("b", 10, 0, failed=1, unreadable=2)
    assert list(stale_lines(fresh, verbose=False)) == []
    assert list(stale_lines(fresh, verbose=False, fresh=True)) == [
        "b: fresh (9 rows), 1 failed (allowed); `run` tries again, 2 cannot be read"
    ]


def test_many_nodes_of_an_entry_are_one_line_with_the_cause_that_most_rows_have(project: Project) -> None:
    plan = project.plan()
    digests = f"files.checkpoint {'0' * 37}... -> {'1' * 37}..."
    states = [
        Staleness("twice <- a", 9, 5, [("artifact", digests, 5)], seconds=3.0),
        Staleness("twice <- b", 9, 9, [("schema", "schema.x 1 -> 2", 9), ("artifact", digests, 3)], seconds=40.0),
        Staleness("mean", 1, 1, [("artifact", f"artifact.model m[1] {'2' * 32} -> {'3' * 32}", 1)], 95.0, "artifact"),
    ]
    assert list(plan_lines(plan, states, verbose=False)) == [
        "twice: 14 of 18 rows, about 43 s  artifact: files.checkpoint changed (and 1 other cause, -v)",
        "mean: 1 artifact, about 2 min     artifact: artifact.model changed",
        "in all: 14 rows, about 43 s of one core; 1 artifact, about 2 min of one core",
    ]
    states[0].seconds = None
    assert list(plan_lines(plan, states, verbose=False))[::2] == [
        "twice: 14 of 18 rows           artifact: files.checkpoint changed (and 1 other cause, -v)",
        "in all: 14 rows, about 40 s of one core (without 1 of 2); 1 artifact, about 2 min of one core",
    ]


def test_what_does_not_fit_a_screen_is_counted(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.commands.plan_text.SCREEN", 1)
    plan = project.plan()
    lines = list(plan_lines(plan, Explainer(plan).all(), verbose=False))
    assert lines[1:-1] == ["and what 2 more entries need (-v)"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (38, "38 s"), (89.4, "89 s"), (90, "2 min"), (720, "12 min"), (5399, "90 min"), (12240, "3.4 h")],
)
def test_durations_are_told_in_one_unit(seconds: float, words: str) -> None:
    assert duration(seconds) == words
