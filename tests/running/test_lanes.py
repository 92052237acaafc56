"""Runs on GPUs that are not there: a process for each of them on this machine, workers for each on a cluster."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import toy_lanes
from distributed import Scheduler, SpecCluster, Worker, get_worker
from toy_lanes import Said
from toy_project import Project, forked_workers, tree

from pipeline.errors import ClusterError
from pipeline.running import cluster, devices, lanes, tasks
from pipeline.running import run as running
from pipeline.running.cluster import DaskExecutors
from pipeline.running.executors import Executors
from pipeline.running.stopping import default_workers

LINE = """
device: cuda
nodes:
  a: {stage: "toy:Numbers", count: 24}
  where: {stage: "toy_lanes:Where", of: a, shard_rows: 12}
  lane: {stage: "toy_lanes:Lane", of: where, shard_rows: 4, meet: 1}
  fit: {stage: "toy_lanes:Fit", on: lane}
  after: {stage: "toy:Scale", of: lane}
"""


@pytest.fixture
def line(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A pipeline for a machine with two GPUs."""
    monkeypatch.setattr(running, "check_device", lambda *_: None)
    monkeypatch.setattr(devices, "visible_gpus", lambda: ["0", "3"])
    monkeypatch.setenv("TOY_LANES", str(tmp_path / "lanes"))
    return Project(tmp_path / "project", monkeypatch, LINE)


def results(line: Project) -> tuple[dict[Any, bytes], dict[str, bytes]]:
    """Values of all rows, and what the training has learned."""
    return line.rows(), tree(line.folder / "store" / "lane_fit", "*/sum.txt")


# This machine


def test_each_gpu_has_a_process_that_sees_no_other_and_all_else_is_done_by_threads(
    line: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them is killed; nobody goes on before three have begun. Values are those of one process."""
    monkeypatch.setattr(DaskExecutors, "gpus", lambda self: [])  # they would import torch
    line.replace("meet: 1", "meet: 3")
    (line.folder / "die").touch()
    with forked_workers():
        assert line.run("fit", workers=None).computed == {"a": 24, "where": 24, "lane": 24, "fit": 1}
    assert not (line.folder / "die").exists()
    found = toy_lanes.said()
    processes = {one for one in found if one.stage == "lane"}
    assert {one.gpus for one in processes} == {"0", "3"}
    assert len({one.process for one in processes}) == len(processes) == 3
    (fit,) = (one for one in found if one.stage == "lane_fit")
    assert Said("lane", fit.process, fit.gpus) in processes
    assert {one for one in found if one.stage == "where"} == {Said("where", os.getpid(), "-")}
    here = results(line)
    line.remove_store()
    monkeypatch.delenv("TOY_LANES")
    line.run("fit", workers=1)
    assert results(line) == here


def test_processes_are_started_when_a_gpu_is_wanted_and_not_before(
    line: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of the network vanish while others read them."""
    started: list[Any] = []
    submit = Executors.submit

    def losing(self: Executors, node: str, *rest: Any) -> Any:
        if node == "after" and not started:
            shutil.rmtree(next(path for path in line.shards() if path.parts[-3] == "lane"))
        return submit(self, node, *rest)

    class Noted(Executors):
        def __init__(self, workers: int, gpus: list[str]) -> None:
            super().__init__(workers)
            self.lanes = len(gpus)
            started.append((workers, gpus))

    monkeypatch.setattr(lanes, "LaneExecutors", Noted)
    assert line.run("where", workers=None).computed == {"a": 24, "where": 24}
    assert line.run("lane").computed == {"lane": 24}
    assert not started, "a single worker is this process"
    monkeypatch.setattr(Executors, "submit", losing)
    assert line.run("after", workers=None).computed == {"lane": 4, "after": 24}
    assert started == [(default_workers(), ["0", "3"])]


def test_a_system_that_gives_no_processes_is_one_sentence(line: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", refuse)
    with pytest.raises(
        ClusterError, match=r"^device cuda needs locks .* or add --workers 1 to compute with threads of"
    ):
        line.run("lane", workers=None)


@pytest.mark.parametrize(
    ("told", "count", "names"),
    [
        (None, 2, ["0", "1"]),
        ("2,5", 2, ["2", "5"]),
        ("GPU-8932f937, GPU-1aa2bb3c", 2, ["GPU-8932f937", "GPU-1aa2bb3c"]),
        ("1,9", 1, ["1"]),
        ("", 0, []),
    ],
)
def test_each_process_sees_one_of_the_gpus_that_this_one_may_use(
    told: str | None, count: int, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if told is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", told)
    assert devices.visible_gpus() == names


# A cluster


@pytest.fixture
def address() -> Iterator[str]:
    """A cluster of somebody else's in threads of this process; the command of one worker names no resource."""
    place = {"host": "127.0.0.1", "protocol": "tcp://"}
    workers = {
        "gpu": {"cls": Worker, "options": {**place, "nthreads": 2, "resources": {"GPU": 1}}},
        "plain": {"cls": Worker, "options": {**place, "nthreads": 1}},
    }
    scheduler = {"cls": Scheduler, "options": {**place, "dashboard_address": "127.0.0.1:0", "dashboard": False}}
    with SpecCluster(workers=workers, scheduler=scheduler, silence_logs=50) as found:
        yield found.scheduler_address


def test_workers_with_a_gpu_are_asked_for_it_and_kept_for_what_wants_one(
    line: Project, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "check_device", lambda *_: pytest.fail("this machine needs no GPU"))
    monkeypatch.setattr(devices, "visible_gpus", lambda: pytest.fail("this machine needs no GPU"))
    monkeypatch.setattr(cluster, "gpu_here", toy_lanes.gpu_of_worker)
    did: set[tuple[str, str]] = set()
    plain = cluster.work_on_worker
    monkeypatch.setattr(
        cluster, "work_on_worker", lambda node, task: (did.add((node, get_worker().name)), plain(node, task))[1]
    )
    asked: list[Any] = []
    monkeypatch.setattr(devices, "mixed", lambda node, before, now, allowed: asked.append((node, now)))
    assert running.run(line.load(), [], scheduler=address).computed["fit"] == 1
    assert did == {("a", "plain"), ("where", "plain"), ("after", "plain"), ("lane", "gpu"), ("fit", "gpu")}
    assert asked == [("lane", [{"model": "that of gpu", "cuda": "", "cudnn": ""}])]


def test_a_worker_that_publishes_computes_the_next_rows_meanwhile(
    line: Project, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first shard is not published before the next one is computed."""
    monkeypatch.setattr(DaskExecutors, "gpus", lambda self: [])
    computed: list[str] = []
    next_one = threading.Event()
    compute, publish = toy_lanes.Lane.compute, tasks.publish_rows

    def counting(self: Any, *given: Any) -> Any:
        computed.append("rows")
        if len(computed) == 2:
            next_one.set()
        return compute(self, *given)

    def waiting(task: Any, *given: Any) -> Any:
        assert task.node != "lane" or next_one.wait(toy_lanes.LONGEST_S), "nothing is computed meanwhile"
        return publish(task, *given)

    monkeypatch.setattr(toy_lanes.Lane, "compute", counting)
    monkeypatch.setattr(tasks, "publish_rows", waiting)
    assert running.run(line.load(), ["lane"], scheduler=address).computed == {"a": 24, "where": 24, "lane": 24}
