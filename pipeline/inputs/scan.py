"""Which files there are and what they contain, asked of the disk once per process.

A plan over 100,000 unchanged files must cost one directory walk and no reading. Digests are therefore kept beside the
(size, mtime, ctime, inode) that each file had when it was read, and a file is read again only when one of the four has
moved. The cache is disposable: deleting it costs one reading of the inputs, and it never holds truth; whoever computes
with the bytes checks them against the id. A file that was touched less than two seconds before the scan is not
remembered, since it could change again without its time stamps telling ("racily clean").

Copying a tree, a fresh git checkout or rsync gives every file a new inode and ctime: all are read once more.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.contents import SMALL_FILES
from pipeline.errors import ConfigError, SourceError
from pipeline.inputs.archives import Archive
from pipeline.inputs.statcache import StatCache, Table
from pipeline.inputs.walk import MISSING, Found, Walk, four, look_up, reason_of, within
from pipeline.stage import ID, RowError

RACY_NS = 2_000_000_000
PORTION = 1024
"""Files handed to the reading threads at once."""

JOB = 32
"""Files, or rows of a container, that one thread reads before it says so."""

SMALL = 16384
"""Bytes of a file up to which those that were hashed are kept for who computes with them."""

SCRATCH = "scratch"
"""Folder beside pipeline.yaml for what long jobs leave; a folder above it does not count its pictures."""


@dataclass(frozen=True)
class Listing:
    """Files under one root, sorted by path.

    paths     relative to the root, with "/" between folders
    digests   (n, 32) uint8, SHA-256 of the content; zeros where a row has a problem or was not to be hashed
    sizes     (n,) int64, bytes
    problems  row number -> why the file cannot be read; such rows stay in the listing
    ignored   files that were passed over because of their suffix
    notes     sentences on what else was passed over or read in another way
    spelled   path -> path as the disk spells it, where that differs
    """

    paths: list[str]
    digests: NDArray[np.uint8]
    sizes: NDArray[np.int64]
    problems: dict[int, str] = field(default_factory=dict)
    ignored: int = 0
    notes: tuple[str, ...] = ()
    spelled: Mapping[str, str] = field(default_factory=dict)

    @property
    def ids(self) -> NDArray[np.void]:
        """(n,) V16: the first half of each digest."""
        return np.ascontiguousarray(self.digests[:, : ID.itemsize]).view(ID)[:, 0]


class Scan:
    """One look at the inputs.

    base       folder of pipeline.yaml; relative roots start there
    cache      the stat cache, a file in the store; None: nothing is remembered
    paranoid   read every file whatever its stat says
    read_only  never write the cache (`plan`)
    progress   called with a short text and the count of files read so far
    clock      nanoseconds since 1970, comparable with the time stamps of files
    store      folder of results, which is never read as a source
    """

    reads: ClassVar[bool] = True
    """Whether files are read; else all digests are zeros."""

    def __init__(
        self,
        base: Path,
        cache: Path | None,
        paranoid: bool = False,
        progress: Callable[[str, int], None] | None = None,
        *,
        read_only: bool = False,
        clock: Callable[[], int] = time.time_ns,
        store: Path | None = None,
    ) -> None:
        self.base = Path(os.path.abspath(base))
        places = () if store is None else (os.path.realpath(store),)
        around = within(os.path.realpath(self.base), places)  # then every source lies in it
        self._store: tuple[str, ...] = () if around else places
        self.paranoid = paranoid
        self.hashed = 0
        """Files read by this object so far."""
        self._cache = StatCache(cache, read_only=read_only)
        self._keeps = not read_only
        self._progress = progress or (lambda text, count: None)
        self._clock = clock
        self._done: dict[tuple[Any, ...], Any] = {}

    def resolve(self, path: str | Path) -> Path:
        """`path`, seen from the folder of pipeline.yaml."""
        return self.base / path

    def source(self, path: str | Path) -> Path:
        """`path` as a place that rows may come from. Raises ConfigError if it lies in the store."""
        place = self.resolve(path)
        if within(os.path.realpath(place), self._store):
            raise ConfigError(
                f"{place}: lies in the store, and results are never read as a source; copy the files to a folder of "
                "their own"
            )
        return place

    def folder(self, root: str | Path, suffixes: Iterable[str], follow_links: bool = False) -> Listing:
        """All files under `root` whose name ends in one of `suffixes` (lower case, any case matches).

        Hidden files and results of pipelines are passed over. Raises ConfigError if there is no such folder or it lies
        in the store, SourceError if a link leads outside of it; with `follow_links` it may, to a regular file.
        """
        wanted, place = tuple(sorted(suffixes)), self.source(root)
        key = ("folder", str(place), *wanted)
        return self._once((*key, follow_links), lambda: self._folder(key, place, wanted, follow_links))

    def files(
        self, root: str | Path, relative_paths: Sequence[str], hashed: bool = True, follow_links: bool = False
    ) -> Listing:
        """The named files under `root`, in sorted order; with `hashed=False` only existence and size are looked up.

        A name that the disk spells in another normal form, or with backslashes, is found (`Listing.spelled`). Raises
        ConfigError if there is no such folder, SourceError if a path or a link leads outside of it or into the store.
        """
        place, names = self.source(root), sorted(set(relative_paths))
        mark = hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()
        key = ("files", str(place))

        def look() -> Listing:
            return self._files(key, place, names, hashed, self._store, follow_links)

        return self._once((*key, mark, hashed, follow_links), look)

    def digest(self, path: str | Path) -> bytes:
        """SHA-256 (32 bytes) of one file; raises SourceError if it cannot be read."""
        place = Path(os.path.realpath(self.resolve(path)))
        key = ("files", str(place.parent))
        listing = self._once((*key, place.name), lambda: self._files(key, place.parent, [place.name], True))
        if listing.problems:
            raise SourceError(f"{place}: {listing.problems[0]}")
        return listing.digests[0].tobytes()

    def archive(self, path: str | Path, suffixes: Iterable[str]) -> Listing:
        """Members of a zip file whose name ends in one of `suffixes`; read again only when the zip's own stat moves.

        Paths have "/" between folders, whatever the archive has; see `pipeline.inputs.archives`.

        Raises ConfigError if there is no such file, SourceError if it is no zip file.
        """
        place, wanted = self.source(path), tuple(sorted(suffixes))
        if not place.is_file():
            raise ConfigError(
                f"{place}: {MISSING}, expected a zip file; correct the path, which is relative to the pipeline file"
            )
        stored = self.cached("\0".join(("members", str(place), *wanted)), place, lambda: self._archive(place, wanted))
        reasons = decoded(stored["reasons"])
        return Listing(
            decoded(stored["names"]),
            stored["digests"],
            stored["sizes"],
            {row: reason for row, reason in enumerate(reasons) if reason},
            int(stored["ignored"][0]),
            tuple(decoded(stored["notes"])),
        )

    def cached(
        self, key: str, stat_of: Path, compute: Callable[[], Mapping[str, NDArray[Any]]]
    ) -> Mapping[str, NDArray[Any]]:
        """Named arrays of `compute()`, kept while the file `stat_of` (or every file of that folder) is untouched."""
        return self._once(("cached", key), lambda: self._computed(key, stat_of, compute))

    def digests(self, text: str, count: int, read: Callable[[int], bytes]) -> tuple[NDArray[np.uint8], dict[int, str]]:
        """(count, 32) uint8, SHA-256 of `read(row)` in threads, with progress; row -> reason where it raises RowError.

        text: what is shown while it goes on.
        """
        from concurrent.futures import ThreadPoolExecutor

        def some(rows: range) -> list[bytes | str]:
            found: list[bytes | str] = []
            for row in rows:
                try:
                    found.append(hashlib.sha256(read(row)).digest())
                except RowError as error:
                    found.append(str(error))
            return found

        digests, reasons = np.zeros((count, 32), np.uint8), dict[int, str]()
        jobs = [range(start, min(start + JOB, count)) for start in range(0, count, JOB)]
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for first in range(0, len(jobs), PORTION // JOB):
                portion = jobs[first : first + PORTION // JOB]
                for rows, results in zip(portion, pool.map(some, portion), strict=True):
                    for row, result in zip(rows, results, strict=True):
                        if isinstance(result, str):
                            reasons[row] = result
                        else:
                            digests[row] = np.frombuffer(result, np.uint8)
                    self.hashed += len(rows)
                self._progress(text, self.hashed)
        return digests, reasons

    def save(self) -> None:
        """Write what was learned to the cache file; every method does so after reading files."""
        self._cache.save()

    def _once(self, key: tuple[Any, ...], look: Callable[[], Any]) -> Any:
        if key not in self._done:
            try:
                self._done[key] = look()
            finally:
                self.save()
        return self._done[key]

    def _folder(self, key: tuple[str, ...], root: Path, suffixes: tuple[str, ...], follow_links: bool) -> Listing:
        now = self._clock()
        results = (*self._store, os.path.realpath(self.base / SCRATCH))
        found = Walk(root, suffixes, results, follow_links).found
        return self._listing(key, root, found, now, keep_others=False)

    def _files(
        self,
        key: tuple[str, ...],
        root: Path,
        names: list[str],
        hashed: bool,
        results: tuple[str, ...] = (),
        follow_links: bool = False,
    ) -> Listing:
        now = self._clock()
        found = look_up(root, names, results, follow_links)
        if not hashed:
            paths, stats = found.table()
            problems = _numbered(found.problems, paths)
            digests = np.zeros((len(paths), 32), np.uint8)
            return Listing(paths, digests, stats[:, 0], problems, spelled=found.spelled)
        return self._listing(key, root, found, now, keep_others=True)

    def _listing(self, key: tuple[str, ...], root: Path, found: Found, now: int, keep_others: bool) -> Listing:
        """Digests of what was found: from the cache where the stat is the same, else by reading."""
        paths, stats = found.table()
        problems = _numbered(found.problems, paths)
        name = "\0".join(key)
        known = self._cache.table(name)
        digests, fresh = known.match(paths, stats)
        if self.paranoid:
            fresh[:] = False
        fresh[list(problems)] = True
        stale = np.flatnonzero(~fresh)
        stats = stats.copy() if len(stale) else stats
        good = fresh.copy()
        good[list(problems)] = False
        text = f"reading {root.name or root}" + (" (all files have a new stat)" if len(stale) == len(known) > 0 else "")

        def place(path: str) -> str:
            return found.spelled.get(path, path)

        before = os.path.join(root, "")
        try:
            for row, result in self._hash_all(text, [(row, before + place(paths[row])) for row in stale.tolist()]):
                if isinstance(result, str):
                    problems[row] = result
                    continue
                digests[row] = np.frombuffer(result[0], np.uint8)
                stats[row] = result[1]
                good[row] = not _racy(result[1], now)
        finally:  # what was read before Ctrl-C is kept
            if len(stale) or (not keep_others and len(known) != int(good.sum())):
                names = [path for path, keep in zip(paths, good.tolist(), strict=True) if keep]
                learned = Table(names, stats[good], digests[good])
                self._cache.put(name, known.merged(learned) if keep_others else learned)
        digests[list(problems)] = 0
        problems = dict(sorted(problems.items()))
        return Listing(paths, digests, stats[:, 0], problems, found.ignored, found.notes(), found.spelled)

    def _hash_all(
        self, text: str, jobs: list[tuple[int, str]]
    ) -> Iterable[tuple[int, tuple[bytes, tuple[int, int, int, int]] | str]]:
        """(row, (digest, stat) or reason) of each job; SHA-256 and reading release the interpreter lock."""
        if not jobs:
            return
        from concurrent.futures import ThreadPoolExecutor

        threads = min(8, os.cpu_count() or 1)
        size = min(JOB, max(1, len(jobs) // (4 * threads)))

        def some(jobs: list[tuple[int, str]]) -> list[tuple[int, tuple[bytes, tuple[int, int, int, int]] | str]]:
            return [(row, _hash_file(path, self._keeps)) for row, path in jobs]

        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(jobs), PORTION):
                portion = range(start, min(start + PORTION, len(jobs)), size)
                for found in pool.map(some, [jobs[first : first + size] for first in portion]):
                    self.hashed += len(found)
                    yield from found
                self._progress(text, self.hashed)

    def _hash_member(self, archive: Archive, name: str) -> tuple[bytes, str]:
        """(digest, "") of a member, or (zeros, reason)."""
        digest = hashlib.sha256()
        try:
            for piece in archive.pieces(name):
                digest.update(piece)
        except RowError as error:
            return bytes(32), str(error)
        return digest.digest(), ""

    def _archive(self, path: Path, suffixes: tuple[str, ...]) -> Mapping[str, NDArray[Any]]:
        names, sizes, digests, reasons, ignored = [], [], [], [], 0
        archive = Archive(path)
        for name, entries in archive.members.items():
            if not name.lower().endswith(suffixes):
                ignored += 1
                continue
            digest, reason = self._hash_member(archive, name)
            names.append(name)
            sizes.append(entries[-1].file_size)
            digests.append(np.frombuffer(digest, np.uint8))
            reasons.append(reason)
            self.hashed += 1
            if len(names) % 1000 == 0:
                self._progress(f"reading {path.name}", self.hashed)
        return {
            "names": encoded(names),
            "sizes": np.array(sizes, np.int64),
            "digests": np.array(digests, np.uint8).reshape(-1, 32),
            "reasons": encoded(reasons),
            "ignored": np.array([ignored], np.int64),
            "notes": encoded(archive.notes),
        }

    def _computed(
        self, key: str, stat_of: Path, compute: Callable[[], Mapping[str, NDArray[Any]]]
    ) -> Mapping[str, NDArray[Any]]:
        now = self._clock()
        mark, newest = _tree_mark(stat_of)
        known = None if self.paranoid else self._cache.arrays(key, mark)
        if known is not None:
            return known
        arrays = dict(compute())
        if newest <= now - RACY_NS and _tree_mark(stat_of)[0] == mark:
            self._cache.put_arrays(key, mark, arrays)
        return arrays


def _numbered(problems: Mapping[str, str], paths: Sequence[str]) -> dict[int, str]:
    """Problems by the number of their path."""
    return {row: problems[path] for row, path in enumerate(paths) if path in problems} if problems else {}


def _racy(four: tuple[int, int, int, int], now: int) -> bool:
    """Whether a file was touched so shortly before `now` that its next change may leave the same time stamps."""
    return four[2] > now - RACY_NS or abs(four[1] - now) < RACY_NS


def _hash_file(path: str, keep: bool) -> tuple[bytes, tuple[int, int, int, int]] | str:
    """Digest of a file and the stat that belongs to it, or why there is none; `keep` its bytes if they are few."""
    try:
        with open(path, "rb", buffering=0) as file:
            before = four(os.fstat(file.fileno()))
            data = file.read(before[0] + 1) if before[0] <= SMALL else None
            digest = hashlib.file_digest(file, "sha256") if data is None else hashlib.sha256(data)
            if four(os.fstat(file.fileno())) != before or (data is not None and len(data) != before[0]):
                return "changes while it is read; wait until its writer is done"
            if keep and data is not None:
                SMALL_FILES.keep(digest.digest(), data)
            return digest.digest(), before
    except FileNotFoundError:
        return MISSING
    except OSError as error:
        return reason_of(error)


def _tree_mark(path: Path) -> tuple[bytes, int]:
    """Digest of the stats of a file or of all files of a folder, and the newest change among them."""
    found = Found()
    try:
        if not path.is_dir():
            found.add(path.name, path.stat())
        for folder, _, names in os.walk(path):
            for name in names:
                found.add(os.path.join(folder, name), os.stat(os.path.join(folder, name)))
    except OSError as error:
        raise SourceError(f"{path}: {reason_of(error)}") from error
    paths, stats = found.table()
    mark = hashlib.sha256(encoded(paths).tobytes() + b"\0\0" + stats.tobytes()).digest()
    return mark, int(stats[:, 1:3].max(initial=0))


def encoded(texts: Sequence[str]) -> NDArray[np.uint8]:
    """Texts as one array of bytes; names that are no UTF-8 survive."""
    return np.frombuffer("".join(text + "\0" for text in texts).encode("utf-8", "surrogateescape"), np.uint8)


def decoded(packed: NDArray[np.uint8]) -> list[str]:
    """The texts again."""
    return packed.tobytes().decode("utf-8", "surrogateescape").split("\0")[:-1]
