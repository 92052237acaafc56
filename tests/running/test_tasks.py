"""What a worker does for a shard: rows whose inputs are missing, digests of the parents, and files behind rows."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import toy
from toy_project import Project, toy_id

from pipeline.dataset import Dataset, Part
from pipeline.errors import StageError
from pipeline.planning.planned import Plan
from pipeline.running import tasks
from pipeline.running.task_maker import TaskMaker
from pipeline.running.tasks import Content, Facts, ShardTask, compute_rows, compute_shard, open_store
from pipeline.running.works import works_of
from pipeline.runs import this_run
from pipeline.stage import RowError

PIPELINE = """
nodes:
  a: {stage: "toy:Numbers", count: 6}
  scaled: {stage: "toy:Scale", of: a, factor: 10.0}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    open_store.cache_clear()
    return Project(tmp_path, monkeypatch, PIPELINE)


def shard_task(plan: Plan, node: str) -> ShardTask:
    """The task of all rows of a node, in the name of a run that is going on."""
    facts = Facts(plan.store.root, this_run(), 0, "cpu", 1)
    (work,) = [one for one in works_of(plan, 1) if one.node == node]
    return TaskMaker(plan, facts).shard(work)


def test_rows_are_published_and_those_without_inputs_are_told(project: Project) -> None:
    plan = project.plan()
    numbers = shard_task(plan, "a")
    first = numbers.take(np.flatnonzero(numbers.payload["number"] < 4))
    assert (compute_shard(first).computed, open_store(plan.store.root).root) == (4, plan.store.root)
    scaled = shard_task(plan, "scaled")
    outcome = compute_shard(scaled)
    assert outcome.computed == 4
    assert set(outcome.skipped) == {toy_id(4), toy_id(5)}
    assert outcome.failed == ()
    present = np.frombuffer(b"".join(toy_id(number) for number in range(4)), dtype="V16")
    stored = Dataset(project.store, [Part("scale", scaled.chain, scaled.schema, present)], {})
    assert stored.array("value").tolist() == [0.0, 10.0, 20.0, 30.0]


def test_a_failed_row_is_recorded_beside_the_shard_and_forgotten_when_it_succeeds(project: Project) -> None:
    project.run("a")
    scaled = shard_task(project.plan(), "scaled")
    project.break_numbers(3.0)
    outcome = compute_shard(scaled)
    assert outcome.failed == ((toy_id(3), "the number 3 is broken"),)
    ((failed, record),) = project.store.failures("scale", scaled.chain).items()
    assert (failed, record["reason"]) == (toy_id(3), "the number 3 is broken")
    project.break_numbers()
    assert compute_shard(scaled.take(np.flatnonzero(scaled.ids == np.frombuffer(toy_id(3), "V16")))).computed == 1
    assert project.store.failures("scale", scaled.chain) == {}


def test_a_result_from_inputs_that_changed_meanwhile_is_dropped(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.run("a")
    digests = iter([np.zeros(6, "V16"), np.frombuffer(bytes([1]) * 96, "V16")])
    monkeypatch.setattr(tasks, "_input_digests", lambda task, datasets: [next(digests)])
    with pytest.raises(StageError, match=r"^scaled: rows that it reads were computed again with other values while"):
        compute_rows(shard_task(project.plan(), "scaled"))


def test_a_file_is_read_only_if_it_is_what_the_row_says(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(b"pixels")
    content = Content(toy.Numbers(), None, [str(tmp_path / "gone.png"), str(path)])
    expected = hashlib.sha256(b"pixels").digest()[:16]
    assert content.read(1, expected) == b"pixels"
    assert content.take(np.array([1])).read(0, expected) == b"pixels"
    with pytest.raises(RowError, match=r"cat\.png is not what its manifest or the scan says .* expected 000000000000"):
        content.read(1, bytes(16))
    with pytest.raises(RowError, match=r"gone\.png cannot be read: No such file or directory$"):
        content.read(0, expected)
