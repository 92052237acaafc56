"""What a run knows of its Dask scheduler and workers, asked beside its tasks: a client without them waits for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from pipeline.errors import ClusterError
from pipeline.sentences import counted

ANSWER_S = 5.0
"""Seconds that a scheduler has to answer."""

WATCH_S = 1.0
"""A scheduler is asked this often."""

MISSED = 4
"""Questions without an answer after which a scheduler is gone; a run that stops waits for one only."""

WAITING_S, AGAIN_S = 5.0, 60.0
"""A run without workers says so after this time, anew when it is others that it lacks, and again now and then."""

START_S = 120.0
"""Processes of this machine that died have this time to start again; nobody else will start them."""

SAME = ("python", "dask", "distributed", "msgpack", "cloudpickle")
"""What a client, its scheduler and its workers need in one version, since they exchange pickles."""

SAME_EVERYWHERE = (
    "install the same environment (requirements.lock) for the scheduler and all workers, and start them again"
)


class Watch:
    """The scheduler and the workers of a client, as they were a moment ago.

    workers: address -> what the scheduler tells of it; local: they are processes that belong to the run. Raises
    ClusterError if versions differ, OSError without an answer.
    """

    def __init__(self, client: Any, address: str, local: bool) -> None:
        self.client, self.address, self.local = client, address, local
        self.scheduler, self.comm = client.scheduler, client.scheduler_comm
        self.identity = ""
        self.dashboard = "no dashboard"
        self.workers: dict[str, dict[str, Any]] = {}
        self.refusal: str | None = None
        self.missed = 0
        self.replaced = self.closed = False
        self.lacking_since: float | None = None
        self.lack, self.lack_since = "", 0.0
        self.said, self.said_at = "", 0.0
        self.ask()
        if self.refusal:
            raise ClusterError(self.refusal)
        client.loop.add_callback(self._go)

    @property
    def running(self) -> list[dict[str, Any]]:
        """Workers that take tasks."""
        return [worker for worker in list(self.workers.values()) if worker["status"] == "running"]

    @property
    def threads(self) -> int:
        """Tasks that the workers can run at once."""
        return sum(int(worker["nthreads"]) for worker in self.running)

    @property
    def gpus(self) -> dict[str, float]:
        """Address of each worker that takes tasks for the GPU -> its GPUs."""
        workers = {address: worker for address, worker in self.workers.items() if worker["status"] == "running"}
        return {address: one["resources"]["GPU"] for address, one in workers.items() if one["resources"].get("GPU")}

    @property
    def devices(self) -> int:
        """GPUs of the workers."""
        return int(sum(self.gpus.values()))

    @property
    def cpus(self) -> int:
        """Tasks that can run at once on workers that are kept for those without a GPU."""
        return int(sum(worker["resources"].get("CPU", 0) for worker in self.running))

    def lost(self, stopping: bool = False) -> str | None:
        """Why the run cannot go on: the scheduler is gone, and with it what was in flight; None if all is well."""
        if self.refusal:
            return self.refusal
        if self.local and self.lacking_since is not None and time.monotonic() - self.lacking_since > START_S:
            return (
                "all worker processes have died and do not start again; leave --workers out, or give 1, to compute "
                "with threads of one process"
            )
        if self.replaced:
            reason = "another one has taken its place"
        elif self.client.scheduler_comm is not self.comm or self.comm.closed():
            reason = "the connection broke"
        elif self.missed >= (1 if stopping else MISSED):
            reason = f"it has not answered for {self.missed * ANSWER_S:.0f} s"
        else:
            return None
        return (
            f"the scheduler {self.address} is gone ({reason}): what was in flight is lost, published shards are kept; "
            "start it and its workers again, and the same command goes on"
        )

    def lacking(self, for_device: bool, for_cpu: bool = False) -> str | None:
        """What tasks in flight wait for: a sentence once it is time to say it, also when the waiting is over.

        for_device, for_cpu: there are tasks for workers with a GPU, for workers without one.
        """
        lacks = not self.threads or (for_device and not self.devices) or (for_cpu and not self.cpus)
        now = time.monotonic()
        if not lacks:
            over, self.lacking_since, self.lack, self.said = bool(self.said), None, "", ""
            return f"{counted(len(self.running), 'worker')}; going on" if over else None
        if self.lacking_since is None:
            self.lacking_since = now
        found = self._lack(for_device)
        if found != self.lack:
            self.lack, self.lack_since = found, now
        if now < (self.said_at + AGAIN_S if found == self.said else self.lack_since + WAITING_S):
            return None
        self.said, self.said_at = found, now
        return found

    def _lack(self, for_device: bool) -> str:
        """Which workers are there and which are waited for."""
        paused = len(self.workers) - len(self.running)
        found = counted(len(self.running), "worker")
        if self.threads:
            found += f", none of them with{'' if for_device and not self.devices else 'out'} the resource GPU"
        elif paused:
            found += f" ({paused} more are paused or closing, mostly for want of memory)"
        if self.local:
            return f"{found}; waiting until they have started again"
        resources = " --resources GPU=1" if for_device and not self.devices else ""
        return f"{found}; waiting for `dask worker {self.address}{resources}` ({self.dashboard})"

    def ask(self) -> None:
        """Ask now, between the questions that are asked all the time. Raises OSError without an answer."""
        self.client.sync(self._ask, callback_timeout=2 * ANSWER_S)

    def close(self) -> None:
        self.closed = True

    async def _go(self) -> None:
        """Ask again and again, in the client's event loop, until the end of the run."""
        while not self.closed:
            await asyncio.sleep(WATCH_S if not self.missed else 0.1)
            try:
                await self._ask()
                self.missed = 0
            except Exception:  # whatever it is, there was no answer; a watch that ends would let the run wait for ever
                self.missed += 1

    async def _ask(self) -> None:
        """Raises OSError if there is no answer in time."""
        found = await asyncio.wait_for(self.scheduler.identity(n_workers=-1), ANSWER_S)
        self.replaced = bool(self.identity) and found["id"] != self.identity
        first, self.identity = not self.identity, found["id"]
        fresh = found["workers"].keys() - self.workers.keys()
        self.workers = found["workers"]
        if first:
            self.dashboard = _dashboard(self.address, found["services"])
        if first or fresh:
            self.refusal = self.refusal or await self._examine(fresh)

    async def _examine(self, workers: Iterable[str]) -> str | None:
        """A sentence if the scheduler or one of the workers has another Python or Dask than this process."""
        from distributed.versions import get_versions

        places = {f"the scheduler {self.address}": await asyncio.wait_for(self.scheduler.versions(), ANSWER_S)}
        with suppress(TimeoutError):  # a worker that does not answer yet shows its versions by failing
            question = self.scheduler.broadcast(msg={"op": "versions"}, workers=list(workers), on_error="ignore")
            answers = await asyncio.wait_for(question, ANSWER_S)
            places |= {f"the worker {place}": found for place, found in answers.items() if found}
        return differing(get_versions()["packages"], {place: found["packages"] for place, found in places.items()})


def differing(here: Mapping[str, str | None], places: Mapping[str, Mapping[str, str | None]]) -> str | None:
    """A sentence that names the first place whose versions (package -> version) differ from those of this process."""
    for place, found in places.items():
        for name in SAME:
            theirs, ours = (_release(name, versions.get(name)) for versions in (found, here))
            if theirs != ours:
                return f"{place} has {name} {theirs}, but this process has {ours}; {SAME_EVERYWHERE}"
    return None


def _release(name: str, version: str | None) -> str:
    """The part of a version that matters: the micro releases of one Python read each other's pickles."""
    return ".".join((version or "missing").split(".")[: 2 if name == "python" else None])


def _dashboard(address: str, services: Mapping[str, Any]) -> str:
    if not services.get("dashboard"):
        return "no dashboard"
    host = address.partition("://")[2].rpartition(":")[0]
    return f"dashboard: http://{host}:{services['dashboard']}/status"
