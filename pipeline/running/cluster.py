"""Dask workers: processes of this machine, or an existing cluster, behind the interface of `Executors`.

What a user says to a run reaches workers of other processes and hosts through the one thing that all of them share, the
store: a file in `runs/`.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import pickle
import re
import signal
import threading
import time
import uuid
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.errors import ClusterError, ConfigError, StageError, StoreError, TouchstoneError
from pipeline.importing import worker_plugin
from pipeline.running.devices import Gpu, gpu_here, wants_device
from pipeline.running.executors import Executors, settle
from pipeline.running.make_artifact import ArtifactTask, make_artifact
from pipeline.running.memory import keep_freed_memory
from pipeline.running.placement import HALF, WHOLE, Placement
from pipeline.running.proof import StaleProcessError
from pipeline.running.renewal import Claims, renew
from pipeline.running.stopping import Progress, Stop, default_workers
from pipeline.running.tasks import Facts, Outcome, ShardTask, compute_shard
from pipeline.running.watch import ANSWER_S, SAME_EVERYWHERE, Watch
from pipeline.runs import host_name
from pipeline.sentences import counted

ADDRESS = re.compile(r"(tcp|tls|ucx)://[^\s/]+:\d+")
LOGGERS = ("distributed", "distributed.client", "tornado.application")
"""What these tell of a lost scheduler is said in one sentence."""

SEEN_S = 5.0
"""A network file system may show a new file that much later."""

POLL_S = 0.5
"""A worker looks for the stop file, and tells of its progress, at most this often."""


class DaskExecutors(Executors):
    """Tasks on Dask workers: spawned processes of this machine, or an existing cluster.

    Tasks for the GPU go to workers with the Dask resource "GPU" (see `placement`); on this machine these are further
    processes, one for each of `gpus` (see `devices.visible_gpus`), which do nothing else. Where tasks of both kinds
    are wanted, the others ask for the resource "CPU" as long as a worker has it. Two tasks for each thread of the
    workers, and for each GPU, are in flight, as many as there are at the moment.
    """

    def __init__(self, workers: int | None, address: str | None, gpus: Sequence[str] = ()) -> None:
        self.cluster: Any = None
        self.stop_file: Path | None = None
        self.flying: dict[Future[Outcome], tuple[str, bool]] = {}  # -> key, whether it asks for CPU; none for the GPU
        self.lanes = len(gpus)
        self.apart = bool(gpus)  # whether workers with a GPU are kept for it
        if address:
            check_scheduler(address)
        else:
            self.cluster = _local_cluster(default_workers() if workers is None else workers, gpus)
        self.address = address or self.cluster.scheduler_address
        self.levels = {logger: logger.level for logger in map(logging.getLogger, LOGGERS)}
        for logger in self.levels:
            logger.setLevel(logging.CRITICAL)
        self.client = _connect(self.cluster or address)
        try:
            self.watch = Watch(self.client, self.address, local=not address)
            self.client.register_plugin(_quiet_worker())
            self.client.register_plugin(worker_plugin())
        except OSError as error:
            self.close()
            raise ClusterError(f"the scheduler {self.address} is gone ({error}); is it running?") from None
        except BaseException:
            self.close()
            raise
        self._follow()
        self.pool = self.client.get_executor(pure=False)
        self.pool_apart = self.client.get_executor(pure=False, resources={"CPU": 1})
        self.placement = Placement(self.client, self.watch)

    def _follow(self) -> None:
        """Bound what is in flight by the workers that are there."""
        threads = (self.apart and self.watch.cpus) or self.watch.threads
        self.bound, self.device_bound = 2 * max(1, threads), 2 * max(1, self.watch.devices)

    def require_device(self) -> None:
        """Keep workers with a GPU for tasks that want one. Raises ConfigError if none of the workers has one.

        Without any workers the run waits for one.
        """
        if self.watch.threads and not self.watch.devices:
            address = self.address
            raise ConfigError(
                f"device is cuda, but no worker of {address} has the resource GPU; start one on a machine that has a "
                f"GPU with `dask worker {address} --resources GPU=1`, or use --device cpu"
            )
        if not self.apart:
            self.apart = True
            try:
                self.client.register_plugin(_without_gpu())
                self.watch.ask()
            except (OSError, RuntimeError) as error:  # TimeoutError is an OSError
                raise self._unasked(error) from None

    def gpus(self) -> list[Gpu]:
        """Those of the workers that have the resource GPU now."""
        places = list(self.watch.gpus)
        try:
            found = self.client.run(gpu_here, workers=places, on_error="ignore") if places else {}
        except (OSError, RuntimeError) as error:  # TimeoutError is an OSError
            raise self._unasked(error) from None
        return [one for one in found.values() if one]

    def renew(self, claims: Claims) -> list[str]:
        """Restart stale workers. Raises ClusterError if the scheduler goes meanwhile, StageError if one stays stale."""
        answer: Future[list[str]] = Future()
        # a thread, since a scheduler that hangs would let it wait for ever
        threading.Thread(target=settle, args=(answer, lambda: renew(self.client, claims)), daemon=True).start()
        while True:
            try:
                return answer.result(POLL_S)
            except (OSError, RuntimeError) as error:  # TimeoutError is an OSError
                if self.watch.lost() or answer.done():
                    raise self._unasked(error) from None

    def look(self, progress: Progress, stop: Stop) -> None:
        """Follow the workers; say what tasks wait for. Raises ClusterError if the scheduler is gone."""
        lost = self.watch.lost(stopping=stop())
        if lost:
            raise ClusterError(lost)
        self._follow()
        try:
            self.placement.place()
        except RuntimeError as error:  # the client has closed itself
            raise self._gone(error) from None
        asks_cpu = any(asks for _, asks in list(self.flying.values()))
        sentence = self.watch.lacking(bool(self.placement.held), asks_cpu)
        if sentence:
            progress.say(sentence)

    def _unasked(self, error: Exception) -> ClusterError:
        return ClusterError(self.watch.lost() or f"the workers of {self.address} cannot be asked ({error})")

    def _gone(self, error: Exception) -> ClusterError:
        return ClusterError(self.watch.lost() or f"the scheduler {self.address} is gone ({error})")

    def explain(self, node: str, error: Exception) -> TouchstoneError:
        from distributed.scheduler import KilledWorker

        lost = self.watch.lost()
        if lost:
            raise ClusterError(lost)
        if isinstance(error, KilledWorker):
            return StageError(
                f"{node}: {counted(error.allowed_failures + 1, 'worker')} died of one task, mostly because memory "
                f"ended; give workers more of it, start fewer on a machine, or make tasks smaller (shard_rows of {node}"
                f"); if `touchstone run {node} --workers 1` dies too, its code is to blame"
            )
        absent = _absent_module(error)
        if absent:
            return StageError(
                f"{node}: a worker or the scheduler {self.address} cannot import '{absent}'; {SAME_EVERYWHERE}"
            )
        return super().explain(node, error)

    def submit(self, node: str, task: ShardTask | ArtifactTask, progress: Progress, stop: Stop) -> Future[Outcome]:
        from distributed.protocol.pickle import dumps

        del stop  # it reaches the workers through the file
        if self.stop_file is None:
            self.stop_file = stop_file(task.facts)
            self.stop_file.unlink(missing_ok=True)
            self.client.subscribe_topic(_topic(task.facts), lambda event: progress.step(*event[1]))
        key = f"{node}-{uuid.uuid4().hex}"
        try:
            if wants_device(task.stage, task.config, task.facts.device):
                share = WHOLE if isinstance(task, ArtifactTask) else HALF
                return self.placement.submit(key, share, _unpacked, node, dumps(task))
            asks = bool(self.apart and self.watch.cpus)
            pool: Any = self.pool_apart if asks else self.pool
            outcome: Future[Outcome] = pool.submit(_unpacked, node, dumps(task), key=key)
        except RuntimeError as error:  # the client has closed itself
            raise self._gone(error) from None
        self.flying[outcome] = key, asks
        outcome.add_done_callback(lambda done: self.flying.pop(done, None))
        return outcome

    def stop(self, running: Iterable[Future[Outcome]]) -> None:
        """Write the file that workers look for, and cancel what no worker has got (it may wait for one for ever)."""
        if self.stop_file is not None:
            with suppress(OSError):  # a full disk may be the reason to stop: then fits go on to their end
                self.stop_file.touch()
        try:
            processing = self.client.sync(self.watch.scheduler.processing, workers=None, callback_timeout=ANSWER_S)
        except (OSError, RuntimeError):  # `look` will see that the scheduler is gone
            return
        held = {key for keys in processing.values() for key in keys}
        self.placement.cancel(but=held)
        for outcome in list(running):
            key, _ = self.flying.get(outcome, (None, False))
            if key is not None and key not in held:
                outcome.cancel()

    def close(self) -> None:
        """Leave the cluster as it was; workers that a lost scheduler has left behind find the order to stop."""
        watch: Watch | None = getattr(self, "watch", None)
        gone = watch is not None and watch.lost(stopping=True) is not None
        if watch is not None:
            watch.close()
        with suppress(OSError, RuntimeError, AssertionError):  # no scheduler answers
            self.client.close(timeout=ANSWER_S)
        if self.cluster is not None:
            self.cluster.close()
        for logger, level in self.levels.items():
            logger.setLevel(level)
        if self.stop_file is not None:
            with suppress(OSError):
                self.stop_file.touch() if gone else self.stop_file.unlink(missing_ok=True)


def _connect(place: Any) -> Any:
    """A client of a cluster or an address. Raises ConfigError."""
    from distributed import Client
    from distributed.versions import VersionMismatchWarning

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VersionMismatchWarning)  # `Watch` refuses those that matter
            return Client(place, timeout=ANSWER_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--scheduler {place} does not answer ({error}); is it running?") from None


def _absent_module(error: BaseException | None) -> str | None:
    """The module whose absence is the cause of an error."""
    while error is not None and not isinstance(error, ImportError):
        error = error.__cause__ or error.__context__
    return None if error is None else error.name or str(error)


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


def _local_cluster(workers: int, gpus: Sequence[str]) -> Any:
    """Spawned processes of one thread each, and one of two threads for each GPU, which sees no other.

    Raises ClusterError if the system gives no locks, ports or processes.
    """
    from distributed import Nanny, Scheduler, SpecCluster

    asked, way_out = (f"--workers {workers}", "leave --workers out") if workers else ("device cuda", "add --workers 1")
    advice = f"{way_out} to compute with threads of one process"
    try:
        multiprocessing.get_context("spawn").Lock()
    except (OSError, ImportError) as error:
        raise ClusterError(
            f"{asked} needs locks between processes, but this system gives none ({error}); in a container "
            f"mount a writable /dev/shm, or {advice}"
        ) from None
    place = {"host": "127.0.0.1", "protocol": "tcp://"}
    options = {**place, "memory_limit": 0, "silence_logs": 40}
    plain = {**options, "nthreads": 1, **({"resources": {"CPU": 1}} if gpus else {})}
    described: dict[Any, Any] = {number: {"cls": Nanny, "options": plain} for number in range(workers)}
    for name in gpus:
        sees = {"nthreads": 2, "resources": {"GPU": 1}, "env": {"CUDA_VISIBLE_DEVICES": name}}
        described[f"gpu-{name}"] = {"cls": Nanny, "options": {**options, **sees}}
    # a free port for the dashboard: the default one may belong to another run
    scheduler = {"cls": Scheduler, "options": {**place, "dashboard_address": "127.0.0.1:0", "dashboard": False}}
    try:
        return SpecCluster(workers=described, scheduler=scheduler, silence_logs=logging.CRITICAL)
    except (OSError, RuntimeError) as error:
        reason = error.__cause__ or error
        raise ClusterError(f"{asked}: the processes cannot be started ({reason}); {advice}") from None


def stop_file(facts: Facts) -> Path:
    """The file whose existence tells the workers of a run to stop."""
    assert facts.run is not None
    return facts.store / "runs" / f"{facts.run.id}.stop"


def require_store(facts: Facts) -> None:
    """Raise StoreError if the entry of the run cannot be seen from here: then this is another store of that name."""
    assert facts.run is not None
    runs, entry = facts.store / "runs", f"{facts.run.id}.json"
    deadline = time.monotonic() + SEEN_S
    while not (runs / entry).exists():
        if time.monotonic() > deadline:
            raise StoreError(
                f"a worker on {host_name()} does not see the store of this run at {facts.store}; it has to lie on a "
                "file system that all workers share, under the same path"
            )
        time.sleep(POLL_S)
        with suppress(OSError):
            os.listdir(runs)  # makes a network file system ask its server


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


def _unpacked(node: str, task: bytes) -> Outcome:
    """What Dask calls; the scheduler, which unpickles all arguments, never imports the modules of a stage.

    Raises StageError if the modules of the stage are absent here, or are others.
    """
    try:
        found = pickle.loads(task)
    except (ImportError, AttributeError) as error:
        raise StageError(
            f"{node}: a worker on {host_name()} cannot read its task ({error}); {SAME_EVERYWHERE}"
        ) from None
    return work_on_worker(node, found)


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
    require_store(task.facts)
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


def _without_gpu() -> Any:
    """A plugin: a worker without the resource GPU has one "CPU" for each thread, unless its command line says more."""
    from distributed import WorkerPlugin

    class SayCPU(WorkerPlugin):
        name = "touchstone-cpu"

        async def setup(self, worker: Any) -> None:
            if not {"CPU", "GPU"} & worker.state.total_resources.keys():
                await worker.set_resources(CPU=worker.state.nthreads)

    return SayCPU()


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
