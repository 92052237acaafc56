"""From a plan to works: how rows are cut into shards, and what each work waits for."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from toy_project import Project, toy_id

from pipeline.errors import DamagedShardError
from pipeline.planning.selection import Selection, Side
from pipeline.running.task_maker import TaskMaker, view_of
from pipeline.running.tasks import Facts
from pipeline.running.works import works_of

PIPELINE = """
nodes:
  a: {stage: "toy:Numbers", count: 200, shard_rows: 80}
  b: {stage: "toy:Numbers", first: 1000, count: 20, label: 1}
  scaled: {stage: "toy:Scale", of: [a, b], shard_rows: 100}
  twins: {stage: "toy:Scale", of: a, shard_rows: 100}
  mean: {stage: "toy:Mean", on: scaled}
  centered: {stage: "toy:Center", of: b, mean: mean}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path, monkeypatch, PIPELINE)


def test_missing_rows_are_cut_into_shards_and_a_chain_is_computed_once(project: Project) -> None:
    works = works_of(project.plan(), 1)
    cut = [(one.node, one.rows) for one in works]
    assert cut == [
        ("a", 80), ("a", 80), ("a", 40), ("b", 20),
        ("scaled", 100), ("scaled", 100), ("scaled", 20),  # one chain over a, one over b; `twins` has the first one's
        ("mean", 0), ("centered", 20),
    ]  # fmt: skip
    assert [one.number for one in works] == list(range(9))


def test_a_work_waits_for_those_that_make_its_rows_and_no_others(project: Project) -> None:
    works = works_of(project.plan(), 1)
    by_rows = {frozenset(_ids(one)): one.number for one in works if one.node == "a"}
    for work in works:
        if work.node == "scaled":
            needed = {number for ids, number in by_rows.items() if ids & _ids(work)} or {3}
            assert work.waits == needed
    mean, centered = works[7], works[8]
    assert mean.waits == {4, 5, 6}
    assert centered.waits == {3, 7}


def _ids(work: object) -> set[bytes]:
    return {bytes(one) for one in work.branch.rows.id[work.positions]}  # type: ignore[attr-defined]


def test_what_is_there_is_no_work(project: Project) -> None:
    project.run("scaled")
    assert [one.node for one in works_of(project.plan(), 1)] == ["mean", "centered"]
    project.run()
    assert works_of(project.plan(), 1) == []


def test_shards_share_the_workers_but_none_is_tiny(project: Project) -> None:
    project.replace(", shard_rows: 80", "")
    assert [one.rows for one in works_of(project.plan(), 1) if one.node == "a"] == [100, 100]
    assert [one.rows for one in works_of(project.plan(), 8) if one.node == "a"] == [64, 64, 64, 8]


def test_a_task_is_told_its_rows_and_a_fit_no_test_rows(project: Project) -> None:
    project.run("scaled")
    plan = project.plan()
    maker = TaskMaker(plan, Facts(plan.store.root, None, 5, "cpu", 1), {"a": [f"{project.folder}/cat.png is gone"]})
    mean, centered = works_of(plan, 1)
    task = maker.make(mean)
    parts, table = task.views["on"][""]  # type: ignore[union-attr]
    assert set(table) == {"label", "split"}
    assert set(table["split"].tolist()) == {"train", "val"}
    assert sum(len(part.ids) for part in parts) == len(table["label"]) < 220
    assert [[step["stage"] for step in part.steps] for part in parts] == [["numbers", "scale"]] * 2
    assert task.failed == {"a": ["cat.png is gone"]}  # type: ignore[union-attr]
    project.run("mean")
    plan = project.plan()
    (centered,) = works_of(plan, 1)
    shard = TaskMaker(plan, Facts(plan.store.root, None, 5, "cpu", 1)).shard(centered)
    assert {bytes(one) for one in shard.ids} == {toy_id(number) for number in range(1000, 1020)}
    assert [one.node for one in shard.artifacts["mean"]] == ["mean"]
    assert set(shard.claim.code) == {"toy"}


def test_an_artifact_that_is_damaged_is_not_given_to_a_task(project: Project) -> None:
    project.run("mean")
    plan = project.plan()
    (file,) = project.folder.glob("store/mean/*/mean.json")
    file.write_bytes(file.read_bytes().replace(b"0", b"1"))
    maker = TaskMaker(plan, Facts(plan.store.root, None, 0, "cpu", 1))
    with pytest.raises(DamagedShardError, match=r"mean\.json is damaged: SHA-256"):
        maker.make(works_of(plan, 1)[0])


def test_a_view_names_label_split_source_and_group_of_each_row(project: Project) -> None:
    plan = project.plan()
    parts, table = view_of(plan, plan.artifacts["mean"].views["on"][""])
    born_in_b = {toy_id(number) for number in range(1000, 1020)}
    of_b = [bytes(one) in born_in_b for part in parts for one in part.ids]
    assert [name == "b" for name in table["source"].tolist()] == of_b
    assert [label == 1 for label in table["label"].tolist()] == of_b
    assert set(table["domain"].tolist()) == {""}
    assert len(table["group"]) == len(of_b)


def test_the_origin_of_a_row_is_what_it_was_made_of_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path, monkeypatch, """
nodes:
  a: {stage: "toy:Numbers", count: 3}
  drawn: {stage: "toy:Jitter", of: a, draws: 2}
  again: {stage: "toy:Jitter", of: drawn, draws: 2}
  scaled: {stage: "toy:Scale", of: [again, a]}
""")  # fmt: skip
    plan = project.plan()
    selections = [Selection((Side(branch, np.arange(len(branch.rows))),)) for branch in plan.branches["scaled"]]
    parts, table = view_of(plan, selections, ("label", "origin"))
    assert sorted(table) == ["label", "origin"]
    origins = [bytes(one) for one in table["origin"]]
    own = [bytes(one) for part in parts for one in part.ids]
    assert sorted(origins) == sorted([toy_id(number) for number in range(3)] * 5)
    for row, origin in zip(own, origins, strict=True):
        assert row == origin or row in {
            expanded(expanded(origin, first), second) for first in range(2) for second in range(2)
        }
    assert "origin" not in view_of(plan, selections)[1]


def expanded(parent: bytes, index: int) -> bytes:
    return hashlib.sha256(b"touchstone/expand" + bytes([1] + [0] * 7) + parent + index.to_bytes(8, "little")).digest()[
        :16
    ]
