"""The loop that runs a plan: one shard or one artifact per task, ready when its inputs exist; no barriers.

It keeps a bounded number of tasks in flight (those for the GPU are counted apart, so that the others go on beside them)
and advances the bars when a shard is published. A lost worker costs its
shards in flight; Ctrl-C finishes what is in flight; a failing task blocks only what waits for it.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field, replace
from typing import cast

from pipeline.errors import ClusterError, DamagedShardError, Interrupted, StageError, StoreError, TouchstoneError
from pipeline.planning.planned import Work
from pipeline.running.devices import wants_device
from pipeline.running.executors import Executors
from pipeline.running.make_artifact import ArtifactTask, together
from pipeline.running.stopping import Progress, Stop
from pipeline.running.task_maker import TaskMaker
from pipeline.running.tasks import Outcome

TOUCH_S = 60.0
"""A run shows that it is alive this often."""

MOST_TOGETHER = 8
"""Artifacts that one task makes at most, so that a long list of them still has work for several workers."""

STOP_S = 1.0
"""A run that stops cancels this often what no worker has: a worker may be lost with its tasks meanwhile."""


@dataclass
class Results:
    """What became of the works of one plan."""

    failed: dict[bytes, list[tuple[bytes, str]]] = field(default_factory=dict)  # chain -> (id, reason)
    skipped: dict[bytes, list[bytes]] = field(default_factory=dict)
    damaged: list[DamagedShardError] = field(default_factory=list)
    errors: list[TouchstoneError] = field(default_factory=list)
    computed: dict[str, int] = field(default_factory=dict)  # node -> rows (or artifacts)
    tasks: dict[str, list[tuple[int, float]]] = field(default_factory=dict)  # node -> rows and seconds of each task
    begun: dict[str, int] = field(default_factory=dict)  # node -> rows that an earlier run had computed
    published: list[tuple[Work, str]] = field(default_factory=list)  # names of shards
    interrupted: bool = False
    wanted: int = 0  # rows of the works that were not blocked by a failure


def on_device(work: Work, device: str) -> bool:
    """Whether a work has to run where the GPU is."""
    if work.branch is not None:
        return wants_device(work.branch.stage, work.branch.config, device)
    return work.artifact is not None and wants_device(work.artifact.node.stage, work.artifact.node.config, device)


@dataclass
class Lane:
    """Works that compete for the same workers: numbers of those that are ready (a heap), and how many are in flight."""

    bound: int
    ready: list[int] = field(default_factory=list)
    running: int = 0


def _share(outcome: Outcome, count: int) -> Future[Outcome]:
    """What became of one of several artifacts of a task."""
    future: Future[Outcome] = Future()
    future.set_result(replace(outcome, computed=outcome.computed // count, seconds=outcome.seconds / count))
    return future


class Loop:
    """Hands works to the executors as they become ready, and books what became of them.

    alive: called every TOUCH_S seconds.
    """

    def __init__(
        self,
        works: list[Work],
        maker: TaskMaker,
        executors: Executors,
        progress: Progress,
        stop: Stop,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self.works = works
        self.maker = maker
        self.executors = executors
        self.progress = progress
        self.stop = stop
        self.alive = alive
        self.results = Results()
        self.dead: set[int] = set()
        self.alone: set[int] = set()  # failed as one of several that were made in one pass
        self.lanes = {False: Lane(executors.bound), True: Lane(executors.device_bound)}
        self.waiting = {work.number: set(work.waits) for work in works}
        self.dependants: dict[int, list[int]] = {}
        for work in works:
            for number in work.waits:
                self.dependants.setdefault(number, []).append(work.number)

    def run(self) -> Results:
        """Run the works. Errors of the store end the run; others block only what waits for them."""
        for work in self.works:
            if not work.waits:
                self.push(work)
        try:
            self.work_off({})
        except ClusterError as error:  # nothing that is in flight will ever end
            if self.stop():
                self.progress.say(str(error))
            else:
                self.results.errors.insert(0, error)
        self.results.wanted = sum(work.rows for work in self.works if work.number not in self.dead)
        store_failed = any(isinstance(error, StoreError) for error in self.results.errors)
        self.results.interrupted |= self.stop() and not store_failed
        return self.results

    def work_off(self, running: dict[Future[Outcome], list[Work]]) -> None:
        """Keep the lanes full until nothing is ready or in flight. Raises ClusterError."""
        touched, told = time.monotonic(), -STOP_S
        while running or (any(lane.ready for lane in self.lanes.values()) and not self.stop()):
            self.executors.look(self.progress, self.stop)
            self.lanes[False].bound, self.lanes[True].bound = self.executors.bound, self.executors.device_bound
            for lane in self.lanes.values():
                self.submit(lane, running)
            if self.stop() and time.monotonic() - told >= STOP_S:
                told = time.monotonic()
                self.executors.stop(running)
            if time.monotonic() - touched >= TOUCH_S:
                touched = time.monotonic()
                self.alive()
            finished, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
            for future in finished:
                self.finish(running.pop(future), future)

    def lane(self, work: Work) -> Lane:
        return self.lanes[on_device(work, self.maker.facts.device)]

    def push(self, work: Work) -> None:
        heapq.heappush(self.lane(work).ready, work.number)

    def submit(self, lane: Lane, running: dict[Future[Outcome], list[Work]]) -> None:
        """Fill a lane with works that are ready."""
        while lane.ready and not self.stop() and lane.running < lane.bound:
            works, tasks = [], []
            for work in self.take(lane):
                try:
                    tasks.append(self.maker.make(work))
                    works.append(work)
                except TouchstoneError as error:
                    self.fail(work, error)
            if works:
                task = tasks[0] if len(tasks) == 1 else together(cast("list[ArtifactTask]", tasks))
                running[self.executors.submit(works[0].node, task, self.progress, self.stop)] = works
                lane.running += 1

    def take(self, lane: Lane) -> list[Work]:
        """The next ready work of a lane, with others that one task makes with it; none where it is blocked."""
        first = self.works[heapq.heappop(lane.ready)]
        if first.number in self.dead:
            return []
        key = self.sharing(first)
        if key is None:
            return [first]
        alike = [number for number in sorted(lane.ready) if self.sharing(self.works[number]) == key]
        for number in alike[: MOST_TOGETHER - 1]:
            lane.ready.remove(number)
        heapq.heapify(lane.ready)
        return [first, *(self.works[number] for number in alike[: MOST_TOGETHER - 1])]

    def sharing(self, work: Work) -> tuple[str, bytes] | None:
        """What works that one task may make have in common; None: this one is made by itself."""
        artifact = work.artifact
        if artifact is None or not artifact.node.stage.shares_rows or work.number in self.alone | self.dead:
            return None
        return artifact.node.stage.name, artifact.rows_key

    def finish(self, works: list[Work], future: Future[Outcome]) -> None:
        """Book a finished task; what waited for it becomes ready. Works that failed together are tried one by one."""
        self.lane(works[0]).running -= 1
        if len(works) > 1:
            if future.cancelled() or future.exception() is not None:
                self.alone |= {work.number for work in works}
                for work in works:
                    self.push(work)
                return
            future = _share(future.result(), len(works))
        for work in works:
            if not self.settle(work, future):
                continue
            for number in self.dependants.get(work.number, []):
                self.waiting[number].discard(work.number)
                if not self.waiting[number]:
                    self.push(self.works[number])

    def settle(self, work: Work, future: Future[Outcome]) -> bool:
        """Book one finished task; true if what waits for it may go on."""
        try:
            outcome = future.result()
        except Interrupted:
            self.results.interrupted = True
            return False
        except TouchstoneError as error:
            self.fail(work, error)
            return False
        except MemoryError:
            self.fail(work, StageError(f"{work.node}: not enough memory; give fewer --workers"))
            return False
        except Exception as error:  # a lost worker, or a fault of the executor itself
            if isinstance(error, CancelledError) and self.stop():  # it had not begun
                return False
            lost = self.executors.explain(work.node, error)
            lost.__cause__ = error
            self.fail(work, lost)
            return False
        results, node = self.results, work.node
        done = outcome.computed + len(outcome.failed) + len(outcome.skipped)
        if self.stop() and not done:
            return False
        if outcome.shard:
            results.published.append((work, outcome.shard))
        if outcome.computed:
            results.computed[node] = results.computed.get(node, 0) + outcome.computed
        results.tasks.setdefault(node, []).append((outcome.computed - outcome.begun, outcome.seconds))
        if outcome.begun:
            results.begun[node] = results.begun.get(node, 0) + outcome.begun
        self.progress.advance(node, done, done - outcome.computed, outcome.seconds)
        if work.branch is not None and (outcome.failed or outcome.skipped):
            results.failed.setdefault(work.branch.chain, []).extend(outcome.failed)
            results.skipped.setdefault(work.branch.chain, []).extend(outcome.skipped)
            self.block_artifacts(work)  # they get another key at the next plan: that of the rows that there are
        return True

    def fail(self, work: Work, error: TouchstoneError) -> None:
        if isinstance(error, DamagedShardError):  # put aside and made again in the next round
            self.results.damaged.append(error)
            self.block(work)
            return
        self.results.errors.append(error)
        if isinstance(error, StoreError):
            self.stop.event.set()
        self.block(work)

    def block(self, work: Work) -> None:
        """Nothing that waits for this work can run."""
        waiting = list(self.dependants.get(work.number, []))
        while waiting:
            number = waiting.pop()
            if number not in self.dead:
                self.dead.add(number)
                waiting += self.dependants.get(number, [])

    def block_artifacts(self, work: Work) -> None:
        """Artifacts below this work cannot be made from the rows they wanted; rows below go on with those there are."""
        waiting, seen = list(self.dependants.get(work.number, [])), set()
        while waiting:
            number = waiting.pop()
            if number in seen:
                continue
            seen.add(number)
            if self.works[number].artifact is not None:
                self.dead.add(number)
                self.block(self.works[number])
            else:
                waiting += self.dependants.get(number, [])
