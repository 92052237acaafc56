"""The GPU of a process is used by one task at a time; another one gathers its rows, or publishes, meanwhile.

Two tasks in turn keep a GPU busy where each of them by itself would let it wait for the disk. They never compute at
once: kernels of two tasks side by side would gain nothing.

A stage must not ask for its rows while it holds a lock of its own: who has the turn meanwhile may want that lock.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext


class Turn:
    """Whose turn it is, among the threads of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._here = threading.local()

    @property
    def held(self) -> bool:
        """Whether it is this thread's turn."""
        return getattr(self._here, "held", False)

    def taken(self) -> AbstractContextManager[None]:
        """Wait for the turn and keep it; within it, this does nothing."""
        return nullcontext() if self.held else self._taken()

    def lent(self) -> AbstractContextManager[None]:
        """Give the turn to others while this thread waits for something else; nothing where it is not its turn."""
        return self._lent() if self.held else nullcontext()

    @contextmanager
    def _taken(self) -> Iterator[None]:
        with self._lock:
            self._here.held = True
            try:
                yield
            finally:
                self._here.held = False

    @contextmanager
    def _lent(self) -> Iterator[None]:
        self._here.held = False
        self._lock.release()
        try:
            yield
        finally:
            self._lock.acquire()
            self._here.held = True


GPU_TURN = Turn()
