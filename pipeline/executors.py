"""Where tasks run: threads of this process, Dask worker processes of this machine, or an existing Dask cluster.

All have the interface of concurrent.futures, so that one loop serves a laptop and a cluster.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

from pipeline.errors import ConfigError
from pipeline.tasks import (
    ArtifactTask,
    Outcome,
    ShardTask,
    compute_rows,
    compute_shard,
    make_artifact,
    publish_rows,
)


class Progress(Protocol):
    """What the schedule tells the bars."""

    def advance(self, node: str, rows: int) -> None: ...
    def step(self, node: str, done: int, total: int) -> None: ...
    def say(self, sentence: str) -> None: ...


class Stop:
    """Set by Ctrl-C or SIGTERM; a second Ctrl-C ends the process at once."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def __call__(self) -> bool:
        return self.event.is_set()

    @contextmanager
    def listening(self, say: Callable[[str], None]) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, frame: types.FrameType | None) -> None:
            del frame
            if self.event.is_set() and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.event.set()
            say("stopping: what is in flight is finished and kept; press Ctrl-C again to drop it")

        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Executors:
    """Threads of this process. At most `bound` tasks are in flight; tasks that want a GPU go one per device.

    `workers` threads compute; a shard that is computed is written, flushed and renamed by another thread while the next
    one is computed, since most of that time is spent waiting for the disk. `bound` limits the memory of both.
    """

    def __init__(self, workers: int) -> None:
        self.bound = 2 * workers
        self.pool: Executor = ThreadPoolExecutor(workers, thread_name_prefix="touchstone-compute")
        self.publishers: Executor = ThreadPoolExecutor(workers, thread_name_prefix="touchstone-publish")
        self.device = threading.Semaphore(1)

    def submit(self, node: str, task: ShardTask | ArtifactTask, progress: Progress, stop: Stop) -> Future[Outcome]:
        """The outcome of a task. A task that waits in the queue when the user stops is given back with nothing done."""
        outcome: Future[Outcome] = Future()
        self.pool.submit(_settled, outcome, lambda: self._work(outcome, node, task, progress, stop))
        return outcome

    def _work(
        self, outcome: Future[Outcome], node: str, task: ShardTask | ArtifactTask, progress: Progress, stop: Stop
    ) -> Outcome | None:
        if stop():
            return Outcome()
        with self.device if task.stage.network and task.facts.device == "cuda" else nullcontext():
            if isinstance(task, ArtifactTask):
                return make_artifact(task, lambda done, total: progress.step(node, done, total), stop)
            started = time.perf_counter()
            found = compute_rows(task)
        self.publishers.submit(_settled, outcome, lambda: publish_rows(task, found, started))
        return None

    def close(self) -> None:
        self.pool.shutdown(wait=True)
        self.publishers.shutdown(wait=True)


def _settled(outcome: Future[Outcome], work: Callable[[], Outcome | None]) -> None:
    """Set what `work` returns or raises; None means that a later step sets it."""
    try:
        result = work()
    except BaseException as error:  # whatever it is, the loop that waits for the future has to see it
        outcome.set_exception(error)
        return
    if result is not None:
        outcome.set_result(result)


class DaskExecutors(Executors):
    """Tasks on Dask workers: spawned processes of this machine, or an existing cluster."""

    def __init__(self, workers: int | None, address: str | None) -> None:
        from distributed import Client, LocalCluster

        if address:
            try:
                self.client = Client(address, timeout="10s", set_as_default=False)
            except (OSError, TimeoutError, ValueError) as error:
                raise ConfigError(f"--scheduler {address} does not answer ({error}); is it running?") from None
            self.cluster = None
        else:
            self.cluster = LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, memory_limit=0,
                dashboard_address="127.0.0.1:0",  # a free port: the default one may belong to another run
                silence_logs=40,
            )  # fmt: skip
            self.client = Client(self.cluster, set_as_default=False)
        self.client.register_plugin(_quiet_worker())
        self.bound = 2 * max(1, len(self.client.scheduler_info(n_workers=-1)["workers"]))
        self.pool = self.client.get_executor(pure=False)
        self.gpu = self.client.get_executor(pure=False, resources={"GPU": 1})

    def submit(self, node: str, task: ShardTask | ArtifactTask, progress: Progress, stop: Stop) -> Future[Outcome]:
        del node, progress, stop
        on_device = task.stage.network and task.facts.device == "cuda"
        pool = self.gpu if on_device else self.pool
        function: Callable[..., Outcome] = compute_shard if isinstance(task, ShardTask) else make_artifact
        return pool.submit(function, task)

    def close(self) -> None:
        self.client.close()
        if self.cluster is not None:
            self.cluster.close()


def _quiet_worker() -> Any:
    """A plugin: Ctrl-C in the terminal reaches worker processes too, and must not kill what is in flight."""
    from distributed import WorkerPlugin

    class IgnoreInterrupt(WorkerPlugin):
        name = "touchstone-ignore-interrupt"

        def setup(self, worker: Any) -> None:
            del worker
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, signal.SIG_IGN)

    return IgnoreInterrupt()


def default_workers() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
