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
import stat
import time
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, SourceError
from pipeline.stage import ID
from pipeline.statcache import StatCache, Table

RACY_NS = 2_000_000_000
PORTION = 1024
"""Files handed to the reading threads at once."""
MISSING = "the file does not exist"


@dataclass(frozen=True)
class Listing:
    """Files under one root, sorted by path.

    paths     relative to the root, with "/" between folders
    digests   (n, 32) uint8, SHA-256 of the content; zeros where a row has a problem or was not to be hashed
    sizes     (n,) int64, bytes
    problems  row number -> why the file cannot be read; such rows stay in the listing
    ignored   files that were passed over because of their suffix
    """

    paths: list[str]
    digests: NDArray[np.uint8]
    sizes: NDArray[np.int64]
    problems: dict[int, str] = field(default_factory=dict)
    ignored: int = 0

    @property
    def ids(self) -> NDArray[np.void]:
        """(n,) V16: the first half of each digest."""
        return np.ascontiguousarray(self.digests[:, : ID.itemsize]).view(ID)[:, 0]


@dataclass
class _Found:
    """What a walk has seen: four integers per path, in the same order."""

    paths: list[str] = field(default_factory=list)
    stats: array[int] = field(default_factory=lambda: array("q"))
    problems: dict[str, str] = field(default_factory=dict)
    ignored: int = 0

    def add(self, path: str, status: os.stat_result) -> None:
        self.paths.append(path)
        self.stats.extend(_four(status))

    def reject(self, path: str, reason: str) -> None:
        self.paths.append(path)
        self.stats.extend((0, 0, 0, 0))
        self.problems[path] = reason

    def table(self) -> tuple[list[str], NDArray[np.int64]]:
        stats = np.frombuffer(self.stats, np.int64).reshape(-1, 4) if self.paths else np.zeros((0, 4), np.int64)
        order = sorted(range(len(self.paths)), key=self.paths.__getitem__)
        return [self.paths[row] for row in order], stats[order]


