"""What a run shows while it goes on, and how it is told to end; without what computes, which a run may not need."""

from __future__ import annotations

import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol


class Progress(Protocol):
    """What the schedule tells the bars."""

    def advance(self, node: str, rows: int, failed: int = 0, seconds: float = 0.0) -> None: ...
    def step(self, node: str, done: int, total: int) -> None: ...
    def say(self, sentence: str) -> None: ...


class Stop:
    """Set by Ctrl-C or SIGTERM; a second Ctrl-C ends the process at once."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.asked = False

    def __call__(self) -> bool:
        return self.event.is_set()

    @contextmanager
    def listening(self, say: Callable[[str], None]) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, frame: types.FrameType | None) -> None:
            del frame
            if self.asked and number == signal.SIGINT:
                _leave()
            self.asked = True
            self.event.set()
            say("stopping: what is in flight is finished and kept; press Ctrl-C again to drop it")

        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _leave() -> None:
    """End the process without waiting for its threads: whatever the instant, the store is whole."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, RuntimeError, ValueError):  # the signal may have come while it was written to
            stream.flush()
    with suppress(OSError):
        os.write(
            2, b"\ntouchstone: what was in flight is dropped, but for rows kept so far; the same command goes on\n"
        )
    os._exit(130)


def default_workers() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
