"""What a file holds: the stamp of an untouched file, its SHA-256, and results that are kept until it changes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

NAMED = "files that it names"
"""Key of `NamedFiles` among the files of a recipe."""

More = ParamSpec("More")
Result = TypeVar("Result")


def file_stamp(path: str | Path) -> tuple[int, ...]:
    """Inode, size, and times of change (mtime, ctime in ns): equal stamps mean an untouched file."""
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits; raises OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class NamedFiles:
    """Files under a folder that something else names, e.g. a list: they enter a recipe by name and content."""

    folder: Path
    names: Sequence[str]

    def digest(self, sha256_of: Callable[[str], bytes]) -> str:
        """SHA-256 of the names and contents, whatever their order; sha256_of: name -> digest (32 bytes)."""
        whole = hashlib.sha256()
        for name in sorted(set(self.names)):
            whole.update(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest() + sha256_of(name))
        return whole.hexdigest()


class SmallFiles:
    """Bytes of files by their digest: who has hashed a small file spares others to open it. Threads may share it."""

    def __init__(self, most: int) -> None:
        """most: bytes that are kept; what comes later is not."""
        self._room = self._most = most
        self._data: dict[bytes, bytes] = {}

    def keep(self, digest: bytes, data: bytes) -> None:
        """digest: SHA-256 of the data."""
        if len(data) + FILE_COST <= self._room and digest[:16] not in self._data:
            self._room -= len(data) + FILE_COST
            self._data[digest[:16]] = data

    def get(self, row_id: bytes) -> bytes | None:
        """The bytes whose SHA-256 begins with these 16, if they are kept."""
        return self._data.get(row_id)

    def clear(self) -> None:
        self._data.clear()
        self._room = self._most


FILE_COST = 150
"""Bytes of memory that an entry of `SmallFiles` takes besides the data."""

SMALL_FILES = SmallFiles(2**26)
"""Of the run that this process is in."""


def kept_while_same(
    most: int | None,
) -> Callable[[Callable[Concatenate[Path, More], Result]], Callable[Concatenate[Path, More], Result]]:
    """A decorator: keep what a function gives for a file, its first argument, until the file is touched.

    most  results that are kept, those used last; None: all. Arguments are hashable. Who gets a result shares it.
    Raises OSError where there is no such file.
    """

    def decorate(function: Callable[Concatenate[Path, More], Result]) -> Callable[Concatenate[Path, More], Result]:
        @lru_cache(maxsize=most)
        def kept(path: Path, stamp: tuple[int, ...], *more: More.args, **named: More.kwargs) -> Result:
            return function(path, *more, **named)

        @wraps(function)
        def current(path: Path, /, *more: More.args, **named: More.kwargs) -> Result:
            return kept(path, file_stamp(path), *more, **named)  # type: ignore[arg-type]

        return current

    return decorate


known_sha256 = kept_while_same(1 << 18)(file_sha256)
"""`file_sha256`, kept until the file is touched."""
