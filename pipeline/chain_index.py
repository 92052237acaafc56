"""Where each row of a chain lies: the ids of all its shards, merged, with a disposable cache.

The truth is the set of shard directories. The cache holds the merged ids, so that a plan over a million rows reads one
file instead of hundreds; it is believed for a shard only while the shard's `zarr.json` has the same inode, size and
time of change, and the sizes of all the shard's files are checked anyway. Deleting it costs one re-read.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic
from pipeline import ids as row_ids
from pipeline.errors import ConflictError, DamagedShardError
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


@dataclass
class _Known:
    """A shard as the cache remembers it."""

    stamp: list[int]
    rows: int
    files: Mapping[str, int]


def read_index(directory: Path, cache: Path, writable: bool) -> ChainIndex:
    """Index of the shards in a chain's directory; an absent directory has no rows.

    Raises ConflictError if two shards hold the same row with different digests.
    """
    names = _shard_names(directory)
    if not names:
        return ChainIndex(directory, np.empty(0, ID), np.empty(0, np.int32), np.empty(0, np.int32), ())
    known, cached = _read_cache(cache, directory)
    good: dict[str, _Known] = {}
    fresh: dict[str, NDArray[np.void]] = {}
    damaged = []
    for name in names:
        path = directory / f"{name}.zarr"
        try:
            entry = known.get(name)
            if entry is not None and entry.stamp == _stamp(path):
                check_sizes(path, entry.files)
            else:
                stamp = _stamp(path)
                shard = Shard.open(path)
                fresh[name] = shard.ids
                entry = _Known(stamp, shard.rows, shard.attributes["files"])
            good[name] = entry
        except DamagedShardError as error:
            damaged.append((path, str(error)))
    if cached is not None and not fresh and list(good) == list(cached.names):
        return ChainIndex(directory, cached.ids, cached.shard, cached.row, cached.names, damaged)
    index = _merge(directory, good, fresh, cached, damaged)
    if writable:
        _write_cache(cache, index, good)
    return index


def _shard_names(directory: Path) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.name[:16] for entry in entries if SHARD_NAME.fullmatch(entry.name))
    except FileNotFoundError:
        return []


def _stamp(path: Path) -> list[int]:
    try:
        found = os.stat(f"{path}/zarr.json")
    except OSError as error:
        raise DamagedShardError(f"{path / 'zarr.json'} cannot be read: {error}", str(path)) from error
    return [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _merge(
    directory: Path,
    good: Mapping[str, _Known],
    fresh: Mapping[str, NDArray[np.void]],
    cached: ChainIndex | None,
    damaged: list[tuple[Path, str]],
) -> ChainIndex:
    """Merge the shards' ids; if a row is in two shards, the smaller name wins."""
    parts = []
    remembered = _cached_ids(cached) if cached is not None else {}
    for name, entry in good.items():
        found = fresh.get(name)
        if found is None:
            found = remembered.get(name)
        if found is None or len(found) != entry.rows:  # some of its rows were counted for another shard
            found = Shard.open(directory / f"{name}.zarr").ids
        parts.append(found)
    everything = np.concatenate(parts) if parts else np.empty(0, ID)
    sizes = [len(part) for part in parts]
    shard = np.repeat(np.arange(len(parts), dtype=np.int32), sizes)
    row = np.concatenate([np.arange(size, dtype=np.int32) for size in sizes]) if parts else np.empty(0, np.int32)
    order = row_ids.order(everything)  # stable: of equal ids, that of the smaller name comes first
    ranked = everything[order]
    index = ChainIndex(directory, ranked, shard[order], row[order], tuple(good), damaged)
    pairs = ranked.view(">u8").reshape(-1, 2)
    again = np.zeros(len(ranked), dtype=bool)
    again[1:] = (pairs[1:] == pairs[:-1]).all(axis=1)
    if not again.any():
        return index
    _compare_twins(index, np.flatnonzero(again))
    kept = ~again
    return ChainIndex(directory, index.ids[kept], index.shard[kept], index.row[kept], index.names, damaged)


def _cached_ids(cached: ChainIndex) -> dict[str, NDArray[np.void]]:
    order = np.lexsort((cached.row, cached.shard))
    bounds = np.searchsorted(cached.shard[order], np.arange(len(cached.names) + 1))
    ids = cached.ids[order]
    return {name: ids[bounds[number] : bounds[number + 1]] for number, name in enumerate(cached.names)}


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


def _read_cache(cache: Path, directory: Path) -> tuple[dict[str, _Known], ChainIndex | None]:
    """What the cache says; nothing if it is absent, of another format or damaged."""
    try:
        data = cache.read_bytes()
    except OSError:
        return {}, None
    if not data.startswith(MAGIC):
        return {}, None
    try:
        end = data.index(b"\n", len(MAGIC))
        header: dict[str, Any] = json.loads(data[len(MAGIC) : end])
        count, body = header["rows"], memoryview(data)[end + 1 :]
        if header["directory"] != directory.name or len(body) != 24 * count or zlib.crc32(body) != header["check"]:
            return {}, None
    except (ValueError, KeyError):
        return {}, None
    known = {name: _Known(stamp, rows, files) for name, stamp, rows, files in header["shards"]}
    ids = np.frombuffer(body, dtype=ID, count=count)
    shard = np.frombuffer(body, dtype="<i4", count=count, offset=16 * count)
    row = np.frombuffer(body, dtype="<i4", count=count, offset=20 * count)
    return known, ChainIndex(directory, ids, shard, row, tuple(known))
