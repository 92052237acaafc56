"""The simulated scheduler against the real loop with two real threads: which task starts when, and on which worker."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from benchmarks.simulated_schedule import Given, GivenTasks, Step, critical_path, simulate
from pipeline.planning.planned import Work
from pipeline.running import executors
from pipeline.running.executors import Executors
from pipeline.running.progress import Bars
from pipeline.running.schedule import Loop
from pipeline.running.stopping import Stop
from pipeline.running.tasks import Outcome

LONG_S = 20.0


def graph(seed: int) -> tuple[list[Work], list[float]]:
    """14 works, each of which waits for up to three before it, and their times."""
    random = np.random.default_rng(seed)
    works = [Work(number, f"node {number}", waits={int(one) for one in random.integers(0, number, random.integers(4))}
                  if number > 3 else set()) for number in range(14)]  # fmt: skip
    return works, random.uniform(1, 9, 14).tolist()


class Conductor:
    """Real threads that hold each task until it is its turn to end."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.started: list[tuple[int, int]] = []  # work, thread
        self.released: set[int] = set()
        self.booked = 0  # tasks that the loop knows to have ended

    def compute(self, task: Given) -> int:
        with self.changed:
            self.started.append((task.work.number, threading.get_ident()))
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: task.work.number in self.released, LONG_S)
        return task.work.number

    def book(self) -> None:
        with self.changed:
            self.booked += 1
            self.changed.notify_all()

    def release(self, number: int, after: int) -> None:
        """Let a task end once `after` tasks have started and the loop has booked all that ended."""

        def ready() -> bool:
            return len(self.started) >= after and self.booked == len(self.released)

        with self.changed:
            assert self.changed.wait_for(ready, LONG_S), (number, after, self.started)
            self.released.add(number)
            self.changed.notify_all()


@pytest.mark.parametrize("seed", range(5))
def test_the_loop_starts_the_same_tasks_at_the_same_moments_on_the_same_workers(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    works, seconds = graph(seed)
    steps = simulate(works, lambda work: seconds[work.number], 2)
    conductor = Conductor()
    monkeypatch.setattr(executors, "compute_rows", conductor.compute)
    monkeypatch.setattr(executors, "publish_rows", lambda task, found, started: Outcome(1))
    real = Executors(2)
    loop = Loop(works, GivenTasks(), real, Bars(quiet=True), Stop())  # type: ignore[arg-type]
    plain = loop.finish
    monkeypatch.setattr(loop, "finish", lambda *found: (plain(*found), conductor.book()))
    run = threading.Thread(target=loop.run)
    run.start()
    for step in sorted(steps, key=lambda one: one.end):
        conductor.release(step.works[0], sum(one.start < step.end for one in steps))
    run.join(LONG_S)
    real.close()
    assert not loop.results.errors
    check(steps, conductor.started)


def check(steps: list[Step], started: list[tuple[int, int]]) -> None:
    """Tasks that start at one moment may come in any order, and on either worker where both have been idle."""
    moments = sorted({step.start for step in steps})
    first = [[step for step in steps if step.start == moment] for moment in moments]
    workers: dict[int, int] = {}  # thread -> worker
    position = 0
    for moment, group in zip(moments, first, strict=True):
        found = dict(started[position : position + len(group)])
        position += len(group)
        assert set(found) == {step.works[0] for step in group}, moment
        busy = [step for step in steps if step.start < moment < step.end]
        if not busy:  # both were idle: from now on, threads are called by what they take
            workers = {}
        for step in group:
            assert workers.setdefault(found[step.works[0]], step.worker) == step.worker, (moment, step)
    assert position == len(started)


def test_a_chain_and_works_beside_it_take_what_they_must() -> None:
    """By hand: 0 (4 s) and 1 (1 s) begin; 2 waits for both (2 s); 3 (6 s) takes the second worker at 1 s."""
    works = [Work(0, "a"), Work(1, "b"), Work(2, "c", waits={0, 1}), Work(3, "d")]
    seconds = [4.0, 1.0, 2.0, 6.0]
    steps = simulate(works, lambda work: seconds[work.number], 2)
    assert [(step.works, step.worker, step.start, step.end) for step in steps] == [
        ((0,), 0, 0.0, 4.0), ((1,), 1, 0.0, 1.0), ((3,), 1, 1.0, 7.0), ((2,), 0, 4.0, 6.0),
    ]  # fmt: skip
    assert critical_path(works, lambda work: seconds[work.number]) == 6.0
    one = simulate(works, lambda work: seconds[work.number], 1)
    assert [step.works[0] for step in one] == [0, 1, 3, 2]
    assert one[-1].end == 13.0


def test_no_more_tasks_are_in_flight_than_the_loop_allows(tmp_path: Path) -> None:
    """With one worker two are submitted at once: one that becomes ready meanwhile goes before later ones."""
    works = [Work(number, "a") for number in (0, 1)] + [Work(2, "b", waits={0}), Work(3, "a")]
    assert [step.works[0] for step in simulate(works, lambda work: 1.0, 1)] == [0, 1, 2, 3]
