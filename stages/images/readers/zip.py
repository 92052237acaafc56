"""A zip file of images; nothing is ever extracted."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from pipeline.contents import kept_while_same
from pipeline.errors import SourceError
from pipeline.inputs.archives import Archive
from pipeline.stage import RowError
from stages.images.readers.contract import SUFFIXES, Found, Reader
from stages.images.readers.folder import listed


def _rows(config: Any, scan: Any) -> Found:
    listing = scan.archive(config.zip, SUFFIXES)
    return listed(f"zip:{scan.resolve(config.zip)}!", listing, config.zip)


def split_member(location: str, kind: str) -> tuple[str, str]:
    """(path of the archive, member) of "zip:PATH!MEMBER"; both may hold further exclamation marks."""
    text = location.partition(":")[2]
    for mark in re.finditer("!", text):
        if os.path.isfile(text[: mark.start()]):
            return text[: mark.start()], text[mark.end() :]
    raise RowError(f"{location} cannot be read: the {kind} file is gone")


@kept_while_same(4)
def _open_zip(path: Path) -> Archive:
    return Archive(path)


def _read(config: Any, location: str) -> bytes:
    """Bytes of a member; the directory of the archive is read once as long as the archive is untouched."""
    path, member = split_member(location, "zip")
    try:
        return _open_zip(Path(path)).read(member)
    except (RowError, SourceError) as error:
        raise RowError(f"{member} cannot be read from {path}: {error}") from error


def _member(place: Path, name: str) -> bytes | None:
    archive = _open_zip(place)
    return archive.read(name) if name in archive.members else None


READER = Reader("a zip file of images", _rows, _read, suffixes=(".zip",), member=_member)
