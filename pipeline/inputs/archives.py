"""Members of a zip file as rows: which there are, what they are called, and their bytes, read with bounded memory.

Nothing is ever extracted: a member's path is a name and no place on disk. Sizes in the archive's directory are claims;
what is read is counted. A member that cannot be read safely is the failure of its row, with one sentence.
"""

from __future__ import annotations

import posixpath
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.errors import SourceError
from pipeline.inputs.walk import left_out
from pipeline.sentences import counted
from pipeline.stage import RowError

try:
    from lzma import LZMAError
except ImportError:  # a Python without it cannot unpack such members either
    LZMAError = EOFError  # type: ignore[assignment, misc]

MEMBER_BYTES = 2**28
"""What a member may unpack to."""

PIECE = 2**16
"""Bytes that are unpacked at once."""

SMALL_PIECE = 2**12
"""Packed bytes that are unpacked at once by methods other than deflate, whose result zipfile does not bound."""

DAMAGE = (
    zipfile.BadZipFile, zlib.error, LZMAError, EOFError, ValueError, RuntimeError, OSError, MemoryError, struct.error
)  # fmt: skip
"""What zipfile raises for damaged or unusual archives (NotImplementedError is a RuntimeError)."""

LOCAL_HEADER = 30


class Archive:
    """An open zip file.

    members   path -> its entries in the directory; "/" between folders, sorted; a path may occur more than once
    notes     sentences on what was left out or rewritten
    """

    def __init__(self, path: str | Path) -> None:
        """Raises SourceError if there is no such file, or if it is no whole zip file."""
        self._file = _open(path)
        entries = self._file.infolist()
        self._overlapping = _overlapping(entries, self._file.start_dir)
        found: dict[str, list[zipfile.ZipInfo]] = {}
        hidden, rewritten = [], []
        for entry in entries:
            name = entry.filename.replace("\\", "/")
            if name.endswith("/"):
                continue
            member = posixpath.normpath(name).lstrip("/")
            if any(left_out(part) for part in member.split("/") if part != ".."):
                hidden.append(member)
                continue
            if name != entry.filename:
                rewritten.append(entry.filename)
            found.setdefault(member, []).append(entry)
        self.members = dict(sorted(found.items()))
        self.notes = _notes(hidden, rewritten)

    def pieces(self, member: str) -> Iterator[bytes]:
        """Content of a member, a bounded piece at a time. Raises RowError with the reason why it cannot be read."""
        entries = self.members.get(member, [])
        if len(entries) != 1:
            found = f"{len(entries)} members of this name" if entries else "no member of this name"
            raise RowError(f"the archive holds {found}, expected one")
        entry = entries[0]
        self._check(entry)
        read = 0
        try:
            with self._file.open(entry) as file:
                deflated = entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
                while piece := file.read(PIECE if deflated else SMALL_PIECE):
                    read += len(piece)
                    yield piece
        except DAMAGE as error:
            raise RowError(f"cannot be unpacked ({str(error) or type(error).__name__})") from error
        if read != entry.file_size:
            raise RowError(f"cannot be unpacked (it has {read:,} bytes, its entry says {entry.file_size:,})")

    def read(self, member: str) -> bytes:
        """Content of a member; raises RowError."""
        return b"".join(self.pieces(member))

    def _check(self, entry: zipfile.ZipInfo) -> None:
        if entry.flag_bits & 1:
            raise RowError("is encrypted; unpack the archive and name its folder")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise RowError("is a link, expected a file")
        if entry.file_size > MEMBER_BYTES:
            raise RowError(
                f"would unpack to {entry.file_size / 2**20:,.0f} MiB, expected at most {MEMBER_BYTES / 2**20:,.0f}; if "
                "that is right, unpack the archive and name its folder"
            )
        if entry.header_offset in self._overlapping:
            raise RowError("shares its bytes with another member of the archive, expected its own; pack it anew")


def _open(path: str | Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except DAMAGE as error:
        raise SourceError(f"{path}: {_trouble(path, error)}") from error


def _trouble(path: str | Path, error: Exception) -> str:
    """What is wrong with a file that zipfile does not open."""
    try:
        with open(path, "rb") as file:
            start = file.read(4)
    except OSError as failed:
        return f"cannot be read ({failed.strerror or failed})"
    if Path(path).with_suffix(".z01").is_file():
        return (
            "is the last part of a split zip file; join the parts (zip -s 0 LAST.zip --out WHOLE.zip), name the result"
        )
    if not start:
        return "is empty (0 bytes), expected a zip file; copy or download it again"
    if start[:2] != b"PK":
        return f"expected a zip file, found something else ({error})"
    if "not a zip file" in str(error):
        return "is a zip file that is cut off: the directory at its end is missing; copy or download it again"
    return f"is a damaged zip file ({error}); copy or download it again"


def _overlapping(entries: Sequence[zipfile.ZipInfo], end: int) -> frozenset[int]:
    """Offsets of the members that reach into the next one, and of those next ones: a few bytes that unpack to many.

    end  where the directory of the archive begins
    """
    found: set[int] = set()
    reach, holder = -1, -1
    for start, size in sorted((entry.header_offset, entry.compress_size) for entry in entries):
        if start < reach:
            found |= {start, holder}
        if start + LOCAL_HEADER + size > reach:
            reach, holder = start + LOCAL_HEADER + size, start
    return frozenset(found | {holder} if reach > end else found)


def _notes(hidden: Sequence[str], rewritten: Sequence[str]) -> tuple[str, ...]:
    notes = []
    if hidden:
        notes.append(f"{counted(len(hidden), 'hidden member')} left out, e.g. {hidden[0]!r}")
    if rewritten:
        notes.append(
            f"{counted(len(rewritten), 'name')} with backslashes, which are read as folders, e.g. {rewritten[0]!r}"
        )
    return tuple(notes)