class Scan:
    """One look at the inputs.

    base       folder of pipeline.yaml; relative roots start there
    cache      the stat cache, a file in the store; None: nothing is remembered
    paranoid   read every file whatever its stat says
    read_only  never write the cache (`plan`)
    progress   called with a short text and the count of files read so far
    clock      nanoseconds since 1970, comparable with the time stamps of files
    """

    def __init__(
        self,
        base: Path,
        cache: Path | None,
        paranoid: bool = False,
        progress: Callable[[str, int], None] | None = None,
        *,
        read_only: bool = False,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.base = Path(os.path.abspath(base))
        self.paranoid = paranoid
        self.hashed = 0
        """Files read by this object so far."""
        self._cache = StatCache(cache, read_only=read_only)
        self._progress = progress or (lambda text, count: None)
        self._clock = clock
        self._done: dict[tuple[Any, ...], Any] = {}

    def resolve(self, path: str | Path) -> Path:
        """`path`, seen from the folder of pipeline.yaml."""
        return self.base / path

    def folder(self, root: str | Path, suffixes: Iterable[str]) -> Listing:
        """All files under `root` whose name ends in one of `suffixes` (lower case, any case matches).

        Raises ConfigError if there is no such folder, SourceError if a link leads outside of it.
        """
        wanted = tuple(sorted(suffixes))
        key = ("folder", str(self.resolve(root)), *wanted)
        return self._once(key, lambda: self._folder(key, self.resolve(root), wanted))

    def files(self, root: str | Path, relative_paths: Sequence[str], hashed: bool = True) -> Listing:
        """The named files under `root`, in sorted order; with `hashed=False` only existence and size are looked up.

        Raises ConfigError if there is no such folder, SourceError if a path or a link leads outside of it.
        """
        place = self.resolve(root)
        names = sorted(set(relative_paths))
        mark = hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()
        key = ("files", str(place))
        return self._once((*key, mark, hashed), lambda: self._files(key, place, names, hashed))

    def digest(self, path: str | Path) -> bytes:
        """SHA-256 (32 bytes) of one file; raises SourceError if it cannot be read."""
        place = Path(os.path.realpath(self.resolve(path)))
        listing = self.files(place.parent, [place.name])
        if listing.problems:
            raise SourceError(f"{place}: {listing.problems[0]}")
        return listing.digests[0].tobytes()

    def archive(self, path: str | Path, suffixes: Iterable[str]) -> Listing:
        """Members of a zip file whose name ends in one of `suffixes`; read again only when the zip's own stat moves.

        Raises ConfigError if there is no such file, SourceError if it is no zip file.
        """
        place, wanted = self.resolve(path), tuple(sorted(suffixes))
        if not place.is_file():
            raise ConfigError(
                f"{place}: {MISSING}, expected a zip file; correct the path, which is relative to the pipeline file"
            )
        stored = self.cached("\0".join(("archive", str(place), *wanted)), place, lambda: self._archive(place, wanted))
        reasons = _decode(stored["reasons"])
        return Listing(
            _decode(stored["names"]),
            stored["digests"],
            stored["sizes"],
            {row: reason for row, reason in enumerate(reasons) if reason},
            int(stored["ignored"][0]),
        )

    def cached(
        self, key: str, stat_of: Path, compute: Callable[[], Mapping[str, NDArray[Any]]]
    ) -> Mapping[str, NDArray[Any]]:
        """Named arrays of `compute()`, kept while the file `stat_of` (or every file of that folder) is untouched."""
        return self._once(("cached", key), lambda: self._computed(key, stat_of, compute))

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

    def _folder(self, key: tuple[str, ...], root: Path, suffixes: tuple[str, ...]) -> Listing:
        now = self._clock()
        found = _walk(_existing_folder(root), suffixes)
        return self._listing(key, root, found, now, keep_others=False)

    def _files(self, key: tuple[str, ...], root: Path, names: list[str], hashed: bool) -> Listing:
        now = self._clock()
        found = _look_up(_existing_folder(root), names)
        if not hashed:
            paths, stats = found.table()
            problems = {row: found.problems[path] for row, path in enumerate(paths) if path in found.problems}
            return Listing(paths, np.zeros((len(paths), 32), np.uint8), stats[:, 0], problems)
        return self._listing(key, root, found, now, keep_others=True)

    def _listing(self, key: tuple[str, ...], root: Path, found: _Found, now: int, keep_others: bool) -> Listing:
        """Digests of what was found: from the cache where the stat is the same, else by reading."""
        paths, stats = found.table()
        problems = {row: found.problems[path] for row, path in enumerate(paths) if path in found.problems}
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
        try:
            for row, result in self._hash_all(text, [(int(row), str(root / paths[row])) for row in stale]):
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
        return Listing(paths, digests, stats[:, 0], dict(sorted(problems.items())), found.ignored)

    def _hash_all(
        self, text: str, jobs: list[tuple[int, str]]
    ) -> Iterable[tuple[int, tuple[bytes, tuple[int, int, int, int]] | str]]:
        """(row, (digest, stat) or reason) of each job; SHA-256 and reading release the interpreter lock."""
        if not jobs:
            return
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for start in range(0, len(jobs), PORTION):
                portion = jobs[start : start + PORTION]
                for job, result in zip(portion, pool.map(_hash_file, [path for _, path in portion]), strict=True):
                    self.hashed += 1
                    yield job[0], result
                self._progress(text, self.hashed)

    def _archive(self, path: Path, suffixes: tuple[str, ...]) -> Mapping[str, NDArray[Any]]:
        names, sizes, digests, reasons, ignored = [], [], [], [], 0
        try:
            with zipfile.ZipFile(path) as archive:
                for name, entries in _members(archive).items():
                    if not name.lower().endswith(suffixes):
                        ignored += 1
                        continue
                    digest, reason = _hash_member(archive, entries)
                    names.append(name)
                    sizes.append(entries[-1].file_size)
                    digests.append(np.frombuffer(digest, np.uint8))
                    reasons.append(reason)
                    self.hashed += 1
                    if len(names) % 1000 == 0:
                        self._progress(f"reading {path.name}", self.hashed)
        except zipfile.BadZipFile as error:
            raise SourceError(f"{path}: expected a zip file, found something else ({error})") from error
        except OSError as error:
            raise SourceError(f"{path}: {_reason(error)}") from error
        return {
            "names": _encode(names),
            "sizes": np.array(sizes, np.int64),
            "digests": np.array(digests, np.uint8).reshape(-1, 32),
            "reasons": _encode(reasons),
            "ignored": np.array([ignored], np.int64),
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


def _four(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino & 0x7FFF_FFFF_FFFF_FFFF


def _racy(four: tuple[int, int, int, int], now: int) -> bool:
    """Whether a file was touched so shortly before `now` that its next change may leave the same time stamps."""
    return four[2] > now - RACY_NS or abs(four[1] - now) < RACY_NS


def _reason(error: OSError) -> str:
    """Why a file cannot be read, without its name."""
    return f"cannot be read ({error.strerror or error})"


def _existing_folder(root: Path) -> Path:
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise ConfigError(
            f"{root}: expected a folder of input files, found {found}; make it, or correct the path, which is relative "
            "to the pipeline file"
        )
    return root


def _inside(path: str, root: str) -> bool:
    """Whether the place that `path` really leads to lies under the real folder `root`."""
    return os.path.commonpath((os.path.realpath(path), root)) == root


def _outside_error(root: Path, path: str) -> SourceError:
    return SourceError(f"{root}: {path!r} leads to a path outside the root; copy the file or move the root up")


def _walk(root: Path, suffixes: tuple[str, ...]) -> _Found:
    """Every file under `root`; a link to a folder inside the root is not entered: its files are listed at home."""
    found, pending, real = _Found(), [""], os.path.realpath(root)
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    _walk_entry(entry, folder + entry.name, found, pending, root, real, suffixes)
        except OSError as error:
            found.reject(folder.rstrip("/") or ".", _reason(error))
    return found


def _walk_entry(
    entry: os.DirEntry[str],
    path: str,
    found: _Found,
    pending: list[str],
    root: Path,
    real: str,
    suffixes: tuple[str, ...],
) -> None:
    wanted = entry.name.lower().endswith(suffixes)
    if not wanted and not entry.is_dir():
        found.ignored += 1
        return
    if not wanted and not entry.is_symlink():
        pending.append(path + "/")
        return
    try:
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            if not _inside(entry.path, real):
                raise _outside_error(root, path)
            if not wanted:
                return
            status = entry.stat()
        if stat.S_ISREG(status.st_mode):
            found.add(path, status)
        else:
            found.reject(path, _not_a_file(status))
    except FileNotFoundError:
        found.reject(path, MISSING)
    except OSError as error:
        found.reject(path, _reason(error))


def _not_a_file(status: os.stat_result) -> str:
    kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device, pipe or socket"
    return f"is {kind}, expected a file"


def _look_up(root: Path, names: Sequence[str]) -> _Found:
    """Stats of named files. The real place of a folder is asked once, that of a file only if it is a link."""
    found, real, safe = _Found(), os.path.realpath(root), {"": True}
    for name in names:
        folder = name.rpartition("/")[0]
        path = f"{root}/{name}"
        if folder not in safe:
            safe[folder] = _inside(f"{root}/{folder}", real)
        try:
            if name.startswith("/") or not safe[folder] or name in ("", "..", "."):
                raise _outside_error(root, name)
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                if not _inside(path, real):
                    raise _outside_error(root, name)
                status = os.stat(path)
            if stat.S_ISREG(status.st_mode):
                found.add(name, status)
            else:
                found.reject(name, _not_a_file(status))
        except FileNotFoundError:
            found.reject(name, MISSING)
        except OSError as error:
            found.reject(name, _reason(error))
    return found


def _hash_file(path: str) -> tuple[bytes, tuple[int, int, int, int]] | str:
    """Digest of a file and the stat that belongs to it, or why there is none."""
    try:
        with open(path, "rb") as file:
            before = _four(os.fstat(file.fileno()))
            digest = hashlib.file_digest(file, "sha256").digest()
            if _four(os.fstat(file.fileno())) != before:
                return "changes while it is read; wait until its writer is done"
            return digest, before
    except FileNotFoundError:
        return MISSING
    except OSError as error:
        return _reason(error)


def _members(archive: zipfile.ZipFile) -> dict[str, list[zipfile.ZipInfo]]:
    """Files of an archive by name, sorted; a name may occur more than once."""
    members: dict[str, list[zipfile.ZipInfo]] = {}
    for entry in archive.infolist():
        if not entry.is_dir():
            members.setdefault(entry.filename, []).append(entry)
    return dict(sorted(members.items()))


def _hash_member(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo]) -> tuple[bytes, str]:
    """(digest, "") of a member, or (zeros, reason)."""
    if len(entries) > 1:
        return bytes(32), f"the archive holds {len(entries)} members of this name, expected one"
    if entries[0].flag_bits & 1:
        return bytes(32), "is encrypted"
    try:
        with archive.open(entries[0]) as file:
            return hashlib.file_digest(file, "sha256").digest(), ""  # type: ignore[arg-type]
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        return bytes(32), f"cannot be unpacked ({error})"


def _tree_mark(path: Path) -> tuple[bytes, int]:
    """Digest of the stats of a file or of all files of a folder, and the newest change among them."""
    found = _Found()
    try:
        if not path.is_dir():
            found.add(path.name, path.stat())
        for folder, _, names in os.walk(path):
            for name in names:
                found.add(os.path.join(folder, name), os.stat(os.path.join(folder, name)))
    except OSError as error:
        raise SourceError(f"{path}: {_reason(error)}") from error
    paths, stats = found.table()
    mark = hashlib.sha256(_encode(paths).tobytes() + b"\0\0" + stats.tobytes()).digest()
    return mark, int(stats[:, 1:3].max(initial=0))


def _encode(texts: Sequence[str]) -> NDArray[np.uint8]:
    """Texts as one array of bytes; names that are no UTF-8 survive."""
    return np.frombuffer("".join(text + "\0" for text in texts).encode("utf-8", "surrogateescape"), np.uint8)


def _decode(packed: NDArray[np.uint8]) -> list[str]:
    return packed.tobytes().decode("utf-8", "surrogateescape").split("\0")[:-1]
