"""Where tasks run: threads of this process; `cluster` has the Dask workers. One loop serves a laptop and a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

from pipeline.errors import StageError, TouchstoneError
from pipeline.running import devices
from pipeline.running.devices import wants_device
from pipeline.running.make_artifact import ArtifactTask, make_artifact
from pipeline.running.memory import keep_freed_memory
from pipeline.running.renewal import Claims
from pipeline.running.stopping import Progress, Stop
from pipeline.running.tasks import Outcome, ShardTask, compute_rows, publish_rows

Result = TypeVar("Result")


class Executors:
    """Threads of this process.

    `workers` threads compute; a shard that is computed is written, flushed and renamed by another thread while the next
    one is computed, since most of that time is spent waiting for the disk. Tasks for the GPU run one at a time in a
    thread of their own, so that none of the others waits for it. At most `bound` tasks and `device_bound` tasks for the
    GPU are in flight, which limits the memory of all. lanes: processes that were started for GPUs of this machine.
    """

    lanes = 0

    def __init__(self, workers: int) -> None:
        self.bound, self.device_bound = 2 * workers, 2
        keep_freed_memory()
        self.pool: Executor = ThreadPoolExecutor(workers, thread_name_prefix="touchstone-compute")
        self.publishers: Executor = ThreadPoolExecutor(workers, thread_name_prefix="touchstone-publish")
        self.device: Executor = ThreadPoolExecutor(1, thread_name_prefix="touchstone-device")

    def require_device(self) -> None:
        """Raise ConfigError if no worker takes tasks for the GPU; the pipeline's device was checked before."""

    def gpus(self) -> list[devices.Gpu]:
        """The GPUs that tasks of the run compute on, as far as they are there already."""
        found = devices.gpu_here()
        return [] if found is None else [found]

    def renew(self, claims: Claims) -> list[str]:
        """Restart workers that have loaded other code than the plan says; their addresses. Raises StageError."""
        del claims  # threads of the process that planned: each task proves itself
        return []

    def submit(self, node: str, task: ShardTask | ArtifactTask, progress: Progress, stop: Stop) -> Future[Outcome]:
        """The outcome of a task. A task that waits in the queue when the user stops is given back with nothing done."""
        outcome: Future[Outcome] = Future()
        pool = self.device if wants_device(task.stage, task.config, task.facts.device) else self.pool
        pool.submit(settle, outcome, lambda: self._work(outcome, node, task, progress, stop))
        return outcome

    def _work(
        self, outcome: Future[Outcome], node: str, task: ShardTask | ArtifactTask, progress: Progress, stop: Stop
    ) -> Outcome | None:
        if stop():
            return Outcome()
        if isinstance(task, ArtifactTask):
            return make_artifact(task, lambda done, total: progress.step(node, done, total), stop)
        started = time.perf_counter()
        found = compute_rows(task)
        self.publishers.submit(settle, outcome, lambda: publish_rows(task, found, started))
        return None

    def look(self, progress: Progress, stop: Stop) -> None:
        """Called several times a second while tasks are in flight. Raises ClusterError if they will never end."""

    def explain(self, node: str, error: Exception) -> TouchstoneError:
        """What to say of a task that ended with an error that no stage raises. Raises ClusterError if all is lost."""
        return StageError(f"{node}: the task was lost ({type(error).__name__}: {error}); run again to go on")

    def stop(self, running: Iterable[Future[Outcome]]) -> None:
        """Called every second once the user stops: tasks that have begun are finished, the others are canceled."""

    def close(self) -> None:
        self.pool.shutdown(wait=True)
        self.device.shutdown(wait=True)
        self.publishers.shutdown(wait=True)


def settle(outcome: Future[Result], work: Callable[[], Result | None]) -> None:
    """Set what `work` returns or raises; None means that a later step sets it."""
    try:
        result = work()
    except BaseException as error:  # whatever it is, the loop that waits for the future has to see it
        outcome.set_exception(error)
        return
    if result is not None:
        outcome.set_result(result)
