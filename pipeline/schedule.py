"""The loop that runs a plan: one shard or one artifact per task, ready when its inputs exist; no barriers.

It keeps a bounded number of tasks in flight and advances the bars when a shard is published. A lost worker costs its
shards in flight; Ctrl-C finishes what is in flight; a failing task blocks only what waits for it.
"""

from __future__ import annotations

import heapq
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field

from pipeline.errors import DamagedShardError, Interrupted, StageError, StoreError, TouchstoneError
from pipeline.executors import Executors, Progress, Stop
from pipeline.tasks import Outcome
from pipeline.works import TaskMaker, Work


@dataclass
class Results:
    """What became of the works of one plan."""

    failed: dict[bytes, list[tuple[bytes, str]]] = field(default_factory=dict)  # chain -> (id, reason)
    skipped: dict[bytes, list[bytes]] = field(default_factory=dict)
    damaged: list[DamagedShardError] = field(default_factory=list)
    errors: list[TouchstoneError] = field(default_factory=list)
    computed: dict[str, int] = field(default_factory=dict)  # node -> rows (or artifacts)
    seconds: dict[str, float] = field(default_factory=dict)
    interrupted: bool = False
    wanted: int = 0  # rows of the works that were not blocked by a failure


class Loop:
    """Hands works to the executors as they become ready, and books what became of them."""

    def __init__(
        self, works: list[Work], maker: TaskMaker, executors: Executors, progress: Progress, stop: Stop
    ) -> None:
        self.works = works
        self.maker = maker
        self.executors = executors
        self.progress = progress
        self.stop = stop
        self.results = Results()
        self.dead: set[int] = set()
        self.waiting = {work.number: set(work.waits) for work in works}
        self.dependants: dict[int, list[int]] = {}
        for work in works:
            for number in work.waits:
                self.dependants.setdefault(number, []).append(work.number)

    def run(self) -> Results:
        """Run the works. Errors of the store end the run; others block only what waits for them."""
        ready = [work.number for work in self.works if not work.waits]
        heapq.heapify(ready)
        running: dict[Future[Outcome], Work] = {}
        while (ready and not self.stop()) or running:
            while ready and not self.stop() and len(running) < self.executors.bound:
                work = self.works[heapq.heappop(ready)]
                if work.number in self.dead:
                    continue
                try:
                    task = self.maker.make(work)
                except TouchstoneError as error:
                    self.fail(work, error)
                    continue
                running[self.executors.submit(work.node, task, self.progress, self.stop)] = work
            finished, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
            for future in finished:
                work = running.pop(future)
                if self.settle(work, future):
                    for number in self.dependants.get(work.number, []):
                        self.waiting[number].discard(work.number)
                        if not self.waiting[number]:
                            heapq.heappush(ready, number)
        self.results.wanted = sum(work.rows for work in self.works if work.number not in self.dead)
        store_failed = any(isinstance(error, StoreError) for error in self.results.errors)
        self.results.interrupted |= self.stop() and not store_failed
        return self.results

    def settle(self, work: Work, future: Future[Outcome]) -> bool:
        """Book one finished task; true if what waits for it may go on."""
        try:
            outcome = future.result()
        except Interrupted:
            self.results.interrupted = True
            return False
        except DamagedShardError as error:
            self.results.damaged.append(error)
            self.block(work)
            return False
        except TouchstoneError as error:
            self.fail(work, error)
            return False
        except MemoryError:
            self.fail(work, StageError(f"{work.node}: not enough memory; give fewer --workers"))
            return False
        except Exception as error:  # a lost worker, or a fault of the executor itself
            lost = StageError(f"{work.node}: the task was lost ({type(error).__name__}: {error}); run again to go on")
            lost.__cause__ = error
            self.fail(work, lost)
            return False
        results, node = self.results, work.node
        done = outcome.computed + len(outcome.failed) + len(outcome.skipped)
        if self.stop() and not done:
            return False
        results.computed[node] = results.computed.get(node, 0) + outcome.computed
        results.seconds[node] = results.seconds.get(node, 0.0) + outcome.seconds
        self.progress.advance(node, done)
        if work.branch is not None and (outcome.failed or outcome.skipped):
            results.failed.setdefault(work.branch.chain, []).extend(outcome.failed)
            results.skipped.setdefault(work.branch.chain, []).extend(outcome.skipped)
            self.block_artifacts(work)  # they get another key at the next plan: that of the rows that there are
        return True

    def fail(self, work: Work, error: TouchstoneError) -> None:
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
