"""Which worker of a cluster gets which task for the GPU.

Dask binds a task to a worker at once, by what it believes of durations: rows might wait for hours behind a training
while another GPU has nothing to do. So a task for the GPU is held back until a worker has room, and bound to that one.
A worker has room for two tasks that compute rows (one computes, one gathers or publishes), or for one training alone;
its Dask resource GPU says the same to other runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pipeline.running.tasks import Outcome
from pipeline.running.watch import Watch

WHOLE, HALF = 1.0, 0.5
"""Of the resource GPU: what a training takes, and what a task that computes rows takes."""


@dataclass(eq=False)
class Held:
    """A task for the GPU, until it has ended.

    worker  address of the one that has it; "" while it waits
    bound   what Dask will say of it; None while it waits
    losses  workers that left while they had it
    """

    call: Callable[..., Outcome]
    arguments: tuple[Any, ...]
    name: str
    share: float
    outcome: Future[Outcome] = field(default_factory=Future)
    worker: str = ""
    bound: Future[Outcome] | None = None
    losses: int = 0

    @property
    def key(self) -> str:
        """What Dask calls it; another one after each loss."""
        return f"{self.name}-{self.losses}"

    def ended(self, bound: Future[Outcome]) -> None:
        """Pass on what Dask says, unless it is of a worker that was given up."""
        if bound is not self.bound:
            return
        with suppress(InvalidStateError):  # it was canceled at this instant
            if bound.cancelled():
                self.cancel()
            elif (error := bound.exception()) is not None:
                self.outcome.set_exception(error)
            else:
                self.outcome.set_result(bound.result())

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        bound, self.bound = self.bound, None
        if bound is not None:
            bound.cancel()
        if self.outcome.cancel():
            self.outcome.set_running_or_notify_cancel()  # wakes who waits


class Placement:
    """The tasks for the GPU of one client. All but `Held.ended` is called by one thread."""

    def __init__(self, client: Any, watch: Watch) -> None:
        self.client, self.watch = client, watch
        self.held: list[Held] = []

    def submit(self, name: str, share: float, call: Callable[..., Outcome], *arguments: Any) -> Future[Outcome]:
        """The outcome of `call(*arguments)` on a worker with a GPU. name: unique; share: WHOLE or HALF."""
        one = Held(call, arguments, name, share)
        self.held.append(one)
        self.place()
        return one.outcome

    def place(self) -> None:
        """Give what waits to workers with room, those before that have come first; follow workers that have left."""
        self.held = [one for one in self.held if not one.outcome.done()]
        for one in self.held:
            if one.worker and one.worker not in self.watch.workers:
                self._lose(one)
        room = dict(self.watch.gpus)
        for one in self.held:
            if one.worker in room:
                room[one.worker] -= one.share
        for one in self.held:
            if one.worker or one.outcome.done():
                continue
            worker = max(room, key=room.__getitem__, default="")
            if not worker or room[worker] < HALF:
                break
            room[worker] -= one.share
            self._bind(one, worker)

    def cancel(self, but: Collection[str]) -> None:
        """Drop what no worker has. but: keys of those that a worker has."""
        for one in self.held:
            if one.key not in but:
                one.cancel()

    def _bind(self, one: Held, worker: str) -> None:
        pool = self.client.get_executor(pure=False, resources={"GPU": one.share}, workers=[worker])
        bound: Future[Outcome] = pool.submit(one.call, *one.arguments, key=one.key)
        one.worker, one.bound = worker, bound
        bound.add_done_callback(one.ended)

    def _lose(self, one: Held) -> None:
        """It waits for another worker, unless too many have died of it."""
        import dask.config
        from distributed.scheduler import KilledWorker

        bound, one.bound, one.worker = one.bound, None, ""
        if bound is not None:
            bound.cancel()
        one.losses += 1
        most = int(dask.config.get("distributed.scheduler.allowed-failures"))
        if one.losses > most:
            with suppress(InvalidStateError):
                one.outcome.set_exception(KilledWorker(one.key, None, most))  # type: ignore[arg-type]
