"""Containers that stay open in a process, since to open one for each image would cost more than to read it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from pipeline.errors import ConfigError
from pipeline.inputs.walk import left_out

Container = TypeVar("Container")

LOOK_AGAIN_S = 1.0
"""A file is not looked at more often; who reads compares the bytes with an id."""


class Opened(Generic[Container]):
    """What `make` gives for a path, kept until the file is touched.

    most   containers that are kept, those opened last
    file   the file of a path, whose stat tells that it was touched
    close  what to do with a container whose file was touched
    """

    def __init__(
        self,
        make: Callable[[str], Container],
        most: int = 64,
        file: Callable[[str], str] = str,
        close: Callable[[Container], None] = lambda container: None,
    ) -> None:
        self._make, self._most, self._file, self._close = make, most, file, close
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, tuple[int, ...], Container]] = {}
        os.register_at_fork(after_in_child=self._known.clear)

    def __contains__(self, path: str) -> bool:
        return path in self._known

    def get(self, path: str) -> Container:
        """Raises OSError where there is no such file, and what `make` raises."""
        known = self._known.get(path)
        if known is not None and time.monotonic() - known[0] < LOOK_AGAIN_S:
            return known[2]
        with self._lock:
            status = os.stat(self._file(path))
            stamp = status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
            known = self._known.pop(path, None)
            if known is not None and known[1] != stamp:
                self._close(known[2])
                known = None
            container = self._make(path) if known is None else known[2]
            while len(self._known) >= self._most:
                self._known.pop(next(iter(self._known)))
            self._known[path] = time.monotonic(), stamp, container
            return container


def files_ending(place: Path, endings: tuple[str, ...], what: str) -> list[Path]:
    """The file itself, or those of a folder and of all its folders that end so in lower case, without hidden ones.

    Raises ConfigError where there is none, or one that is no regular file: reading a pipe would never end.
    """
    found = [place]
    if place.is_dir():
        inside = (one for one in place.rglob("*") if one.name.lower().endswith(endings))
        found = sorted(one for one in inside if not any(map(left_out, one.relative_to(place).parts)))
    if not found:
        raise ConfigError(f"{place}: expected {what} or a folder of them, found none; correct the path")
    odd = next((one for one in found if not one.is_file()), None)
    if odd is not None:
        raise ConfigError(f"{odd}: expected {what}, found no regular file; correct the path or remove it")
    return found
