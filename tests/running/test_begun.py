"""What a killed run has computed and not published: bounded by rows or seconds, taken up, and never wrong."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killed_run import killed_run
from store_rows import CHAIN, SCHEMA, make_rows, snapshot
from toy_project import Project, toy_id
from warm_process import warm

from pipeline.errors import StageError
from pipeline.planning.planned import Plan
from pipeline.running.begun import Keeper, take_up
from pipeline.running.compute import Values
from pipeline.running.task_maker import TaskMaker
from pipeline.running.tasks import Facts, ShardTask, compute_rows, compute_shard, open_store
from pipeline.running.works import works_of
from pipeline.runs import this_run
from pipeline.stage import Schema
from pipeline.storage import kept_rows
from pipeline.storage.kept_rows import KeptRows

LONG = """
nodes:
  a: {stage: "toy:Numbers", count: 1200, shard_rows: 1200}
  b: {stage: "toy:Scale", of: a, shard_rows: 1200}
"""


@pytest.mark.parametrize(
    ("row_s", "rows", "begun", "kept"),
    [
        (0.03, 1000, 1054, "a: 922 rows"),  # blocks of 64, 66, 66 rows of less than 2 s each: two of them before a file
        (1.0, 150, 152, "a: 148 rows"),  # 64 rows, then 2 in 2 s
        (0.02, 2000, 2005, "b: 784 rows"),  # 1,200 rows of a, then blocks of 7 in 0.14 s: 28 of them before a file
    ],
    ids=["1.98 s a block", "2 s a block", "0.14 s a block"],
)
def test_a_kill_costs_64_rows_or_5_seconds_of_the_task_in_flight(
    row_s: float,
    rows: int,
    begun: int,
    kept: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project = Project(tmp_path, monkeypatch, LONG)
    case = {"file": str(project.file), "log": str(project.log), "rows": rows, "row_s": row_s}
    assert warm().run(killed_run, case) == -signal.SIGKILL
    assert project.computed().total() == begun
    project.run(bars=True)
    assert f"{kept} of a run that did not end were taken up" in capsys.readouterr().err
    lost = begun + project.computed().total() - 2400
    assert 0 < lost <= max(64, 5 / row_s)
    values = {(node, row): value for (node, row, field), value in project.rows().items() if field == "value"}
    assert values == {
        (node, toy_id(number)): np.float64(factor * number).tobytes()
        for node, factor in (("a", 1.0), ("b", 2.0))
        for number in range(1200)
    }
    assert not list((project.folder / "store" / "scratch").iterdir()), "nothing is left of tasks that have ended"


def task_of(plan: Plan, node: str, run: Any) -> ShardTask:
    (work,) = [one for one in works_of(plan, 1) if one.node == node]
    return TaskMaker(plan, Facts(plan.store.root, run, 0, "cpu", 1)).shard(work)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    open_store.cache_clear()
    return Project(tmp_path, monkeypatch, LONG.replace("1200", "6"))


def plant(task: ShardTask, parents: np.ndarray | None, *numbers: int) -> Path:
    """Keep rows of a task, with the value 99 that no stage gives."""
    ids = np.frombuffer(b"".join(map(toy_id, numbers)), "V16")
    arrays = {name: np.full((len(ids), *field.shape), 99, field.dtype) for name, field in task.schema.items()}
    path = kept_rows.keep(task.facts.store, task.chain, task.schema, KeptRows(ids, parents, arrays))
    assert path is not None
    return path


def values_of(task: ShardTask) -> dict[bytes, float]:
    found = compute_rows(task)
    return {bytes(task.ids[row]): float(value) for row, value in zip(found.done, found.arrays["value"], strict=True)}


def test_rows_are_taken_up_by_whoever_wants_them_and_files_go_with_the_last(project: Project) -> None:
    task = task_of(project.plan(), "a", this_run())
    own, shared = plant(task, None, 0, 3), plant(task, None, 3, 4)
    some = task.take(np.flatnonzero(task.ids != np.frombuffer(toy_id(4), "V16")))
    assert values_of(some) == {toy_id(number): 99.0 if number in (0, 3) else number for number in (0, 1, 2, 3, 5)}
    outcome = compute_shard(some)
    assert (outcome.computed, outcome.begun) == (5, 2)
    assert (own.exists(), shared.exists()) == (False, True), "another task may want row 4"


def test_rows_made_of_other_values_are_not_taken_up(project: Project) -> None:
    project.run("a")
    task = task_of(project.plan(), "b", this_run())
    true = compute_rows(task)
    assert true.parents is not None
    places = {bytes(task.ids[row]): place for place, row in enumerate(true.done)}
    parents = true.parents[[places[toy_id(0)], places[toy_id(1)], places[toy_id(1)]]]
    plant(task, parents, 0, 1, 2)
    assert values_of(task) == {toy_id(number): 99.0 if number < 2 else 2.0 * number for number in range(6)}


def test_who_rebuilds_rows_to_compare_them_takes_nothing_up_and_keeps_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of(project.plan(), "a", None)
    plant(task, None, 0, 1)
    before = snapshot(project.folder)
    monkeypatch.setattr("pipeline.running.begun.LOST_S", 0.0)
    monkeypatch.setattr("toy.Numbers.block_rows", 2)
    monkeypatch.delenv("TOY_LOG")
    assert values_of(task) == {toy_id(number): float(number) for number in range(6)}
    assert snapshot(project.folder) == before


def test_what_is_not_proven_is_not_kept(tmp_path: Path) -> None:
    def refuse() -> None:
        raise StageError("the code was changed")

    ids, arrays = make_rows(0, 4)
    keeper = Keeper(tmp_path, CHAIN, SCHEMA, ids, None, refuse, clock=iter([0.0, 9.0, 9.0]).__next__)
    keeper.rows(4, 1)
    with pytest.raises(StageError, match=r"^the code was changed$"):
        keeper.done(4, Values(np.arange(4), arrays, {}), False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("first", [0, 30, 200, -40, -1])
def test_a_file_that_is_not_what_was_written_is_passed_over(first: int, tmp_path: Path) -> None:
    ids, arrays = make_rows(0, 4)
    path = kept_rows.keep(tmp_path, CHAIN, SCHEMA, KeptRows(ids, ids, arrays))
    assert path is not None
    data = bytearray(path.read_bytes())
    assert take_up(tmp_path, CHAIN, SCHEMA, ids, ids).rows.tolist() == [0, 1, 2, 3]
    data[first] ^= 1
    path.write_bytes(data)
    assert take_up(tmp_path, CHAIN, SCHEMA, ids, ids).rows.tolist() == []
    path.write_bytes(bytes(data[: first % len(data)]))
    assert take_up(tmp_path, CHAIN, SCHEMA, ids, ids).rows.tolist() == []


def test_rows_are_those_of_their_chain_and_schema(tmp_path: Path) -> None:
    ids, arrays = make_rows(0, 4)
    path = kept_rows.keep(tmp_path, CHAIN, SCHEMA, KeptRows(ids, ids, arrays))
    assert path is not None
    begun = take_up(tmp_path, CHAIN, SCHEMA, ids[[2, 0]], ids[[2, 0]])
    assert sorted(begun.rows.tolist()) == [0, 1]
    order = np.argsort(begun.rows)
    assert begun.arrays["image"][order].tolist() == arrays["image"][[2, 0]].tolist()
    fewer: Schema = {"score": SCHEMA["score"]}
    assert take_up(tmp_path, CHAIN, fewer, ids, ids).rows.tolist() == []
    assert take_up(tmp_path, CHAIN, SCHEMA, ids, None).rows.tolist() == []
    other = CHAIN[:8] + bytes(8)
    assert kept_rows.folder(tmp_path, other) == path.parent
    assert take_up(tmp_path, other, SCHEMA, ids, ids).rows.tolist() == []
