"""Images that a user names: files, folders, and whatever a reader of `ingest` knows. None of them stops another one.

Folders and zip files are walked as `ingest` walks them (suffixes, hidden files, results of pipelines), but a link may
lead to a regular file elsewhere, as nothing here enters a corpus.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.errors import ConfigError, TouchstoneError
from pipeline.inputs.archives import Archive
from pipeline.inputs.walk import Walk
from pipeline.stage import RowError
from stages.images.readers.contract import SUFFIXES

ABSENT = "does not exist; expected an image, a folder of images or a zip, tar, Parquet or LMDB file"

INSIDE = "!"
"""Between the name of a file that holds images and that of one of them."""

PACKED = (b"PK\x03\x04", b"PK\x05\x06")
"""First bytes of a zip file."""


@dataclass(frozen=True)
class File:
    """An image.

    name     as the user is told
    place    the file, or what holds the image
    problem  why it cannot be read, or ""
    content  gives its bytes, or raises RowError or OSError; None: those of the file
    member   its name in what holds it
    group    as a manifest says; "": it says nothing
    """

    name: str
    place: Path
    problem: str = ""
    content: Callable[[], bytes] | None = None
    member: str = ""
    group: str = ""

    def read(self) -> bytes:
        """Its bytes. Raises RowError with the reason why there are none."""
        if self.problem:
            raise RowError(self.problem)
        try:
            return self.place.read_bytes() if self.content is None else self.content()
        except OSError as error:
            raise RowError(f"cannot be read: {error.strerror or error}") from None


def files(named: Sequence[Path], notes: list[str]) -> list[File]:
    """All images, in the order of the names, those of a folder or zip file sorted. notes: takes what was passed over.

    What does not exist is a file with a problem. Raises ConfigError where nothing that is named exists, or nothing is
    found.
    """
    if named and not any(map(os.path.lexists, named)):
        raise ConfigError(f"{named[0]}: {ABSENT}")
    found = [one for place in named for one in files_of(place, notes)]
    if not found:
        places = ", ".join(map(str, named)) or "nothing"
        raise ConfigError(f"{places}: found no image; expected files ending in {', '.join(SUFFIXES)}")
    return found


def files_of(place: Path, notes: list[str]) -> Iterator[File]:
    """Images of one place; what cannot be read is one with a problem."""
    try:
        if not os.path.lexists(place):
            yield File(str(place), place, ABSENT)
        elif place.is_dir():
            yield from _in_folder(place, notes)
        elif problem := _unfit(place):
            yield File(str(place), place, problem)
        elif _is_packed(place):
            yield from _in_archive(place, notes)
        elif place.name.lower().endswith(SUFFIXES) or (kind := _kind(place)) is None:
            yield File(str(place), place)
        else:
            yield from _as_read(place, kind, notes)
    except TouchstoneError as error:
        yield File(str(place), place, str(error).removeprefix(f"{place.absolute()}: ").removeprefix(f"{place}: "))
    except OSError as error:
        yield File(str(place), place, f"cannot be read: {error.strerror or error}")


def _kind(place: Path) -> str | None:
    """The reader of a place that holds no files of images by themselves; None: it is such a file, or a folder of
    such.
    """
    from stages.images.readers.choosing import FILES, kind_of

    kind = kind_of(place)
    return None if kind == FILES else kind


def _as_read(place: Path, kind: str, notes: list[str]) -> Iterator[File]:
    from stages.images.readers.named import named

    rows = named(place, kind)
    notes += [f"{place}: {note}" for note in rows.found.notes]
    groups = rows.found.columns.group
    for row, name in enumerate(rows.names):
        problem = rows.found.problems.get(row, "")
        group = groups[row] if groups is not None else ""
        yield File(f"{place}{INSIDE}{name}", place, problem, partial(rows.read, row), name, group)


def _in_folder(folder: Path, notes: list[str]) -> Iterator[File]:
    found = Walk(folder, SUFFIXES, follow_links=True).found
    if not found.paths and (kind := _kind(folder)) is not None:
        yield from _as_read(folder, kind, notes)
        return
    notes += [f"{folder}: {note}" for note in found.notes()]
    for path in sorted(found.paths):
        yield File(str(folder / path), folder / path, found.problems.get(path, ""))


def _in_archive(place: Path, notes: list[str]) -> Iterator[File]:
    archive = Archive(place)
    notes += [f"{place}: {note}" for note in archive.notes]
    for member in archive.members:
        if member.lower().endswith(SUFFIXES):
            yield File(f"{place}{INSIDE}{member}", place, content=partial(archive.read, member), member=member)


def _is_packed(place: Path) -> bool:
    with place.open("rb") as file:
        return place.suffix.lower() == ".zip" or file.read(4) in PACKED


def _unfit(place: Path) -> str:
    """Why a place is no file that can be read; ""."""
    try:
        if not stat.S_ISREG(place.stat().st_mode):
            return "is a device, pipe or socket, expected a file"
        if not os.access(place, os.R_OK):
            return "cannot be read: Permission denied"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return ""
