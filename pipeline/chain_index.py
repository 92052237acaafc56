"""Where each row of a chain lies: the ids of all its shards, merged, kept in memory and in a disposable cache.

The truth is the set of shard directories. A process reads each shard's ids once; later looks list the chain's directory
and open only what is new there (another name, or another directory under a known name). Damage that happens to a known
shard meanwhile is met by who reads its rows.
The cache file holds the merged ids, so that a plan over a million rows reads one file instead of hundreds; it is
believed for a shard only while the shard's `zarr.json` has the same inode, size and time of change, and the sizes of
all the shard's files are checked once per process anyway. Deleting it costs one re-read.
"""

from __future__ import annotations

import json
import os
import re
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic
from pipeline import ids as row_ids
from pipeline.errors import ConflictError, DamagedShardError, StoreError
from pipeline.shard_reader import reading_error, trouble
from pipeline.shards import Shard, check_sizes
from pipeline.stage import ID

SHARD_NAME = re.compile(r"[0-9a-f]{16}\.zarr")
MAGIC = b"touchstone index 1\n"


@dataclass(frozen=True, eq=False)
class ChainIndex:
    """The rows of one chain that can be read, sorted by id.

    ids      (n,) V16, sorted, distinct
    shard    (n,) int32, position in `names`
    row      (n,) int32, row inside the shard
    names    shard names (16 hexadecimal digits), sorted; undamaged ones only
    damaged  (directory, reason) of shards whose rows are left out
    """

    directory: Path
    ids: NDArray[np.void]
    shard: NDArray[np.int32]
    row: NDArray[np.int32]
    names: tuple[str, ...]
    damaged: list[tuple[Path, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def contains(self, ids: NDArray[np.void]) -> NDArray[np.bool_]:
        """For each id whether a readable shard has its row."""
        return self.lookup(ids) >= 0

    def lookup(self, ids: NDArray[np.void]) -> NDArray[np.int64]:
        """Position of each id in this index, -1 where it has no row."""
        return row_ids.lookup(self.ids, ids)

    def path(self, number: int) -> Path:
        """Directory of the shard number `number`."""
        return self.directory / f"{self.names[number]}.zarr"


@dataclass(frozen=True)
class _Known:
    """A shard whose ids are in the index."""

    stamp: list[int]
    rows: int
    files: Mapping[str, int]
    directory: int = -1  # inode of the shard's directory; -1 if this process has not looked at it yet


class ChainReader:
    """The index of one chain, kept between looks at its directory; threads may share it."""

    def __init__(self, directory: Path, cache: Path) -> None:
        self.directory = directory
        self.cache = cache
        self.owned = False  # whether a recipe says that the directory is this chain's
        self._lock = threading.Lock()
        self._listing: dict[str, int] = {}  # shard name -> inode of its directory, at the last look
        self._known: dict[str, _Known] = {}
        self._index: ChainIndex | None = None
        self._saved = True

    def look(self) -> ChainIndex:
        """Index of the shards that are there now; an absent directory has no rows.

        Raises ConflictError if two shards hold the same row with different digests.
        """
        with self._lock:
            listing = _list_shards(self.directory)
            if self._index is None:
                self._known, self._index = _read_cache(self.cache, self.directory)
            elif listing == self._listing and not self._index.damaged:
                return self._index
            broken: dict[str, str] = {}  # found while merging
            while True:
                try:
                    return self._update(listing, broken)
                except DamagedShardError as error:
                    broken[Path(error.shard).name[:16]] = str(error)

    def save(self) -> None:
        """Write the cache file if the index has changed. A disk that does not take it costs the next process time."""
        with self._lock:
            if self._index is None or self._saved:
                return
            try:
                _write_cache(self.cache, self._index, self._known)
            except OSError:
                return
            self._saved = True

    def _update(self, listing: Mapping[str, int], broken: Mapping[str, str]) -> ChainIndex:
        """Read what is new, merge it, and remember the result."""
        assert self._index is not None
        good: dict[str, _Known] = {}
        fresh: dict[str, NDArray[np.void]] = {}
        damaged = []
        for name, inode in listing.items():
            known = self._known.get(name)
            path = self.directory / f"{name}.zarr"
            if name in broken:
                damaged.append((path, broken[name]))
            elif known is not None and known.directory == inode:
                good[name] = known
            else:
                try:
                    good[name], ids = _enter(path, inode, known)
                    if ids is not None:
                        fresh[name] = ids
                except DamagedShardError as error:
                    if path.exists():  # else another process moved it away after it was listed
                        damaged.append((path, str(error)))
        index = _merge(self._index, good, fresh)
        self._saved &= index is self._index
        self._index = replace(index, damaged=damaged)
        self._known, self._listing = good, dict(listing)
        return self._index


def _enter(path: Path, inode: int, known: _Known | None) -> tuple[_Known, NDArray[np.void] | None]:
    """A shard that this process sees for the first time, and its ids unless the cache had them."""
    stamp = _stamp(path)
    if known is not None and known.stamp == stamp:
        check_sizes(path, known.files)
        return replace(known, directory=inode), None
    shard = Shard.open(path)
    return _Known(stamp, shard.rows, shard.attributes["files"], inode), shard.ids


def _list_shards(directory: Path) -> dict[str, int]:
    """Name -> inode of the directory of each shard, sorted by name."""
    try:
        with os.scandir(directory) as entries:
            found = [(entry.name[:16], entry.inode()) for entry in entries if SHARD_NAME.fullmatch(entry.name)]
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StoreError(trouble(error, directory)) from error
    return dict(sorted(found))


def _stamp(path: Path) -> list[int]:
    try:
        found = os.stat(f"{path}/zarr.json")
    except OSError as error:
        raise reading_error(error, path / "zarr.json", path) from error
    return [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _merge(old: ChainIndex, good: Mapping[str, _Known], fresh: Mapping[str, NDArray[np.void]]) -> ChainIndex:
    """The rows of the good shards: those of `old`, less what is gone, and the fresh ones.

    If a row is in two shards, the smaller name wins. `old` itself if it says all this already. DamagedShardError names
    a shard that had to be opened and could not be read.
    """
    if not fresh and list(good) == list(old.names):
        return old
    number = {name: position for position, name in enumerate(good)}
    fresh = dict(fresh)
    if any(name not in good or name in fresh for name in old.names):  # it may have hidden rows of shards that stay
        held = np.bincount(old.shard, minlength=len(old.names))
        for name, rows in zip(old.names, held.tolist(), strict=True):
            if name in good and good[name].rows != rows and name not in fresh:
                fresh[name] = Shard.open(old.directory / f"{name}.zarr").ids
    renumbered = np.array([-1 if name in fresh else number.get(name, -1) for name in old.names], dtype=np.int32)
    shard = renumbered[old.shard]
    kept = shard >= 0
    parts = [(old.ids[kept], shard[kept], old.row[kept])]
    for name, ids in fresh.items():
        parts.append((ids, np.full(len(ids), number[name], np.int32), np.arange(len(ids), dtype=np.int32)))
    ids, shard, row = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = row_ids.order(ids)  # sorted pieces one after the other: little more than a copy
    index = ChainIndex(old.directory, ids[order], shard[order], row[order], tuple(good))
    return _without_twins(index) if _repeats(index.ids).any() else index


def _repeats(ids: NDArray[np.void]) -> NDArray[np.bool_]:
    """True where a sorted id equals the one before it."""
    pairs = ids.view(">u8").reshape(-1, 2)
    again = np.zeros(len(ids), dtype=bool)
    again[1:] = (pairs[1:] == pairs[:-1]).all(axis=1)
    return again


def _without_twins(index: ChainIndex) -> ChainIndex:
    """Each row once, in the shard of the smaller name; ConflictError if its digests differ."""
    words = row_ids.words(index.ids)
    order = np.lexsort((index.shard, words[:, 1], words[:, 0]))
    index = replace(index, ids=index.ids[order], shard=index.shard[order], row=index.row[order])
    again = _repeats(index.ids)
    _compare_twins(index, np.flatnonzero(again))
    return replace(index, ids=index.ids[~again], shard=index.shard[~again], row=index.row[~again])


def _compare_twins(index: ChainIndex, seconds: NDArray[np.int64]) -> None:
    """Rows that lie in two shards must have the same digest in both."""
    wanted = np.unique(index.shard[np.concatenate([seconds - 1, seconds])])
    digests = {number: Shard.open(index.path(number)).digests for number in wanted.tolist()}
    for second in seconds.tolist():
        places = [(int(index.shard[k]), int(index.row[k])) for k in (second - 1, second)]
        one, other = (bytes(digests[number][row]) for number, row in places)
        if one != other:
            raise ConflictError(
                f"row {row_ids.hex(index.ids[second])} has different values in {index.path(places[0][0])} and "
                f"{index.path(places[1][0])}: the stage is not deterministic, or a file was exchanged; move one away"
            )


def _write_cache(cache: Path, index: ChainIndex, good: Mapping[str, _Known]) -> None:
    body = index.ids.tobytes() + index.shard.astype("<i4").tobytes() + index.row.astype("<i4").tobytes()
    header = {
        "directory": index.directory.name,
        "rows": len(index),
        "check": zlib.crc32(body),
        "shards": [[name, entry.stamp, entry.rows, dict(entry.files)] for name, entry in good.items()],
    }
    text = json.dumps(header).encode() + b"\n"
    atomic.write_bytes(cache, MAGIC + text + body, durable=False)


def _read_cache(cache: Path, directory: Path) -> tuple[dict[str, _Known], ChainIndex]:
    """What the cache says; nothing if it is absent, of another format or damaged."""
    nothing = ChainIndex(directory, np.empty(0, ID), np.empty(0, np.int32), np.empty(0, np.int32), ())
    try:
        data = cache.read_bytes()
    except OSError:
        return {}, nothing
    if not data.startswith(MAGIC):
        return {}, nothing
    try:
        end = data.index(b"\n", len(MAGIC))
        header: dict[str, Any] = json.loads(data[len(MAGIC) : end])
        count, body = header["rows"], memoryview(data)[end + 1 :]
        if header["directory"] != directory.name or len(body) != 24 * count or zlib.crc32(body) != header["check"]:
            return {}, nothing
    except (ValueError, KeyError):
        return {}, nothing
    known = {name: _Known(stamp, rows, files) for name, stamp, rows, files in header["shards"]}
    ids = np.frombuffer(body, dtype=ID, count=count)
    shard = np.frombuffer(body, dtype="<i4", count=count, offset=16 * count)
    row = np.frombuffer(body, dtype="<i4", count=count, offset=20 * count)
    return known, ChainIndex(directory, ids, shard, row, tuple(known))
