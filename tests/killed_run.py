"""A run of a pipeline in a child of the warm process, so that a hundred of them can be killed in a minute.

It is killed at a named point of publishing, after some rows or some time, or not at all.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pipeline.atomic
import pipeline.running.run
from pipeline.declaring.config import load_pipeline
from pipeline.running import begun, compute, tasks
from pipeline.stage import Batch
from pipeline.storage.store import Store


def killed_run(case: dict[str, Any]) -> None:
    """case: file and log; perhaps point (name, occurrence), rows and row_s, row_by_row, delay_s, threads, workers."""
    os.environ["TOY_LOG"] = case["log"]
    pipeline.running.run.default_workers = lambda: case.get("threads", 1)
    pipeline.atomic.flush = lambda path: None  # SIGKILL does not lose what the kernel has
    if case.get("delay_s") is not None:
        end = time.monotonic() + case["delay_s"]

        def kill_later() -> None:
            time.sleep(max(0.0, end - time.monotonic()))
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=kill_later, daemon=True).start()
    if case.get("row_by_row"):  # each row is a block, and is kept
        begun.LOST_S, begun.FIRST_ROWS = 0.0, 1
    if case.get("rows"):
        kill_after(case["rows"], case["row_s"])
    if case.get("point"):
        name, occurrence = case["point"]
        seen = 0

        def kill(point: str) -> None:
            nonlocal seen
            seen += point == name
            if point == name and seen == occurrence:
                os.kill(os.getpid(), signal.SIGKILL)

        plain = Store.stage_shard
        Store.stage_shard = lambda self, *arguments, **more: plain(self, *arguments, kill=kill, **more)  # type: ignore[method-assign]
    pipeline.running.run.run(load_pipeline(Path(case["file"])), [], case.get("workers"))


def kill_after(rows: int, row_s: float) -> None:
    """SIGKILL with the first block that has a row beyond these; for the tasks' clock each row takes `row_s`."""
    done = 0
    plain = compute._call

    def call(step: compute.Step, batch: Batch) -> Any:
        nonlocal done
        values = plain(step, batch)
        done += len(batch)
        if done > rows:
            os.kill(os.getpid(), signal.SIGKILL)
        return values

    compute._call = call
    tasks.Keeper = partial(begun.Keeper, clock=lambda: done * row_s)  # type: ignore[misc, assignment]
