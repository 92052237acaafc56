"""Which files lie under a folder, and which of them nobody means: hidden ones, results of pipelines, odd links."""

from __future__ import annotations

import os
import stat
import unicodedata
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import compress, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, SourceError
from pipeline.inputs.many_stats import regular_files

MISSING = "the file does not exist"

PORTION = 4096
"""Entries of a folder that are looked at together."""

SYSTEM = frozenset(
    {"@eadir", "__macosx", "thumbs.db", "#recycle", "@recycle", "$recycle.bin", "system volume information"}
)
"""What file managers and storage servers put beside a user's files under names that are not hidden; lower case."""

CARD = "artifact.json"
"""The card of an artifact: its folder holds results of some pipeline, wherever it was copied to."""

STORE = (".cache", "runs")
"""Entries of a store; `.cache/stats` tells it from other folders with such entries."""

MARKS = frozenset({CARD, *STORE})


def left_out(name: str) -> bool:
    """Whether a file or folder of this name is no part of a source: a hidden one, or one that a system makes."""
    return name[:1] == "." or name.lower() in SYSTEM


@dataclass
class Found:
    """What a look at a folder has seen.

    paths     relative to the folder, with "/" between folders
    stats     size, mtime, ctime and inode of each path, in the same order
    problems  path -> why the file cannot be read
    spelled   path -> path as the disk spells it, where that differs
    ignored   files that were passed over because of their suffix
    hidden, results, linked  paths of what else was passed over: `left_out`, the pipeline's results, links to folders
    """

    paths: list[str] = field(default_factory=list)
    stats: array[int] = field(default_factory=lambda: array("q"))
    problems: dict[str, str] = field(default_factory=dict)
    spelled: dict[str, str] = field(default_factory=dict)
    ignored: int = 0
    hidden: list[str] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    linked: list[str] = field(default_factory=list)

    def add(self, path: str, status: os.stat_result) -> None:
        self.paths.append(path)
        self.stats.extend(four(status))

    def reject(self, path: str, reason: str) -> None:
        self.paths.append(path)
        self.stats.extend((0, 0, 0, 0))
        self.problems[path] = reason

    def table(self) -> tuple[list[str], NDArray[np.int64]]:
        """Paths in sorted order and their stats, (n, 4)."""
        stats = np.frombuffer(self.stats, np.int64).reshape(-1, 4) if self.paths else np.zeros((0, 4), np.int64)
        order = sorted(range(len(self.paths)), key=self.paths.__getitem__)
        return [self.paths[row] for row in order], stats[order]

    def lengths(self) -> tuple[int, int, int, int]:
        """What `cut` goes back to."""
        return len(self.paths), len(self.hidden), len(self.results), len(self.linked)

    def cut(self, lengths: tuple[int, int, int, int]) -> None:
        """Forget what was seen since `lengths` were asked for."""
        for path in self.paths[lengths[0] :]:
            self.problems.pop(path, None)
        del self.stats[4 * lengths[0] :]
        for names, length in zip((self.paths, self.hidden, self.results, self.linked), lengths, strict=True):
            del names[length:]

    def notes(self) -> tuple[str, ...]:
        """One sentence for each kind of entry that was passed over, without the name of the folder."""
        told = (
            (self.hidden, "hidden or system entry", "hidden or system entries", "left out"),
            (self.results, "folder of results", "folders of results", "left out"),
            (self.linked, "link to a folder", "links to folders", "not entered"),
        )
        return tuple(
            f"{len(names):,} {one if len(names) == 1 else many} {what}, e.g. {names[0]!r}"
            for names, one, many, what in told
            if names
        )


