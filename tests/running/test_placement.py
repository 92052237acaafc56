"""Which worker gets which task for the GPU, with a client that only notes what it is told."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from distributed.scheduler import KilledWorker

from pipeline.errors import StageError
from pipeline.running.placement import HALF, WHOLE, Placement
from pipeline.running.tasks import Outcome


@dataclass
class Bound:
    """What the client was told of one task."""

    task: str
    worker: str
    gpu: float
    key: str
    future: Future[Outcome] = field(default_factory=Future)

    def end(self, computed: int = 1) -> None:
        self.future.set_result(Outcome(computed))


class Cluster:
    """A client and its watch. gpus: worker -> its GPUs."""

    def __init__(self, **gpus: float) -> None:
        self.gpus = self.workers = gpus
        self.bound: list[Bound] = []
        self.placement = Placement(self, self)  # type: ignore[arg-type]

    def get_executor(self, pure: bool, resources: dict[str, float], workers: list[str]) -> Any:
        assert not pure
        (worker,) = workers

        def submit(call: Callable[..., Any], *arguments: Any, key: str) -> Future[Outcome]:
            assert call is print
            self.bound.append(Bound(arguments[0], worker, resources["GPU"], key))
            return self.bound[-1].future

        return SimpleNamespace(submit=submit)

    def submit(self, name: str, share: float) -> Future[Outcome]:
        return self.placement.submit(name, share, print, name)

    def end(self, name: str) -> None:
        """A task ends; what waits is looked at again, as the run does all the time."""
        self[name].end()
        self.placement.place()

    def __getitem__(self, name: str) -> Bound:
        return next(one for one in reversed(self.bound) if one.task == name)

    @property
    def places(self) -> dict[str, str]:
        return {one.task: one.worker for one in self.bound}


def test_two_tasks_with_rows_share_a_gpu_and_a_training_has_one_for_itself() -> None:
    cluster = Cluster(x=1, y=1)
    for name in ("a", "b", "c", "d"):
        cluster.submit(name, HALF)
    cluster.submit("fit", WHOLE)
    cluster.submit("e", HALF)
    assert cluster.places == {"a": "x", "b": "y", "c": "x", "d": "y"}
    cluster.end("a")  # the training comes first; Dask lets it begin when `c` has ended too
    assert cluster.places["fit"] == "x"
    assert "e" not in cluster.places
    cluster.end("c")
    assert "e" not in cluster.places, "it would wait for the training"
    cluster.end("b")
    assert cluster.places["e"] == "y"
    cluster.submit("f", HALF)
    cluster.submit("g", HALF)
    cluster.end("fit")
    assert cluster.places["f"] == cluster.places["g"] == "x"
    assert {one.task: one.gpu for one in cluster.bound} == {**dict.fromkeys("abcdefg", 0.5), "fit": 1.0}


def test_a_training_on_every_gpu_keeps_the_rest_waiting_for_whichever_ends_first() -> None:
    cluster = Cluster(x=1, y=1)
    for name in ("one", "two", "three"):
        cluster.submit(name, WHOLE)
    outcome = cluster.submit("rows", HALF)
    assert cluster.places == {"one": "x", "two": "y"}
    cluster.end("two")
    cluster.end("three")
    assert cluster.places == {"one": "x", "two": "y", "three": "y", "rows": "y"}
    cluster.end("rows")
    assert outcome.result() == Outcome(1)
    assert [one.name for one in cluster.placement.held] == ["one"]


def test_tasks_wait_for_a_worker_and_those_of_one_that_leaves_for_another() -> None:
    cluster = Cluster()
    first, second = cluster.submit("a", HALF), cluster.submit("b", HALF)
    assert not cluster.bound
    cluster.gpus["x"] = 1
    cluster.placement.place()
    lost, kept = cluster["a"], cluster["b"]
    kept.end(2)
    cluster.gpus.clear()
    cluster.placement.place()
    assert lost.future.cancelled()
    cluster.gpus["y"] = 1
    cluster.placement.place()
    assert cluster.places == {"a": "y", "b": "x"}
    assert cluster["a"].key != lost.key
    cluster["a"].end(3)
    assert (first.result(), second.result()) == (Outcome(3), Outcome(2))


def test_what_a_worker_says_after_it_was_given_up_does_not_count() -> None:
    cluster = Cluster(x=1)
    outcome = cluster.submit("a", HALF)
    late = cluster["a"]
    late.future.set_running_or_notify_cancel()  # it can no longer be canceled
    cluster.gpus.clear()
    cluster.placement.place()
    late.end(7)
    assert not outcome.done()
    cluster.gpus["y"] = 1
    cluster.placement.place()
    cluster["a"].end(3)
    assert outcome.result() == Outcome(3)


def test_a_task_that_workers_die_of_is_not_tried_for_ever() -> None:
    """Four, which is Dask's own number."""
    cluster = Cluster()
    outcome = cluster.submit("a", HALF)
    for number in range(4):
        assert not outcome.done()
        cluster.gpus[f"w{number}"] = 1
        cluster.placement.place()
        cluster.gpus.clear()
        cluster.placement.place()
    with pytest.raises(KilledWorker) as caught:
        outcome.result(timeout=5)
    assert caught.value.allowed_failures == 3


def test_what_no_worker_has_is_dropped_when_the_run_stops() -> None:
    cluster = Cluster(x=1)
    outcomes = [cluster.submit(name, HALF) for name in ("a", "b", "c")]
    cluster.placement.cancel(but={cluster["b"].key})
    dropped = outcomes[::2]
    assert wait(dropped, timeout=5).done == set(dropped)
    assert all(one.cancelled() for one in dropped)
    assert cluster["a"].future.cancelled()
    cluster["b"].end()
    assert outcomes[1].result() == Outcome(1)


def test_errors_and_cancellations_of_the_cluster_are_passed_on() -> None:
    cluster = Cluster(x=1)
    outcomes = [cluster.submit("a", HALF), cluster.submit("b", HALF)]
    cluster["a"].future.set_exception(StageError("no"))
    cluster["b"].future.cancel()
    with pytest.raises(StageError, match="no"):
        outcomes[0].result()
    assert outcomes[1].cancelled()
