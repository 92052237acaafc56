"""Dask workers: processes of this machine, or an existing cluster, behind the interface of `Executors`.

What a user says to a run reaches workers of other processes and hosts through the one thing that all of them share, the
store: a file in `runs/`.
"""

from __future__ import annotations

import asyncio
import re
import signal
import threading
import time
import uuid
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from pipeline.executors import Executors, Progress, Stop, default_workers, settle, wants_device
from pipeline.memory import keep_freed_memory
from pipeline.proof import StaleProcessError
from pipeline.renewal import Claims, renew
from pipeline.tasks import ArtifactTask, Facts, Outcome, ShardTask, compute_shard, make_artifact

ADDRESS = re.compile(r"(tcp|tls|ucx)://[^\s/]+:\d+")
ANSWER_S = 5.0
"""Seconds that a scheduler has to answer."""

POLL_S = 0.5
"""A worker looks for the stop file, and tells of its progress, at most this often."""


class DaskExecutors(Executors):
    """Tasks on Dask workers: spawned processes of this machine, or an existing cluster.

    Tasks for the GPU ask for the Dask resource "GPU"; on this machine one of the processes has it.
    """

    def __init__(self, workers: int | None, address: str | None) -> None:
        from distributed import Client

        self.cluster: Any = None
        self.stop_file: Path | None = None
        self.keys: dict[Future[Outcome], str] = {}
        if address:
            check_scheduler(address)
            self.client = Client(address, timeout=ANSWER_S, set_as_default=False)
        else:
            self.cluster = _local_cluster(workers or default_workers())
            self.client = Client(self.cluster, set_as_default=False)
        self.client.register_plugin(_quiet_worker())
        found = self.client.scheduler_info(n_workers=-1)["workers"].values()
        self.devices = sum(worker["resources"].get("GPU", 0) >= 1 for worker in found)
        self.bound, self.device_bound = 2 * max(1, len(found)), 2 * max(1, self.devices)
        self.address = address or self.cluster.scheduler_address
        self.pool = self.client.get_executor(pure=False)
        self.device = self.client.get_executor(pure=False, resources={"GPU": 1})

    def require_device(self) -> None:
        if not self.devices:
            address = self.address
            raise ConfigError(
                f"device is cuda, but no worker of {address} has the resource GPU; start one on a machine that has a "
                f"GPU with `dask worker {address} --resources GPU=1`, or use --device cpu"
            )

    def renew(self, claims: Claims) -> list[str]:
        return renew(self.client, claims)

    def submit(self, node: str, task: ShardTask | ArtifactTask, progress: Progress, stop: Stop) -> Future[Outcome]:
        del stop  # it reaches the workers through the file
        if self.stop_file is None:
            self.stop_file = stop_file(task.facts)
            self.stop_file.unlink(missing_ok=True)
            self.client.subscribe_topic(_topic(task.facts), lambda event: progress.step(*event[1]))
        pool: Any = self.device if wants_device(task.stage, task.config, task.facts.device) else self.pool
        key = f"{node}-{uuid.uuid4().hex}"
        outcome: Future[Outcome] = pool.submit(work_on_worker, node, task, key=key)
        self.keys[outcome] = key
        outcome.add_done_callback(lambda done: self.keys.pop(done, None))
        return outcome

    def stop(self, running: Iterable[Future[Outcome]]) -> None:
        """Write the file that workers look for, and cancel what no worker has got (it may wait for one for ever)."""
        if self.stop_file is not None:
            with suppress(OSError):  # a full disk may be the reason to stop: then fits go on to their end
                self.stop_file.touch()
        try:
            held = {key for keys in self.client.processing().values() for key in keys}
        except OSError:  # the scheduler is gone, and with it all that was in flight
            return
        for outcome in list(running):
            if self.keys.get(outcome) not in held:
                outcome.cancel()

    def close(self) -> None:
        self.client.close()
        if self.cluster is not None:
            self.cluster.close()
        if self.stop_file is not None:
            self.stop_file.unlink(missing_ok=True)


def check_scheduler(address: str) -> None:
    """Raise ConfigError unless a Dask scheduler answers; a client that fails to connect would leave tasks behind."""
    if not ADDRESS.fullmatch(address):
        raise ConfigError(f"--scheduler {address} is not an address; expected tcp://HOST:PORT (or tls://, ucx://)")
    from distributed import Security
    from distributed.comm import connect

    async def ask() -> Outcome:
        comm = await connect(address, timeout=ANSWER_S, **Security().get_connection_args("client"))
        await comm.close()
        return Outcome()

    answer: Future[Outcome] = Future()
    # a thread, since the caller may have an event loop; nobody waits for it: what listens there may never close
    threading.Thread(target=settle, args=(answer, lambda: asyncio.run(ask())), daemon=True).start()
    try:
        answer.result(2 * ANSWER_S)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        reason = str(error) or "no answer"
        raise ConfigError(f"--scheduler {address} does not answer ({reason}); is it running?") from None


def _local_cluster(workers: int) -> Any:
    """Spawned processes of one thread each; the first one has the GPU, whether there is one or not."""
    from distributed import Nanny, Scheduler, SpecCluster

    place = {"host": "127.0.0.1", "protocol": "tcp://"}
    options = {**place, "nthreads": 1, "memory_limit": 0, "silence_logs": 40}
    described = {
        number: {"cls": Nanny, "options": {**options, "resources": {} if number else {"GPU": 1}}}
        for number in range(workers)
    }
    # a free port for the dashboard: the default one may belong to another run
    scheduler = {"cls": Scheduler, "options": {**place, "dashboard_address": "127.0.0.1:0", "dashboard": False}}
    return SpecCluster(workers=described, scheduler=scheduler, silence_logs=40)


def stop_file(facts: Facts) -> Path:
    """The file whose existence tells the workers of a run to stop."""
    assert facts.run is not None
    return facts.store / "runs" / f"{facts.run.id}.stop"


def _topic(facts: Facts) -> str:
    assert facts.run is not None
    return f"touchstone-{facts.run.id}"


class StopFile:
    """Whether a run was stopped, seen from a worker; looks for the file at most every POLL_S seconds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found = False
        self.looked = -POLL_S

    def __call__(self) -> bool:
        now = time.monotonic()
        if not self.found and now - self.looked >= POLL_S:
            self.looked = now
            self.found = self.path.exists()
        return self.found


def work_on_worker(node: str, task: ShardTask | ArtifactTask) -> Outcome:
    """A task in a worker process; nothing is done if the run was stopped meanwhile."""
    from distributed import get_worker

    try:
        return _work(node, task)
    except StaleProcessError as error:
        raise StaleProcessError(f"{error} (worker {get_worker().address})") from None


def _work(node: str, task: ShardTask | ArtifactTask) -> Outcome:
    from distributed import get_worker

    keep_freed_memory()
    stop = StopFile(stop_file(task.facts))
    if stop():
        return Outcome()
    if isinstance(task, ShardTask):
        return compute_shard(task)
    worker, topic = get_worker(), _topic(task.facts)
    told = -POLL_S

    def report(done: int, total: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= POLL_S:
            told = now
            worker.log_event(topic, [node, int(done), int(total)])

    return make_artifact(task, report, stop)


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
