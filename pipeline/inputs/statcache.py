"""The stat cache on disk: what each input file looked like when its digest was taken.

One .npz file of plain arrays (no pickles), replaced atomically. It is read in milliseconds for 100,000 files because
names lie in one block of bytes that is compared as a whole before any name is looked at. Whatever is wrong with the
file (cut off, foreign, from another version), it counts as empty.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic
from pipeline.errors import StoreError

VERSION = 1

UNREADABLE = (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error)
"""What a missing, damaged or foreign cache file raises when it is read."""


@dataclass(frozen=True)
class Table:
    """Files of one root.

    names    relative paths, or the same packed into bytes with a zero byte behind each
    stats    (n, 4) int64: size, mtime_ns, ctime_ns, inode
    digests  (n, 32) uint8: SHA-256
    """

    names: list[str] | bytes
    stats: NDArray[np.int64]
    digests: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.stats)

    @property
    def packed(self) -> bytes:
        return self.names if isinstance(self.names, bytes) else _pack(self.names)

    @property
    def paths(self) -> list[str]:
        return _unpack(self.names) if isinstance(self.names, bytes) else self.names

    def match(self, paths: Sequence[str], stats: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Digests ((n, 32), zeros where unknown) of `paths`, and whether each is known under exactly this stat."""
        if len(paths) == len(self) and _pack(paths) == self.packed:
            fresh = (stats == self.stats).all(axis=1)
            if fresh.all():
                return self.digests.copy(), fresh
            return np.where(fresh[:, None], self.digests, 0).astype(np.uint8), fresh
        digests = np.zeros((len(paths), 32), np.uint8)
        place = {path: row for row, path in enumerate(self.paths)}
        rows = np.fromiter((place.get(path, -1) for path in paths), np.int64, len(paths))
        fresh = rows >= 0
        fresh[fresh] = (stats[fresh] == self.stats[rows[fresh]]).all(axis=1)
        digests[fresh] = self.digests[rows[fresh]]
        return digests, fresh

    def merged(self, newer: Table) -> Table:
        """This table with the rows of `newer` in place of its own, sorted by path."""
        replaced = set(newer.paths)
        keep = np.array([path not in replaced for path in self.paths], bool)
        names = [path for path in self.paths if path not in replaced] + newer.paths
        stats = np.concatenate((self.stats[keep], newer.stats))
        digests = np.concatenate((self.digests[keep], newer.digests))
        order = sorted(range(len(names)), key=names.__getitem__)
        return Table([names[row] for row in order], stats[order], digests[order])


EMPTY = Table([], np.zeros((0, 4), np.int64), np.zeros((0, 32), np.uint8))


class StatCache:
    """Tables of roots and named arrays under one file; `path=None` keeps everything in memory."""

    def __init__(self, path: Path | None, read_only: bool = False) -> None:
        self._path = path
        self._read_only = read_only
        self._changed = False
        self._entries: dict[str, dict[str, NDArray[Any]]] | None = None

    def table(self, key: str) -> Table:
        entry = self._loaded().get(key)
        if entry is None or set(entry) != {"names", "stats", "digests"}:
            return EMPTY
        stats, digests = entry["stats"], entry["digests"]
        if stats.shape != (len(digests), 4) or digests.shape != (len(stats), 32):
            return EMPTY
        return Table(entry["names"].tobytes(), stats, digests)

    def put(self, key: str, table: Table) -> None:
        packed = np.frombuffer(table.packed, np.uint8)
        self._put(key, {"names": packed, "stats": table.stats, "digests": table.digests})

    def arrays(self, key: str, mark: bytes) -> Mapping[str, NDArray[Any]] | None:
        """Arrays stored under `key` while the inputs had the same `mark`."""
        entry = self._loaded().get(key)
        if entry is None or "mark" not in entry or entry["mark"].tobytes() != mark:
            return None
        return {name: values for name, values in entry.items() if name != "mark"}

    def put_arrays(self, key: str, mark: bytes, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._put(key, {**arrays, "mark": np.frombuffer(mark, np.uint8)})

    def save(self) -> None:
        """Replace the file if anything changed; no fsync, since a lost cache costs only time."""
        if self._path is None or self._read_only or not self._changed:
            return
        keys = sorted(self._loaded())
        header = {"version": VERSION, "keys": keys}
        arrays = {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)}
        for number, key in enumerate(keys):
            arrays.update({f"{number}/{name}": values for name, values in self._loaded()[key].items()})
        try:
            with atomic.replacing(self._path, durable=False) as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
        except OSError as error:
            raise StoreError(f"{self._path}: the stat cache cannot be written ({error.strerror or error})") from error
        self._changed = False

    def _put(self, key: str, entry: dict[str, NDArray[Any]]) -> None:
        self._loaded()[key] = entry
        self._changed = True

    def _loaded(self) -> dict[str, dict[str, NDArray[Any]]]:
        if self._entries is None:
            self._entries = _load(self._path) if self._path is not None else {}
        return self._entries


def _load(path: Path) -> dict[str, dict[str, NDArray[Any]]]:
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            header = json.loads(file["header"].tobytes())
            if header["version"] != VERSION:
                return {}
            entries: dict[str, dict[str, NDArray[Any]]] = {key: {} for key in header["keys"]}
            for name in file.files:
                number, slash, field = name.partition("/")
                if slash:
                    entries[header["keys"][int(number)]][field] = file[name]
            return entries
    except UNREADABLE:
        return {}


def _pack(names: Sequence[str]) -> bytes:
    return ("\0".join(names) + "\0" if names else "").encode("utf-8", "surrogateescape")


def _unpack(packed: bytes) -> list[str]:
    return packed.decode("utf-8", "surrogateescape").split("\0")[:-1]
