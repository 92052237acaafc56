"""A run on a machine with GPUs: threads of this process, and a process of its own for each GPU.

A GPU waits for whoever launches its kernels. A thread beside others of Python launches a third of what it launches by
itself, so each GPU has a process that sees no other one and does nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future

from pipeline.errors import TouchstoneError
from pipeline.running.cluster import DaskExecutors
from pipeline.running.devices import Gpu, wants_device
from pipeline.running.executors import Executors
from pipeline.running.make_artifact import ArtifactTask
from pipeline.running.renewal import Claims
from pipeline.running.stopping import Progress, Stop
from pipeline.running.tasks import Outcome, ShardTask


class LaneExecutors(Executors):
    """Tasks for the GPU in processes, one for each of `gpus` (see `devices.visible_gpus`); all others in threads."""

    def __init__(self, workers: int, gpus: Sequence[str]) -> None:
        super().__init__(workers)
        self.lanes = len(gpus)
        self.processes = DaskExecutors(0, None, gpus)
        self.device_bound = self.processes.device_bound

    def require_device(self) -> None:
        self.processes.require_device()

    def gpus(self) -> list[Gpu]:
        return self.processes.gpus()

    def renew(self, claims: Claims) -> list[str]:
        return self.processes.renew(claims)

    def submit(self, node: str, task: ShardTask | ArtifactTask, progress: Progress, stop: Stop) -> Future[Outcome]:
        if wants_device(task.stage, task.config, task.facts.device):
            return self.processes.submit(node, task, progress, stop)
        return super().submit(node, task, progress, stop)

    def look(self, progress: Progress, stop: Stop) -> None:
        self.processes.look(progress, stop)
        self.device_bound = self.processes.device_bound

    def explain(self, node: str, error: Exception) -> TouchstoneError:
        return self.processes.explain(node, error)

    def stop(self, running: Iterable[Future[Outcome]]) -> None:
        self.processes.stop(running)

    def close(self) -> None:
        self.processes.close()
        super().close()
