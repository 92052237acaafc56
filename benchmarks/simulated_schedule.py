"""The scheduler on a virtual clock: what it hands out when, to which worker, if each task takes a known time.

The loop is the one that runs plans (`pipeline.running.schedule.Loop`): its heap, its bound of tasks in flight, what
becomes ready when. Only the waiting is replaced: workers take tasks in the order in which they were submitted, as
threads of a pool do, and a task ends when the clock says so. A test compares it with a run of real threads.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, cast

from pipeline.planning.planned import Work
from pipeline.running.executors import Executors
from pipeline.running.progress import Bars
from pipeline.running.schedule import Loop
from pipeline.running.stopping import Stop
from pipeline.running.task_maker import TaskMaker
from pipeline.running.tasks import Facts, Outcome

Seconds = Callable[[Work], float]


@dataclass(frozen=True)
class Step:
    """One task: numbers of its works (several where they share rows), the worker, and its times in seconds."""

    works: tuple[int, ...]
    worker: int
    start: float
    end: float


@dataclass(frozen=True)
class Given:
    """What stands for a task: a work, and those that are made beside it."""

    work: Work
    facts: Any = None
    stage: Any = None
    config: Any = None
    views: Mapping[str, Any] = field(default_factory=dict)
    beside: tuple[Given, ...] = ()


class GivenTasks:
    """Makes them in place of tasks. device: cpu or cuda."""

    def __init__(self, device: str = "cpu") -> None:
        self.facts = Facts(cast(Any, None), None, 0, device, 1)

    def make(self, work: Work) -> Given:
        return Given(work, self.facts)


class SimulatedExecutors:
    """Workers without a computer. seconds: what a work takes by itself."""

    def __init__(self, workers: int, seconds: Seconds) -> None:
        self.bound, self.device_bound = 2 * workers, 2
        self.seconds = seconds
        self.clock = 0.0
        self.free = [(0.0, worker) for worker in range(workers)]
        self.ends: list[tuple[float, int, Future[Outcome]]] = []
        self.steps: list[Step] = []

    def submit(self, node: str, task: Given, progress: Any, stop: Any) -> Future[Outcome]:
        """The next worker that is free takes it."""
        works = (task.work, *(one.work for one in task.beside))
        since, worker = heapq.heappop(self.free)
        start = max(self.clock, since)
        end = start + sum(self.seconds(work) for work in works)
        heapq.heappush(self.free, (end, worker))
        self.steps.append(Step(tuple(work.number for work in works), worker, start, end))
        future: Future[Outcome] = Future()
        heapq.heappush(self.ends, (end, len(self.steps), future))
        return future

    def next(self) -> Future[Outcome]:
        """Move the clock to the next end of a task."""
        self.clock, number, future = heapq.heappop(self.ends)
        future.set_result(Outcome(len(self.steps[number - 1].works), seconds=self.clock))
        return future


class _Loop(Loop):
    def work_off(self, running: dict[Future[Outcome], list[Work]]) -> None:
        executors = cast(SimulatedExecutors, self.executors)
        while running or any(lane.ready for lane in self.lanes.values()):
            for lane in self.lanes.values():
                self.submit(lane, running)
            future = executors.next()
            self.finish(running.pop(future), future)


def simulate(works: Sequence[Work], seconds: Seconds, workers: int) -> list[Step]:
    """Tasks in the order of their submission. `works` are numbered in their order, as `works_of` gives them."""
    executors = SimulatedExecutors(workers, seconds)
    maker = cast(TaskMaker, GivenTasks())
    _Loop(list(works), maker, cast(Executors, executors), Bars(quiet=True), Stop()).run()
    return executors.steps


def critical_path(works: Sequence[Work], seconds: Seconds) -> float:
    """Seconds of the longest chain of works that wait for each other: no number of workers needs less."""
    ends: dict[int, float] = {}
    for work in works:
        ends[work.number] = seconds(work) + max((ends[number] for number in work.waits), default=0.0)
    return max(ends.values(), default=0.0)
