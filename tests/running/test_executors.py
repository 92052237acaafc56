"""Threads and Dask workers: tasks for the GPU, stops and progress, schedulers that do not answer, a second Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import toy_waiting
from distributed import LocalCluster
from toy_project import Project, environment, forked_workers, touchstone

from pipeline.errors import ConfigError, Interrupted, StageError
from pipeline.running import devices, schedule
from pipeline.running.cluster import DaskExecutors, StopFile
from pipeline.running.executors import Executors
from pipeline.running.placement import Placement
from pipeline.running.run import KEPT_CONFIGS, run
from pipeline.running.tasks import Outcome
from pipeline.storage.store import Store

NETWORK = """
device: cuda
nodes:
  a: {stage: "toy:Numbers", count: 24}
  network: {stage: "toy_waiting:Network", of: a, shard_rows: 4}
  beside: {stage: "toy_waiting:Beside", of: a, shard_rows: 4}
"""
FIT = """
nodes:
  a: {stage: "toy:Numbers", count: 24}
  fit: {stage: "toy_waiting:Patient", on: a}
"""


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A pipeline for a GPU on a machine that may have none: its network needs none."""
    monkeypatch.setattr("pipeline.running.run.check_device", lambda *_: None)
    return Project(tmp_path / "project", monkeypatch, NETWORK)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """A cluster of somebody else's, without a GPU, in threads of this process."""
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, protocol="tcp://",
                      dashboard_address="127.0.0.1:0", silence_logs=50) as cluster:  # fmt: skip
        yield cluster


# The GPU


def test_a_further_process_of_this_machine_takes_the_tasks_for_the_gpu(
    network: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "visible_gpus", lambda: ["0"])
    monkeypatch.setattr(DaskExecutors, "gpus", lambda self: [])  # it would import torch
    found: list[Any] = []
    plain = DaskExecutors.require_device

    def looking(self: DaskExecutors) -> None:
        found.extend(worker["resources"] for worker in self.client.scheduler_info()["workers"].values())
        plain(self)

    monkeypatch.setattr(DaskExecutors, "require_device", looking)
    assert network.run(workers=2).computed == {"a": 24, "network": 24, "beside": 24}
    assert sorted(found, key=str) == [{"CPU": 1}, {"CPU": 1}, {"GPU": 1}]


def test_a_cluster_without_a_gpu_is_refused_before_anything_is_submitted(
    network: Project, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DaskExecutors, "submit", lambda *_: pytest.fail("a task was submitted"))
    address = cluster.scheduler_address
    sentence = f"no worker of {address} has the resource GPU; .* `dask worker {address} --resources GPU=1`"
    with pytest.raises(ConfigError, match=sentence):
        run(network.load(), [], scheduler=address)


def test_a_cluster_without_a_gpu_does_what_needs_none(network: Project, cluster: LocalCluster) -> None:
    report = run(network.load(), ["beside"], scheduler=cluster.scheduler_address)
    assert report.computed == {"a": 24, "beside": 24}


