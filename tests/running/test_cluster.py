"""Dask clusters that fail: schedulers and workers that die, none at all, others of another kind, no locks."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dask_processes import DEADLINE_S, DaskProcesses
from distributed import LocalCluster
from toy_project import Project, environment

from pipeline.errors import ClusterError, Interrupted, StageError, StoreError
from pipeline.running.cluster import DaskExecutors
from pipeline.running.renewal import renew
from pipeline.running.run import RunReport, run
from pipeline.running.watch import differing

LATE_S = 120
LINE = """
nodes:
  a: {stage: "toy:Numbers", count: 24}
  b: {stage: "toy:Scale", of: a, shard_rows: 4}
"""
STUCK = LINE + '  stuck: {stage: "toy_waiting:Stuck", of: a, shard_rows: 4}\n'
NETWORK = """
device: cuda
nodes:
  a: {stage: "toy:Numbers", count: 24}
  network: {stage: "toy_waiting:Network", of: a, shard_rows: 4}
"""


Steps = list[tuple[str, Callable[[], object]]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskProcesses]:
    found = DaskProcesses(tmp_path_factory.mktemp("dask"))
    yield found
    found.kill()


@pytest.fixture(scope="module")
def lasting(server: DaskProcesses) -> str:
    """Address of a scheduler for tests that do it no harm."""
    return server.scheduler()[0]


@pytest.fixture
def processes(server: DaskProcesses, lasting: str) -> Iterator[DaskProcesses]:
    before = len(server.alive)
    yield server
    server.kill(before)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Stuck rows say that they have begun in one named pipe and read another one for ever."""
    project = Project(tmp_path / "project", monkeypatch, STUCK)
    for name in ("TOY_BEGUN", "TOY_NEVER"):
        os.mkfifo(tmp_path / name)
        monkeypatch.setenv(name, str(tmp_path / name))
    return project


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    """What is to be done when a line that contains a text is said, in this order."""
    steps: Steps = []

    def say(self: Any, sentence: str) -> None:
        if steps and steps[0][0] in sentence:
            steps.pop(0)[1]()

    monkeypatch.setattr("pipeline.running.progress.Bars.say", say)
    yield steps
    assert not steps, "never said"


def surroundings(project: Project) -> dict[str, str]:
    return {name: value for name, value in environment(project).items() if name.startswith("TOY_")}


def begun() -> None:
    """Return when a stuck row has begun."""
    assert Path(os.environ["TOY_BEGUN"]).read_text() == "begun"


@contextmanager
def when_begun(act: Callable[[], object]) -> Iterator[None]:
    """Do something in another thread as soon as a stuck row has begun."""

    def wait() -> None:
        begun()
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    yield
    thread.join()


