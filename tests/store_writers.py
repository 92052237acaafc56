"""Writers of shards in children of the warm process: one that is killed, two at the same time."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

from store_rows import put

from pipeline.storage.store import Store


def killed_put(case: dict[str, str]) -> None:
    """Rows into the store of `case`, until its point of publishing is reached."""

    def kill(point: str) -> None:
        if point == case["point"]:
            os.kill(os.getpid(), signal.SIGKILL)

    store = Store(Path(case["store"]), writable=True)
    store.start_run()
    put(store, 0, 5, kill)


def _put_at_the_same_time(root: Path, barrier: Any) -> None:
    store = Store(root, writable=True)
    for start in range(0, 60, 10):
        barrier.wait()
        put(store, start, start + 10)


def two_puts(case: dict[str, str]) -> None:
    """The same rows by two processes at the same time, which both have to succeed."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    writers = [context.Process(target=_put_at_the_same_time, args=(Path(case["store"]), barrier)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