def test_a_task_for_the_gpu_keeps_no_other_from_being_computed(
    network: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of six tasks for the GPU waits until all rows that need no GPU are computed, by one thread."""
    toy_waiting.BESIDE.clear()
    toy_waiting.ROWS.clear()
    monkeypatch.setattr(toy_waiting.Network, "waits", True)
    assert network.run(workers=1).computed == {"a": 24, "network": 24, "beside": 24}


# Stops and progress


def test_a_fit_on_a_worker_tells_of_its_steps_and_keeps_its_epochs_when_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path, monkeypatch, FIT)
    steps: list[Any] = []

    def step(self: Any, *found: Any) -> None:
        steps.append(found)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("pipeline.running.progress.Bars.step", step)
    with pytest.raises(Interrupted, match="stopped: 24 rows and artifacts of this run are kept"):
        project.run(workers=2)
    assert steps == [("fit", 3, 10)]
    assert [path.suffix for path in (project.folder / "store" / "runs").iterdir()] == [".yaml"]
    assert not list((project.folder / "store").glob("**/*.tmp"))
    project.run()
    assert project.facts("fit") == {"from": "3"}


def test_a_stop_cancels_tasks_that_no_worker_can_take(network: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """No process of the GPU ever has room: such a task would wait for ever."""
    monkeypatch.setattr(devices, "visible_gpus", lambda: ["0"])
    monkeypatch.setattr(DaskExecutors, "gpus", lambda self: [])
    monkeypatch.setattr(Placement, "place", lambda self: None)
    plain = DaskExecutors.submit

    def submit(self: DaskExecutors, node: str, task: Any, progress: Any, stop: Any) -> Future[Outcome]:
        outcome = plain(self, node, task, progress, stop)
        if node == "network":
            stop.event.set()
        return outcome

    monkeypatch.setattr(DaskExecutors, "submit", submit)
    with forked_workers(), pytest.raises(Interrupted, match="stopped: 24 rows"):
        network.run("network", workers=None)


def test_a_worker_looks_for_the_stop_file_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("pipeline.running.cluster.time.monotonic", lambda: now)
    stop = StopFile(tmp_path / "run.stop")
    assert not stop()
    (tmp_path / "run.stop").touch()
    assert not stop(), "it has just looked"
    now += 0.5
    assert stop()
    (tmp_path / "run.stop").unlink()
    now += 0.5
    assert stop(), "a stop is never taken back"


def test_a_stopped_fit_that_gives_nothing_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path, monkeypatch, FIT.replace("Patient", "Empty"))
    monkeypatch.setattr("pipeline.running.progress.Bars.step", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted, match="stopped: 24 rows"):
        project.run()
    assert not list((project.folder / "store").glob("**/.*.tmp"))


def test_what_a_killed_run_left_for_its_workers_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path, monkeypatch, FIT)
    left = project.folder / "store" / "runs" / f"{project.store.start_run().host}-1-1.stop"
    left.touch()
    project.run("a")
    assert not left.exists()


def test_a_second_interrupt_ends_the_process_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path, monkeypatch, FIT.replace('fit: {stage: "toy_waiting:Patient", on: a}',
                                                         'stuck: {stage: "toy_waiting:Stuck", of: a}'))  # fmt: skip
    pipes = {"TOY_BEGUN": tmp_path / "begun", "TOY_NEVER": tmp_path / "never"}
    for pipe in pipes.values():
        os.mkfifo(pipe)
    surroundings = environment(project) | {name: str(pipe) for name, pipe in pipes.items()}
    command = [sys.executable, "-m", "pipeline", "run"]
    with subprocess.Popen(
        command, cwd=project.folder, env=surroundings, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert pipes["TOY_BEGUN"].read_text() == "begun"
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            assert any(line.startswith("stopping: ") for line in process.stderr)
            process.send_signal(signal.SIGINT)
            rest = process.communicate(timeout=20)[1]
        finally:
            process.kill()
    assert process.returncode == 130
    assert rest.strip() == (
        "touchstone: what was in flight is dropped, but for rows kept so far; the same command goes on"
    )
    project.computed()
    assert int(project.plan().branches["a"][0].have.sum()) == 24


# Schedulers that do not answer


@pytest.mark.parametrize("address", ["nonsense", "tcp://host", "http://127.0.0.1:8786", "127.0.0.1:8786"])
def test_a_scheduler_that_is_no_address_is_a_usage_error(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path, monkeypatch, FIT)
    sentence = f"--scheduler {address} is not an address; expected tcp://HOST:PORT (or tls://, ucx://)"
    with pytest.raises(ConfigError, match=re.escape(sentence)) as caught:
        run(project.load(), ["a"], scheduler=address)
    assert caught.value.exit_code == 2


def test_a_scheduler_that_does_not_answer_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path, monkeypatch, FIT)
    monkeypatch.setattr("pipeline.running.cluster.ANSWER_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"tcp://127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"--scheduler {address} does not answer"):
            run(project.load(), ["a"], scheduler=address)
    said = touchstone(project, "run", "a", "--scheduler", address)
    assert said.returncode == 2
    assert len(said.stderr.splitlines()) == 1
    assert said.stderr.startswith(f"touchstone: --scheduler {address} does not answer (")


# What stages and other runs do


@pytest.mark.parametrize(("row", "last"), [(-1, 23), (24, 23)])
def test_a_failed_row_that_is_not_in_the_batch_is_a_stage_error(
    row: int, last: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy_waiting.Wild, "row", row)
    project = Project(tmp_path, monkeypatch, FIT.replace('fit: {stage: "toy_waiting:Patient", on: a}',
                                                         'wild: {stage: "toy_waiting:Wild", of: a}'))  # fmt: skip
    sentence = f"wild: stage 'wild' says that row {row} of a batch failed, but its rows are numbered 0 to {last}"
    with pytest.raises(StageError, match=sentence):
        project.run()


def test_configs_that_another_run_removes_meanwhile_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link to nothing is listed like a file and is gone when its time is asked for."""
    project = Project(tmp_path, monkeypatch, FIT)
    runs = project.folder / "store" / "runs"
    runs.mkdir(parents=True)
    for number in range(KEPT_CONFIGS):
        (runs / f"old-{number}.yaml").touch()
    (runs / "gone.yaml").symlink_to(runs / "absent")
    project.run("a")
    assert len(list(runs.glob("*.yaml"))) == KEPT_CONFIGS
    assert not (runs / "gone.yaml").is_symlink()


def test_a_long_run_shows_that_it_is_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path, monkeypatch, FIT)
    touched: list[str] = []
    monkeypatch.setattr(Store, "touch", lambda self, record: touched.append(record.id))
    project.run("a", overrides=("nodes.a.count=4",))
    assert touched == [], "once a minute"
    monkeypatch.setattr(schedule, "TOUCH_S", 0.0)
    project.run("a")
    assert set(touched) == {project.store.start_run().id}


def test_threads_are_given_back_when_a_run_ends() -> None:
    executors = Executors(2)
    executors.close()
    for pool in (executors.pool, executors.device, executors.publishers):
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            pool.submit(print)
