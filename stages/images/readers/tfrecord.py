"""TFRecord files as ProGAN, StyleGAN and Glow keep images: raw arrays, one file for each level of size.

A record is `length, masked CRC-32C of it, data, masked CRC-32C of them` (TensorFlow's record format), its data an
`Example` with `shape` and `data`. A row's bytes are those of the PPM or PGM file of its pixels. The checksum of a
length is always checked, that of the data of each record where the library crc32c is installed, else of a file's first
one.
"""

from __future__ import annotations

import mmap
import re
import struct
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, SourceError
from pipeline.inputs.archives import MEMBER_BYTES
from pipeline.sentences import counted
from pipeline.stage import RowError, row_setting
from stages.images.readers import examples
from stages.images.readers.contract import Columns, Found, Reader, ids_of
from stages.images.readers.crc32c import crc32c, is_quick, masked
from stages.images.readers.netpbm import netpbm
from stages.images.readers.opened import Opened

NAME = re.compile(r"(?P<name>.+?)-r(?P<level>\d\d)(?:-s-\d+-of-\d+)?\.tfrecords?")
MOST = 16384
"""Pixels on a side."""
SEED = 123
"""Of the order in which the published exporters write images."""
HEADER, FOOTER = 12, 4

SETTINGS: dict[str, tuple[Any, Any]] = {
    "level": (int | None, row_setting(None, description="log2 of the side; the largest if left out", ge=0, le=14)),
    "order": (
        Literal["unknown", "source", "shuffled"],
        row_setting(
            "unknown",
            description="which image of the data set a record is: source: that of its number; shuffled: as the "
            "published exporters shuffle; then its number is the file's name",
        ),
    ),
}


class RecordFile:
    """An open file of records; threads may read it at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        size = path.stat().st_size
        if not size:
            raise SourceError(f"{path}: is empty (0 bytes), expected records")
        with open(path, "rb") as file:
            self.bytes = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        if self.bytes[:2] == b"\x1f\x8b" or (self.bytes[0] == 0x78 and not self._length_fits(0)):
            raise SourceError(f"{path}: is compressed as a whole, so that no record can be found; unpack it first")
        self._known: dict[int, tuple[bytes, bytes, tuple[int, ...], int, int]] = {}

    def _length_fits(self, at: int) -> bool:
        """Whether the checksum of a record's length is right."""
        (stored,) = struct.unpack_from("<I", self.bytes, at + 8)
        return masked(crc32c(self.bytes[at : at + 8])) == stored

    def offsets(self) -> NDArray[np.int64]:
        """Where each record begins. Raises SourceError where the file is damaged or cut off."""
        at, found, right = 0, list[int](), set[bytes]()
        while at < len(self.bytes):
            number = len(found)
            if at + HEADER > len(self.bytes):
                raise self._error(number, "is cut off in its header", number)
            head = bytes(self.bytes[at : at + HEADER])
            if head not in right:
                if not self._length_fits(at):
                    raise self._error(number, "has a length whose checksum is wrong", number)
                right.add(head)
            (length,) = struct.unpack_from("<Q", head)
            if length > len(self.bytes) - at - HEADER - FOOTER:
                raise self._error(
                    number, f"has {length:,} bytes, of which the file holds {len(self.bytes) - at - HEADER:,}", number
                )
            found.append(at)
            at += HEADER + length + FOOTER
        return np.array(found, np.int64)

    def _error(self, number: int, what: str, whole: int) -> SourceError:
        return SourceError(
            f"{self.path}: record {number} {what}, after {counted(whole, 'whole record')}; download the file again"
        )

    def image(self, at: int, check: bool) -> bytes:
        """The record at an offset as PPM or PGM bytes. check: the checksum of its data. Raises RowError."""
        try:
            (length,) = struct.unpack_from("<Q", self.bytes, at)
            if length > min(MEMBER_BYTES, len(self.bytes) - at - HEADER - FOOTER):
                raise ValueError(f"it has {length:,} bytes")
            data = self.bytes[at + HEADER : at + HEADER + length]
            if check and masked(crc32c(data)) != struct.unpack_from("<I", self.bytes, at + HEADER + length)[0]:
                raise ValueError("the checksum of its data is wrong")
            shape, start, end = self._parsed(data)
            return _netpbm(shape, data[start:end])
        except (ValueError, struct.error) as error:
            raise RowError(f"the record at byte {at:,} of {self.path} is damaged: {error}") from error

    def _parsed(self, data: memoryview) -> tuple[tuple[int, ...], int, int]:
        """(shape, start, end) of the pixels; a record that is framed like the one before is not parsed again."""
        known = self._known.get(len(data))
        if known is not None:
            before, behind, shape, start, end = known
            if data[:start] == before and data[end:] == behind:
                return shape, start, end
        shape, (start, end) = _shape_and_pixels(data)
        self._known[len(data)] = bytes(data[:start]), bytes(data[end:]), shape, start, end
        return shape, start, end


def _shape_and_pixels(data: memoryview) -> tuple[tuple[int, ...], examples.Span]:
    """Raises ValueError for what is no image."""
    found = examples.features(data)
    if not {"shape", "data"} <= set(found):
        raise ValueError(f"expected the features shape and data, found {', '.join(sorted(found)) or 'none'}")
    shape, pieces = tuple(examples.integers(data, found["shape"])), examples.texts(data, found["data"])
    if len(shape) != 3 or not all(1 <= side <= MOST for side in shape):
        raise ValueError(f"its shape is {list(shape)}, expected three sides of 1 to {MOST:,}")
    if len(pieces) != 1:
        raise ValueError(f"it has {len(pieces)} values of data, expected one")
    start, end = pieces[0]
    if shape[0] * shape[1] * shape[2] != end - start:
        raise ValueError(f"its shape is {list(shape)}, its data have {end - start:,} bytes")
    return shape, pieces[0]


