"""Where each row of a chain lies: the ids of all its shards, merged, kept in memory and in a disposable cache.

The truth is the set of shard directories. A process reads each shard's ids once; later looks list the chain's directory
and open only what is new there (another name, or another directory under a known name). Damage that happens to a known
shard meanwhile is met by who reads its rows.
The cache file holds the merged ids, so that a plan over a million rows reads one file instead of hundreds; it is
believed for a shard only while all files of the shard have the inode, size and times that it recorded. In a run
(`thorough`) the digests of all rows of any other shard are compared once, whatever the reason (an edit, a store that
was copied, a cache that was deleted); what the run itself has published is not read again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic
from pipeline import ids as row_ids
from pipeline.errors import ConflictError, DamagedShardError, OldFormatError, StoreError
from pipeline.stage import ID, Schema
from pipeline.storage.files import reading_error, trouble
from pipeline.storage.sealed import parse
from pipeline.storage.shards import Shard

SHARD_NAME = re.compile(r"[0-9a-f]{16}\.zarr")
MAGIC = b"touchstone index 2\n"


@dataclass(frozen=True, eq=False)
class ChainIndex:
    """The rows of one chain that can be read, sorted by id.

    ids      (n,) V16, sorted, distinct
    shard    (n,) int32, position in `names`
    row      (n,) int32, row inside the shard
    names    shard names (16 hexadecimal digits), sorted; undamaged ones only
    contents digest of the ids, row digests and parents' digests of each shard, in the order of `names`
    damaged  (directory, reason) of shards whose rows are left out
    old      directories of shards of another format, whose rows are left out
    """

    directory: Path
    ids: NDArray[np.void]
    shard: NDArray[np.int32]
    row: NDArray[np.int32]
    names: tuple[str, ...]
    contents: tuple[str, ...] = ()
    damaged: list[tuple[Path, str]] = field(default_factory=list)
    old: list[Path] = field(default_factory=list)

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

    @cached_property
    def content(self) -> bytes:
        """Digest of all rows with their digests and those of their parents: the same as long as no shard changes."""
        return hashlib.sha256("".join(sorted(self.contents)).encode()).digest()[:16]


@dataclass(frozen=True)
class _Known:
    """A shard whose ids are in the index."""

    rows: int
    content: str
    stamps: Mapping[str, list[int]]  # file -> inode, size, times of modification and of change
    checked: bool  # whether all its digests were compared while it had these stamps
    directory: int = -1  # inode of the shard's directory; -1 if this process has not looked at it yet


class ChainReader:
    """The index of one chain, kept between looks at its directory; threads may share it.

    thorough   compare the digests of shards that no cache vouches for
    published  whether this run has published a shard: then its digests need not be read
    """

    def __init__(
        self,
        directory: Path,
        cache: Path,
        chain: bytes,
        thorough: bool = False,
        published: Callable[[Path], bool] = lambda path: False,
    ) -> None:
        self.directory = directory
        self.cache = cache
        self.chain = chain
        self.thorough = thorough
        self.published = published
        self.schema: Schema | None = None  # what the shards must hold, once somebody has said so
        self.owned = False  # whether a recipe says that the directory is this chain's
        self.compared = 0  # shards whose digests were compared
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
                self._known, self._index = _read_cache(self.cache, self.directory, self.chain)
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
                _write_cache(self.cache, self._index, self.chain, self._known)
            except OSError:
                return
            self._saved = True

    def _update(self, listing: Mapping[str, int], broken: Mapping[str, str]) -> ChainIndex:
        """Read what is new, merge it, and remember the result."""
        assert self._index is not None
        good: dict[str, _Known] = {}
        fresh: dict[str, NDArray[np.void]] = {}
        damaged, old = [], []
        for name, inode in listing.items():
            known = self._known.get(name)
            path = self.directory / f"{name}.zarr"
            if name in broken:
                damaged.append((path, broken[name]))
            elif known is not None and known.directory == inode:
                good[name] = known
            else:
                try:
                    good[name], ids = self._enter(path, inode, known)
                    self._saved &= known is not None and known.checked == good[name].checked
                    if ids is not None:
                        fresh[name] = ids
                except OldFormatError:
                    old.append(path)
                except DamagedShardError as error:
                    if os.path.lexists(path):  # else another process moved it away after it was listed
                        damaged.append((path, str(error)))
        index = _merge(self._index, good, fresh, self.chain)
        self._saved &= index is self._index
        contents = tuple(entry.content for entry in good.values())
        self._index = replace(index, contents=contents, damaged=damaged, old=old)
        self._known, self._listing = good, dict(listing)
        return self._index

    def _enter(self, path: Path, inode: int, known: _Known | None) -> tuple[_Known, NDArray[np.void] | None]:
        """A shard that this process sees for the first time, and its ids unless the cache had them."""
        mine = self.published(path)
        if known is not None and known.stamps == _stamps(path, known.stamps):
            if known.checked or not self.thorough:
                return replace(known, directory=inode), None
            if not mine:
                self._open(path).verify()
                self.compared += 1
            return replace(known, checked=True, directory=inode), None
        first = _stamps(path, ["zarr.json"])
        shard = self._open(path)
        stamps = first | _stamps(path, shard.attributes["files"])
        if self.thorough and not mine:
            shard.verify()
            self.compared += 1
        return _Known(shard.rows, shard.content, stamps, self.thorough, inode), shard.ids

    def _open(self, path: Path) -> Shard:
        return Shard.open(path, chain=self.chain, schema=self.schema)


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


def _stamps(path: Path, names: Iterable[str]) -> dict[str, list[int]]:
    """What the system says of files of a shard; a file that is not there is left out. Raises StoreError."""
    stamps = {}
    for name in names:
        try:
            found = os.stat(f"{path}/{name}")
        except OSError as error:
            wrong = reading_error(error, path / name, path)
            if isinstance(wrong, StoreError):
                raise wrong from error
            continue
        stamps[name] = [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
    return stamps


def _merge(
    old: ChainIndex, good: Mapping[str, _Known], fresh: Mapping[str, NDArray[np.void]], chain: bytes
) -> ChainIndex:
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
                fresh[name] = Shard.open(old.directory / f"{name}.zarr", chain=chain).ids
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
    again = np.zeros(len(ids), dtype=bool)
    again[1:] = row_ids.same(ids[1:], ids[:-1])
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
    wanted = row_ids.distinct(index.shard[np.concatenate([seconds - 1, seconds])])
    digests = {number: Shard.open(index.path(number)).digests for number in wanted.tolist()}
    for second in seconds.tolist():
        places = [(int(index.shard[k]), int(index.row[k])) for k in (second - 1, second)]
        one, other = (bytes(digests[number][row]) for number, row in places)
        if one != other:
            raise ConflictError(
                f"row {row_ids.hex(index.ids[second])} has different values in {index.path(places[0][0])} and "
                f"{index.path(places[1][0])}: the stage is not deterministic, or a file was exchanged; move one away"
            )


def _write_cache(cache: Path, index: ChainIndex, chain: bytes, good: Mapping[str, _Known]) -> None:
    """Magic, crc32 of all that follows, a line of JSON, then ids, shard numbers and rows."""
    header = {
        "chain": chain.hex(),
        "rows": len(index),
        "shards": [[name, one.rows, one.content, dict(one.stamps), one.checked] for name, one in good.items()],
    }
    body = index.ids.tobytes() + index.shard.astype("<i4").tobytes() + index.row.astype("<i4").tobytes()
    data = json.dumps(header).encode() + b"\n" + body
    atomic.write_bytes(cache, MAGIC + zlib.crc32(data).to_bytes(4, "little") + data, durable=False)


def _read_cache(cache: Path, directory: Path, chain: bytes) -> tuple[dict[str, _Known], ChainIndex]:
    """What the cache says; nothing if it is absent, of another format or chain, or damaged."""
    nothing = ChainIndex(directory, np.empty(0, ID), np.empty(0, np.int32), np.empty(0, np.int32), ())
    start = len(MAGIC) + 4
    try:
        data = cache.read_bytes() if cache.is_file() else b""
    except OSError:
        return {}, nothing
    content = memoryview(data)[start:]
    if not data.startswith(MAGIC) or zlib.crc32(content) != int.from_bytes(data[len(MAGIC) : start], "little"):
        return {}, nothing
    try:
        end = data.index(b"\n", start)
        header: dict[str, Any] = parse(data[start:end])
        count, body = header["rows"], memoryview(data)[end + 1 :]
        known = {name: _Known(*facts) for name, *facts in header["shards"]}
        plain = all(isinstance(one.stamps, dict) and isinstance(one.content, str) for one in known.values())
        if header["chain"] != chain.hex() or len(body) != 24 * count or not plain:
            return {}, nothing
        ids = np.frombuffer(body, dtype=ID, count=count)
        shard = np.frombuffer(body, dtype="<i4", count=count, offset=16 * count)
        row = np.frombuffer(body, dtype="<i4", count=count, offset=20 * count)
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}, nothing
    if count and not 0 <= int(shard.min()) <= int(shard.max()) < len(known):
        return {}, nothing
    return known, ChainIndex(directory, ids, shard, row, tuple(known))
