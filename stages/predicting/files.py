"""Images that a user names: files, folders, zip files. None of them stops another one.

Folders and zip files are walked as `ingest` walks them (suffixes, hidden files, results of pipelines), but a link may
lead to a regular file elsewhere, as nothing here enters a corpus.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ConfigError, TouchstoneError
from pipeline.inputs.archives import Archive
from pipeline.inputs.walk import Walk
from pipeline.stage import RowError
from stages.images.readers.contract import SUFFIXES

ABSENT = "does not exist; expected an image, a folder of images or a zip file"

INSIDE = "!"
"""Between the name of a zip file and that of its member."""

PACKED = (b"PK\x03\x04", b"PK\x05\x06")
"""First bytes of a zip file."""


@dataclass(frozen=True)
class File:
    """An image. name: as the user is told; place: the file, or its zip file; problem: why it cannot be read, or ""."""

    name: str
    place: Path
    problem: str = ""
    archive: Archive | None = None
    member: str = ""

    def read(self) -> bytes:
        """Its bytes. Raises RowError with the reason why there are none."""
        if self.problem:
            raise RowError(self.problem)
        if self.archive is not None:
            return self.archive.read(self.member)
        try:
            return self.place.read_bytes()
        except OSError as error:
            raise RowError(f"cannot be read: {error.strerror or error}") from None


def files(named: Sequence[Path], notes: list[str]) -> list[File]:
    """All images, in the order of the names, those of a folder or zip file sorted. notes: takes what was passed over.

    Raises ConfigError where something named does not exist, or nothing is found.
    """
    for place in named:
        if not os.path.lexists(place):
            raise ConfigError(f"{place}: {ABSENT}")
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
        elif _is_packed(place):
            yield from _in_archive(place, notes)
        else:
            yield File(str(place), place, _unfit(place))
    except TouchstoneError as error:
        yield File(str(place), place, str(error).removeprefix(f"{place}: "))


def _in_folder(folder: Path, notes: list[str]) -> Iterator[File]:
    found = Walk(folder, SUFFIXES, follow_links=True).found
    notes += [f"{folder}: {note}" for note in found.notes()]
    for path in sorted(found.paths):
        yield File(str(folder / path), folder / path, found.problems.get(path, ""))


def _in_archive(place: Path, notes: list[str]) -> Iterator[File]:
    archive = Archive(place)
    notes += [f"{place}: {note}" for note in archive.notes]
    for member in archive.members:
        if member.lower().endswith(SUFFIXES):
            yield File(f"{place}{INSIDE}{member}", place, archive=archive, member=member)


def _is_packed(place: Path) -> bool:
    if _unfit(place):
        return False
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