def _netpbm(shape: tuple[int, ...], pixels: memoryview) -> bytes:
    """From channels first (ProGAN) or last (Glow). Raises ValueError where the shape does not tell which."""
    first, last = shape[0] in (1, 3) and shape[1] == shape[2], shape[2] == 3
    if first == last:
        raise ValueError(
            f"its shape {list(shape)} does not tell where the channels are; expected (3, N, N) or (H, W, 3)"
        )
    if last:
        return netpbm(bytes(pixels), shape[1], shape[0], gray=False)
    if shape[0] == 1:
        return netpbm(bytes(pixels), shape[2], shape[1], gray=True)
    rows = np.frombuffer(pixels, np.uint8).reshape(shape).transpose(1, 2, 0)
    return netpbm(rows.tobytes(), shape[2], shape[1], gray=False)


FILES = Opened(lambda path: RecordFile(Path(path)))


def _files(place: Path, level: int | None) -> list[Path]:
    """The files of one level. Raises ConfigError where there is none, or more than one data set."""
    if place.is_file():
        return [place]
    found = [(path, match) for path in sorted(place.glob("*.tfrecord*")) if (match := NAME.fullmatch(path.name))]
    names = sorted({match["name"] for _, match in found})
    if len(names) != 1:
        listed = f"those of {', '.join(names)}; name one file" if names else "none; correct the path"
        raise ConfigError(f"{place}: expected the files NAME-rNN.tfrecords of one data set, found {listed}")
    levels = sorted({int(match["level"]) for _, match in found})
    chosen = levels[-1] if level is None else level
    if chosen not in levels:
        raise ConfigError(f"{place}: has no level {chosen}; expected one of {', '.join(map(str, levels))}")
    return [path for path, match in found if int(match["level"]) == chosen]


def _rows(config: Any, scan: Any) -> Found:
    place: Path = scan.source(config.tfrecord)
    files = _files(place, config.level)
    tables = [
        scan.cached(f"tfrecord\0{path}\0{is_quick()}", path, lambda path=path: _listed(path, scan)) for path in files
    ]
    problems: dict[int, str] = {}
    locations: list[str] = []
    for path, table in zip(files, tables, strict=True):
        reasons = bytes(table["reasons"]).decode("utf-8", "replace").split("\0")[:-1]
        problems |= {len(locations) + int(row): text for row, text in zip(table["bad"], reasons, strict=True)}
        locations += [f"tfrecord:{path}#{offset}" for offset in table["offsets"].tolist()]
    notes = [] if is_quick() else ["checksums of the data of all records but the first are not checked without crc32c"]
    return Found(
        config.tfrecord,
        ids_of(np.concatenate([table["digests"] for table in tables])),
        locations,
        paths=None if config.order == "unknown" else _names(config.order, len(locations)),
        root=place if place.is_dir() else place.parent,
        columns=Columns(more=_labels(place, len(locations))),
        problems=problems,
        notes=notes,
        container=f"raw arrays in {counted(len(files), 'TFRecord file')}, e.g. {files[0].name}",
    )


def _names(order: str, count: int) -> list[str]:
    """What each record would be called as a file."""
    numbers = np.arange(count)
    if order == "shuffled":
        np.random.RandomState(SEED).shuffle(numbers)
    return [f"{number:05d}.png" for number in numbers.tolist()]


def _labels(place: Path, count: int) -> dict[str, list[str]]:
    """The classes of `NAME-rxx.labels`, an (n, k) array, by number: a domain, never real or fake."""
    files = sorted(place.glob("*-rxx.labels")) if place.is_dir() else []
    if len(files) != 1:
        return {}
    try:
        values = np.load(files[0], allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise SourceError(f"{files[0]}: is no NumPy array ({error})") from error
    if values.ndim != 2 or len(values) != count:
        raise SourceError(f"{files[0]}: holds an array {values.shape}, expected one row for each of {count:,} records")
    return {"labels": [f"class {number}" for number in values.argmax(axis=1).tolist()]}


def _listed(path: Path, scan: Any) -> dict[str, NDArray[Any]]:
    """Offsets, digests and problems of a file."""
    file = FILES.get(str(path))
    offsets = file.offsets()
    places = offsets.tolist()
    quick = is_quick()
    digests, reasons = scan.digests(
        f"reading {path.name}", len(places), lambda row: file.image(places[row], check=quick or row == 0)
    )
    packed = "".join(f"{text}\0" for text in reasons.values()).encode()
    return {
        "offsets": offsets,
        "digests": digests,
        "bad": np.array(list(reasons), np.int64),
        "reasons": np.frombuffer(packed, np.uint8),
    }


def _read(config: Any, location: str) -> bytes:
    path, _, offset = location.removeprefix("tfrecord:").rpartition("#")
    return FILES.get(path).image(int(offset), check=is_quick())


READER = Reader(
    "a TFRecord file of images, or the folder NAME of files NAME-rNN.tfrecords", _rows, _read, settings=SETTINGS
)