def on(project: Project, address: str, *targets: str) -> RunReport:
    """A run on a cluster; one that waits for ever is ended."""

    def late(*_: Any) -> None:
        raise AssertionError(f"the run has not ended after {LATE_S} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LATE_S)
    try:
        return run(project.load(), list(targets), scheduler=address)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# The scheduler dies


def test_a_scheduler_that_is_killed_ends_the_command_in_one_sentence(
    processes: DaskProcesses, project: Project
) -> None:
    address, scheduler = processes.scheduler()
    processes.worker(address, surroundings=surroundings(project))
    command = [sys.executable, "-m", "pipeline", "run", "stuck", "--scheduler", address]
    with subprocess.Popen(
        command, cwd=project.folder, env=environment(project), stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            begun()
            processes.send(scheduler, signal.SIGKILL)
            rest = process.communicate(timeout=DEADLINE_S)[1]
        finally:
            process.kill()
    assert process.returncode == 1
    assert rest.splitlines() == [
        "a: 24 of 24 rows",
        f"touchstone: the scheduler {address} is gone (the connection broke): what was in flight is lost, published "
        "shards are kept; start it and its workers again, and the same command goes on",
    ]
    assert int(project.plan().branches["a"][0].have.sum()) == 24


@pytest.mark.parametrize(
    ("number", "reason"),
    [(signal.SIGTERM, "the connection broke"), (signal.SIGSTOP, "it has not answered for 1 s")],
)
def test_a_scheduler_that_ends_or_hangs_ends_the_run(
    number: int, reason: str, processes: DaskProcesses, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, scheduler = processes.scheduler()
    processes.worker(address, surroundings=surroundings(project))

    def hurt() -> None:
        monkeypatch.setattr("pipeline.running.watch.ANSWER_S", 0.25)
        processes.send(scheduler, number)

    with when_begun(hurt), pytest.raises(ClusterError, match=rf"the scheduler {address} is gone \({reason}\): what "):
        on(project, address, "stuck")
    (left,) = (project.folder / "store" / "runs").glob("*.stop")
    assert left.stem == project.store.start_run().id, "workers that were left behind shall stop"


def test_a_scheduler_that_hangs_before_the_first_task_ends_the_run(
    processes: DaskProcesses, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, scheduler = processes.scheduler()

    def hurt(client: Any, claims: Any) -> list[str]:
        monkeypatch.setattr("pipeline.running.watch.ANSWER_S", 0.25)
        processes.send(scheduler, signal.SIGSTOP)
        return renew(client, claims)

    monkeypatch.setattr("pipeline.running.cluster.renew", hurt)
    with pytest.raises(ClusterError, match=f"the scheduler {address} is gone"):
        on(project, address, "b")


def test_a_run_is_stopped_properly_while_its_scheduler_hangs(
    processes: DaskProcesses, project: Project, monkeypatch: pytest.MonkeyPatch, said: Steps
) -> None:
    address, scheduler = processes.scheduler()
    processes.worker(address, surroundings=surroundings(project))

    def hurt() -> None:
        for module in ("watch", "cluster"):
            monkeypatch.setattr(f"pipeline.running.{module}.ANSWER_S", 0.25)
        processes.send(scheduler, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGTERM)

    said += [("stopping: ", lambda: None), (f"the scheduler {address} is gone", lambda: None)]
    with (
        when_begun(hurt),
        pytest.raises(Interrupted, match="stopped: 24 rows and artifacts of ") as caught,
    ):
        on(project, address, "stuck")
    assert caught.value.exit_code == 130


def test_a_stop_is_repeated_for_tasks_whose_worker_dies_meanwhile(
    processes: DaskProcesses, lasting: str, project: Project, said: Steps
) -> None:
    worker = processes.worker(lasting, surroundings=surroundings(project))
    said += [("stopping: ", lambda: processes.send(worker, signal.SIGKILL))]
    with (
        when_begun(lambda: os.kill(os.getpid(), signal.SIGTERM)),
        pytest.raises(Interrupted, match="stopped: 24 rows"),
    ):
        on(project, lasting, "stuck")


# Workers that come and go


def test_a_run_waits_for_workers_and_follows_their_number(
    processes: DaskProcesses,
    lasting: str,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    said: Steps,
) -> None:
    """No worker, then one, which dies in its first row once it has been seen, then two."""
    monkeypatch.setattr("pipeline.running.watch.WAITING_S", 0.1)
    monkeypatch.setattr("pipeline.running.watch.WATCH_S", 0.05)
    pipes = [Path(os.environ[name]) for name in ("TOY_BEGUN", "TOY_NEVER")]
    started: list[int] = []
    bounds: set[int] = set()
    follow = DaskExecutors._follow

    def following(self: DaskExecutors) -> None:
        follow(self)
        bounds.add(self.bound)

    def start() -> None:
        started.append(processes.worker(lasting, surroundings=surroundings(project)))

    def start_two_that_need_not_wait() -> None:
        for pipe in pipes:
            pipe.unlink()
            pipe.touch()
        start()
        start()

    monkeypatch.setattr(DaskExecutors, "_follow", following)
    line = f"0 workers; waiting for `dask worker {lasting}` (dashboard: http://127.0.0.1:"
    said += [
        (line, start),
        ("1 worker; going on", lambda: processes.send(started[0], signal.SIGKILL)),
        (line, start_two_that_need_not_wait),
    ]
    assert on(project, lasting, "stuck").computed == {"a": 24, "stuck": 24}
    assert {2} <= bounds <= {2, 4}


def test_tasks_for_the_gpu_wait_for_a_worker_that_has_one(
    processes: DaskProcesses,
    lasting: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: Steps,
) -> None:
    monkeypatch.setattr("pipeline.running.run.check_device", lambda *_: None)
    monkeypatch.setattr("pipeline.running.watch.WAITING_S", 0.1)
    project = Project(tmp_path / "project", monkeypatch, NETWORK)
    said += [
        ("0 workers; waiting for ", lambda: processes.worker(lasting)),
        (
            f"1 worker, none of them with the resource GPU; waiting for `dask worker {lasting} --resources GPU=1`",
            lambda: processes.worker(lasting, "--resources", "GPU=1"),
        ),
    ]
    assert on(project, lasting).computed == {"a": 24, "network": 24}


def test_a_task_whose_workers_die_says_what_to_do(processes: DaskProcesses, project: Project) -> None:
    (project.folder / "die").touch()
    address, _ = processes.scheduler(allowed_failures=0)
    for _ in range(2):
        processes.worker(address, surroundings=surroundings(project))
    sentence = (
        "b: 1 worker died of one task, mostly because memory ended; give workers more of it, start fewer on a machine, "
        "or make tasks smaller (shard_rows of b); if `touchstone run b --workers 1` dies too, its code is to blame"
    )
    with pytest.raises(StageError, match=re.escape(sentence)):
        on(project, address, "b")


def test_processes_of_this_machine_that_never_come_back_end_the_run(
    project: Project, monkeypatch: pytest.MonkeyPatch, said: Steps
) -> None:
    def none(workers: int, gpus: Any) -> LocalCluster:
        return LocalCluster(n_workers=0, processes=False, protocol="tcp://", dashboard_address="127.0.0.1:0")

    monkeypatch.setattr("pipeline.running.cluster._local_cluster", none)
    monkeypatch.setattr("pipeline.running.watch.WAITING_S", 0.1)
    monkeypatch.setattr("pipeline.running.watch.START_S", 0.5)
    said += [("0 workers; waiting until they have started again", lambda: None)]
    with pytest.raises(ClusterError, match="all worker processes have died and do not start again; leave --workers "):
        project.run("b", workers=2)


# Workers of another kind


def test_a_worker_that_does_not_see_the_store_is_named(
    processes: DaskProcesses, lasting: str, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its store is another folder, and so it is for the task."""
    monkeypatch.setattr("pipeline.running.cluster.SEEN_S", 0.0)
    processes.worker(lasting)
    plain = DaskExecutors.submit

    def submit(self: DaskExecutors, node: str, task: Any, progress: Any, stop: Any) -> Any:
        elsewhere = replace(task, facts=replace(task.facts, store=tmp_path / "elsewhere"))
        return plain(self, node, elsewhere, progress, stop)

    monkeypatch.setattr(DaskExecutors, "submit", submit)
    sentence = f"a worker on [^ ]+ does not see the store of this run at {tmp_path}/elsewhere; it has to lie on a file "
    with pytest.raises(StoreError, match=sentence):
        on(project, lasting, "b")
    assert not (tmp_path / "elsewhere").exists()


def test_a_worker_with_another_python_or_dask_is_named(
    processes: DaskProcesses, lasting: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.running.watch.WATCH_S", 0.05)
    processes.worker(lasting, versions={"distributed": "2021.1.0"})
    import distributed

    sentence = (
        rf"the worker tcp://127.0.0.1:\d+ has distributed 2021\.1\.0, but this process has {distributed.__version__}; "
        r"install the same environment \(requirements\.lock\) for the scheduler and all workers"
    )
    with pytest.raises(ClusterError, match=sentence):
        on(project, lasting, "stuck")


def test_versions_that_matter_are_compared() -> None:
    here = {"python": "3.11.7.final.0", "dask": "2026.8.0", "numpy": "2.4.0"}
    assert differing(here, {"w": {**here, "python": "3.11.9.final.0", "numpy": "1.0"}}) is None
    assert str(differing(here, {"w": {**here, "python": "3.12.7.final.0"}})).startswith("w has python 3.12, but this")
    assert str(differing(here, {"w": {"python": "3.11.7.final.0"}})).startswith("w has dask missing, but this process")


def test_a_module_that_a_worker_lacks_is_named(
    processes: DaskProcesses, lasting: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module of this process only."""
    module = type(sys)("only_here")
    module.Here = type("Here", (), {"__module__": "only_here", "__qualname__": "Here"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "only_here", module)
    processes.worker(lasting)
    plain = DaskExecutors.submit

    def submit(self: DaskExecutors, node: str, task: Any, progress: Any, stop: Any) -> Any:
        return plain(self, node, replace(task, payload={**task.payload, "here": module.Here()}), progress, stop)

    monkeypatch.setattr(DaskExecutors, "submit", submit)
    with pytest.raises(
        StageError, match=r"a: a worker on [^ ]+ cannot read its task \(No module named 'only_here'\); install "
    ):
        on(project, lasting, "a")


# No locks between processes


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file or directory"), OSError(38, "not implemented")])
def test_a_system_without_locks_between_processes_is_one_sentence(
    error: OSError, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container without /dev/shm."""

    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", refuse)
    sentence = (
        f"--workers 2 needs locks between processes, but this system gives none ({error}); in a container mount a "
        "writable /dev/shm, or leave --workers out to compute with threads of one process"
    )
    with pytest.raises(ClusterError, match=re.escape(sentence)):
        project.run("b", workers=2)


def test_processes_that_cannot_be_started_are_one_sentence(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(self: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("distributed.nanny.Nanny.start_unsafe", refuse)
    sentence = "--workers 2: the processes cannot be started ([Errno 11] Resource temporarily unavailable); leave "
    with pytest.raises(ClusterError, match=re.escape(sentence)):
        project.run("b", workers=2)