def four(status: os.stat_result) -> tuple[int, int, int, int]:
    """What tells that a file was touched: size, mtime, ctime, inode."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino & 0x7FFF_FFFF_FFFF_FFFF


def reason_of(error: OSError) -> str:
    """Why a file cannot be read, without its name."""
    return f"cannot be read ({error.strerror or error})"


def within(path: str, folders: Iterable[str]) -> bool:
    """Whether `path` is one of `folders` or lies in it; all absolute and without links."""
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def existing_folder(root: Path) -> Path:
    """`root`; raises ConfigError if it is no folder."""
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise ConfigError(
            f"{root}: expected a folder of input files, found {found}; make it, or correct the path, which is relative "
            "to the pipeline file"
        )
    return root


def _outside_error(root: Path, path: str) -> SourceError:
    return SourceError(
        f"{root}: {path!r} leads to a path outside the root; copy the file, move the root up, or allow links to files "
        "elsewhere (as data stores make them) with `follow_links: true` (`--follow-links` of quickstart)"
    )


def _not_a_file(status: os.stat_result) -> str:
    kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device, pipe or socket"
    return f"is {kind}, expected a file"


class Walk:
    """All files under `root` whose lower-case name ends in one of `suffixes`, in `found`.

    results       real folders of results, which are passed over
    follow_links  whether a link may lead to a regular file outside of the root

    A link to a folder is never entered: inside the root its files are listed where they lie. Raises ConfigError if
    there is no such folder or it is a store, SourceError for a link that leads out.
    """

    def __init__(
        self, root: Path, suffixes: tuple[str, ...], results: tuple[str, ...] = (), follow_links: bool = False
    ) -> None:
        self.root = existing_folder(root)
        self.real = os.path.realpath(root)
        self.suffixes = suffixes
        plain = [suffix for suffix in suffixes if not any(name.endswith(suffix) for name in SYSTEM)]
        self.usual = {spelled for suffix in plain for spelled in (suffix, suffix.upper())}  # what most names end in
        self.results = results
        self.follow_links = follow_links
        self.found = Found()
        self.pending = [""]
        while self.pending:
            folder = self.pending.pop()
            waiting, before = len(self.pending), self.found.lengths()
            try:
                marks = self._enter(folder)
            except OSError as error:
                self.found.reject(folder.rstrip("/") or ".", reason_of(error))
                continue
            if marks and self._holds_results(folder, marks):
                del self.pending[waiting:]
                self.found.cut(before)
                self.found.results.append(folder.rstrip("/"))

    def _enter(self, folder: str) -> set[str]:
        """Take the files of a folder and note its folders as pending; returns its entries of MARKS.

        Nearly all entries are regular files named like images: what the loop does for them is little beside `stat`.
        """
        suffixes, usual, marks = self.suffixes, self.usual, set()
        place = f"{self.root}/{folder}"
        opened = os.open(place, os.O_RDONLY | os.O_DIRECTORY)  # entries are then asked for by name, not by path
        try:
            with os.scandir(opened) as entries:
                while some := list(islice(entries, PORTION)):
                    named: list[str] = []
                    for entry in some:
                        name = entry.name
                        if name[0] != "." and name[name.rfind(".") :] in usual:
                            named.append(name)
                            continue
                        lower = name.lower()
                        if name[0] == "." or lower in SYSTEM:
                            self.found.hidden.append(folder + name)
                        elif lower.endswith(suffixes):
                            named.append(name)
                        else:
                            self._other(entry, folder + name, place + name)
                        if name in MARKS:
                            marks.add(name)
                    self._take(opened, named, folder, place)
        finally:
            os.close(opened)
        return marks

    def _take(self, opened: int, names: list[str], folder: str, place: str) -> None:
        """Take entries that are named like images."""
        found = self.found
        regular, stats = regular_files(opened, names)
        found.paths += [folder + name for name in compress(names, regular.tolist())]
        found.stats.frombytes(stats[regular].tobytes())
        for row in np.flatnonzero(~regular).tolist():
            name = names[row]
            try:
                status = os.stat(name, dir_fd=opened, follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    found.add(folder + name, status)
                else:
                    self._odd_file(status, folder + name, place + name)
            except FileNotFoundError:
                found.reject(folder + name, MISSING)
            except OSError as error:
                found.reject(folder + name, reason_of(error))

    def _holds_results(self, folder: str, marks: set[str]) -> bool:
        """Whether a folder is an artifact or a store, of whatever pipeline."""
        store = marks.issuperset(STORE) and (self.root / folder / STORE[0] / "stats").is_file()
        if store and not folder:
            raise ConfigError(f"{self.root}: is a store of results, which are no source; name a folder of images")
        return store or (CARD in marks and folder != "")

    def _odd_file(self, status: os.stat_result, path: str, place: str) -> None:
        """What is named like an image and is no regular file: a link to one, or something else."""
        if stat.S_ISLNK(status.st_mode):
            target = os.path.realpath(place)
            if within(target, self.results):
                self.found.results.append(path)
                return
            if not self.follow_links and not within(target, [self.real]):
                raise _outside_error(self.root, path)
            status = os.stat(place)
        if stat.S_ISREG(status.st_mode):
            self.found.add(path, status)
        else:
            self.found.reject(path, _not_a_file(status))

    def _other(self, entry: os.DirEntry[str], path: str, place: str) -> None:
        """What is not named like an image: a folder, a link to one, or a file to pass over."""
        if entry.is_dir(follow_symlinks=False):
            if f"{self.real}/{path}" in self.results:
                self.found.results.append(path)
            else:
                self.pending.append(path + "/")
        elif entry.is_symlink() and os.path.isdir(place):
            self._linked_folder(os.path.realpath(place), path)
        else:
            self.found.ignored += 1

    def _linked_folder(self, target: str, path: str) -> None:
        if within(target, self.results):
            self.found.results.append(path)
            return
        if not within(target, [self.real]):
            raise SourceError(
                f"{self.root}: {path!r} is a link to a folder and leads to a path outside the root; links to folders "
                "are not followed, name that folder as a source of its own"
            )
        if any(left_out(part) for part in os.path.relpath(target, self.real).split("/") if part != "."):
            raise SourceError(
                f"{self.root}: {path!r} is a link to a hidden folder, whose files are left out; rename that folder, or "
                "name it as a source of its own"
            )
        self.found.linked.append(path)


class _Names:
    """Stats of named files under a root; see `look_up`."""

    def __init__(self, root: Path, results: tuple[str, ...], follow_links: bool) -> None:
        self.root = existing_folder(root)
        self.real = os.path.realpath(root)
        self.results = results
        self.follow_links = follow_links
        self.found = Found()
        self.folders: dict[str, bool] = {}  # folder -> whether its files may be read
        self.entries: dict[str, dict[str, str]] = {}  # folder -> plain spelling of an entry -> its name

    def add(self, name: str) -> None:
        try:
            try:
                self._add(name, name)
            except FileNotFoundError:
                path = self._spelled(name)
                if path is None:
                    raise
                self._add(name, path)
                self.found.spelled[name] = path
        except FileNotFoundError:
            self.found.reject(name, MISSING)
        except OSError as error:
            self.found.reject(name, reason_of(error))

    def _add(self, name: str, path: str) -> None:
        folder = path.rpartition("/")[0]
        if folder not in self.folders:
            self.folders[folder] = self._allowed(f"{self.root}/{folder}", path)
        if path.startswith("/") or not self.folders[folder] or path in ("", "..", "."):
            raise _outside_error(self.root, name)
        place = f"{self.root}/{path}"
        status = os.lstat(place)
        if stat.S_ISLNK(status.st_mode):
            if not self._allowed(place, path):
                raise _outside_error(self.root, name)
            status = os.stat(place)
        if stat.S_ISREG(status.st_mode):
            self.found.add(name, status)
        else:
            self.found.reject(name, _not_a_file(status))

    def _allowed(self, place: str, path: str) -> bool:
        """Whether what `place` really leads to may be read: it lies under the root, or links are followed."""
        target = os.path.realpath(place)
        if within(target, self.results):
            raise SourceError(f"{self.root}: {path!r} lies in the store; results are no source, copy the file")
        return within(target, [self.real]) or (self.follow_links and ".." not in path.split("/"))

    def _spelled(self, name: str) -> str | None:
        """`name` as the disk has it: in another Unicode normal form, or with backslashes in place of folders."""
        folder, rest = "", _plain(name)
        while True:
            entries = self._entries(folder)
            if rest in entries:
                return folder + entries[rest]
            first, slash, rest = rest.partition("/")
            if not slash or first not in entries:
                return None
            folder += entries[first] + "/"

    def _entries(self, folder: str) -> dict[str, str]:
        if folder not in self.entries:
            try:
                names = os.listdir(self.root / folder)
            except OSError:
                names = []
            self.entries[folder] = {_plain(name): name for name in sorted(names)}
        return self.entries[folder]


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def look_up(root: Path, names: Sequence[str], results: tuple[str, ...] = (), follow_links: bool = False) -> Found:
    """Stats of named files. The real place of a folder is asked once, that of a file only if it is a link.

    Arguments as in `Walk`. Raises ConfigError if there is no such folder, SourceError for a path or a link that leads
    out of it, or into the store.
    """
    asked = _Names(root, results, follow_links)
    for name in names:
        asked.add(name)
    return asked.found
