"""The GPU of a process: one task computes, another one reads or publishes meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import toy_waiting

from pipeline.running.compute import Rows, Step, compute
from pipeline.running.tasks import Content, LazyArrays, Parent, ShardTask, rows_of
from pipeline.running.turns import GPU_TURN, Turn
from pipeline.stage import Batch, Context, Field, RowError, StageConfig

LONG_S = 20.0
SCHEMA = {"value": Field("<f8", (), "1")}


class Slow:
    """The rows of one task; they can be read once something has happened."""

    fields = ("value",)

    def __init__(self, ready: threading.Event) -> None:
        self.ready = ready
        self.asked = threading.Event()

    def array(self, name: str, rows: Any) -> Any:
        self.asked.set()
        assert self.ready.wait(LONG_S), "nobody computes while these are read"
        return np.arange(len(rows), dtype=np.float64)

    def read(self, config: Any, place: str) -> bytes:
        assert not GPU_TURN.held
        return b""


class Both(toy_waiting.Row):
    """Says when it has computed."""

    name = "both"

    network = True

    def __init__(self) -> None:
        self.done = threading.Event()

    def compute(self, config: Any, batch: Batch, ctx: Context) -> Mapping[str, Any]:
        value = batch.inputs[0]["value"]
        assert GPU_TURN.held
        self.done.set()
        return {"value": value + 1}


class Meeting(toy_waiting.Row):
    """Computes when two tasks do so at once."""

    name = "meeting"

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2, timeout=LONG_S)

    def compute(self, config: Any, batch: Batch, ctx: Context) -> Mapping[str, Any]:
        assert not GPU_TURN.held
        self.barrier.wait()
        return {"value": batch.inputs[0]["value"]}


def rows(dataset: Any) -> Rows:
    return Rows(np.zeros(3, "V16"), (np.zeros(3, "V16"),), (SCHEMA,), lambda found: (LazyArrays(dataset, found),))


def test_rows_are_read_while_another_task_has_the_gpu() -> None:
    """The first task cannot read before the second has computed."""
    stage = Both()
    step = Step("both", stage, StageConfig(), SCHEMA, device="cuda")
    slow = Slow(stage.done)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(compute, step, rows(slow))
        assert slow.asked.wait(LONG_S)
        second = pool.submit(compute, step, rows(Slow(slow.asked)))
        for one in (first, second):
            assert one.result(LONG_S).arrays["value"].tolist() == [1.0, 2.0, 3.0]
    assert not GPU_TURN.held


def test_bytes_of_files_are_read_while_another_task_has_the_gpu() -> None:
    parent = Parent("photos", b"", {}, np.zeros(1, "V16"), Content(Slow(threading.Event()), None, ["a"]))  # type: ignore[arg-type]
    task = ShardTask(None, "node", None, None, b"", SCHEMA, parent.ids, (parent,))  # type: ignore[arg-type]
    read = rows_of(task, []).reader
    assert read is not None
    with GPU_TURN.taken():
        with pytest.raises(RowError, match="is not what its manifest"):
            read(0)
        assert GPU_TURN.held


def test_one_task_has_the_turn_at_a_time() -> None:
    turn, inside = Turn(), threading.Lock()

    def task(number: int) -> None:
        for _ in range(200):
            with turn.taken():
                assert inside.acquire(blocking=False)
                inside.release()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(task, range(2)))


def test_tasks_of_the_cpu_compute_side_by_side() -> None:
    """Also in a run whose networks are on the GPU."""
    step = Step("meeting", Meeting(), StageConfig(), SCHEMA, device="cuda")
    ready = threading.Event()
    ready.set()
    with ThreadPoolExecutor(2) as pool:
        for one in [pool.submit(compute, step, rows(Slow(ready))) for _ in range(2)]:
            assert len(one.result(LONG_S).done) == 3


def test_a_turn_within_a_turn_is_the_same_one_and_an_error_gives_it_back() -> None:
    turn = Turn()

    def take() -> bool:
        with turn.taken():
            return turn.held

    def fail() -> None:
        with turn.taken(), turn.taken(), turn.lent():
            raise KeyError(turn.held)

    with turn.lent():
        assert not turn.held, "what is not held is not lent"
    with pytest.raises(KeyError, match="False"):
        fail()
    assert not turn.held
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(take).result(LONG_S)
