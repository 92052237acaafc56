"""Segments and scans of a JPEG file (ITU-T T.81): what its header says, and whether its scans are all there.

A decoder of the JPEG family fills what a file lacks with gray and reports nothing. Two things tell a part from a whole:
the scans have to send every bit of every coefficient (a progressive file that was cut between two scans does not), and
the data of the last scan have to suffice. The second is left to the decoder (`stages.images.decoding`), which is handed
the scans without the end marker.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

START, END, SCAN, TABLES, RESTARTS, COMMENT, ADOBE = 0xD8, 0xD9, 0xDA, 0xDB, 0xDD, 0xFE, 0xEE
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

MARKER = re.compile(rb"\xff[^\0\xff]")
"""A marker between or in scans: data of a scan have a zero byte behind each 0xFF."""

ZIGZAG = np.array(
    sorted(range(64), key=lambda k: (k // 8 + k % 8, k // 8 if (k // 8 + k % 8) % 2 else k % 8)), dtype=np.int64
)
"""Row-by-row place of the k-th coefficient of a JPEG quantization table (T.81, figure A.6)."""


class Segment(NamedTuple):
    """A marker with its parameters; the segment stands at `start` to `end` of the file."""

    marker: int
    body: bytes
    start: int
    end: int


class Component(NamedTuple):
    """A component of the frame: its number, sampling factors (1 to 4), and the number of its quantization table."""

    name: int
    wide: int
    high: int
    table: int


class Frame(NamedTuple):
    """The frame header; `kind` is its marker, 0xC0 to 0xCF."""

    kind: int
    width: int
    height: int
    components: list[Component]

    @property
    def progressive(self) -> bool:
        return self.kind & 3 == 2

    @property
    def lossless(self) -> bool:
        return self.kind & 3 == 3

    @property
    def arithmetic(self) -> bool:
        return self.kind > 0xC8


class Stream(NamedTuple):
    """`coded`: the file up to the end of its last scan; `several`: whether that is not its only scan."""

    coded: bytes
    several: bool


class Header(NamedTuple):
    """What stands before the data of the first scan, which begin at `end`; `scan`: parameters of the scan."""

    frame: Frame
    scan: bytes
    interval: int
    end: int


def segments(content: bytes, at: int = 2) -> Iterator[Segment]:
    """Segments from byte `at` on, up to the next scan or the end marker, whose own segment is the last one.

    Stray bytes between segments are passed over, as decoders do. Raises ValueError where the file ends in a segment and
    IndexError or struct.error where it ends between two.
    """
    while True:
        while content[at] != 0xFF or content[at + 1] in (0x00, 0xFF):
            at += 1
        marker = content[at + 1]
        if marker == END:
            yield Segment(marker, b"", at, at + 2)
            return
        if marker == START or 0xD0 <= marker <= 0xD7 or marker == 0x01:  # markers without parameters
            at += 2
            continue
        start, at = at, at + 2 + max(2, content[at + 2] << 8 | content[at + 3])
        if at > len(content):
            raise ValueError("the JPEG file is truncated in its header")
        yield Segment(marker, content[start + 4 : at], start, at)
        if marker == SCAN:
            return


def read_frame(marker: int, body: bytes) -> Frame:
    """Parameters of a frame header. Raises IndexError or struct.error where they are cut off."""
    height, width, count = struct.unpack_from(">HHB", body, 1)
    parts = struct.iter_unpack("BBB", body[6 : 6 + 3 * count])
    return Frame(marker, width, height, [Component(name, both >> 4, both & 15, table) for name, both, table in parts])


def read_tables(body: bytes, tables: NDArray[np.uint16]) -> None:
    """DQT segment into (4, 64) uint16: several tables, each 8 or 16 bits, in zigzag order."""
    at = 0
    while at < len(body):
        wide, number = body[at] >> 4, body[at] & 3
        size = 128 if wide else 64
        values = np.frombuffer(body, ">u2" if wide else "u1", 64, at + 1) if at + 1 + size <= len(body) else None
        if values is None:
            raise ValueError("the JPEG file is damaged: a quantization table is cut off")
        tables[number, ZIGZAG] = values
        at += 1 + size


def subsampling(components: list[Component]) -> str:
    """Chroma subsampling in the usual J:a:b notation."""
    if len(components) == 1:
        return "gray"
    sampling = [(part.wide, part.high) for part in components[:3]]
    known = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0", (1, 2): "4:4:0", (4, 1): "4:1:1"}
    return known.get(sampling[0], "other") if sampling[1:] == [(1, 1)] * (len(sampling) - 1) else "other"


def entropy_coded(picture: bytes, header: Header) -> Stream:
    """The scans of a picture without its end marker; raises ValueError where scans or restart intervals are missing.

    `picture` is the file; its first scan begins at `header.end`.
    """
    frame = header.frame
    end = _end_of_scan(picture, header.end, frame, header.scan, header.interval)
    several = frame.progressive or header.scan[0] < len(frame.components)
    if several:
        end = _end_of_scans(picture, end, header)
    return Stream(picture[:end].rstrip(b"\xff"), several)


def _end_of_scans(picture: bytes, end: int, header: Header) -> int:
    """Place of the marker behind the last scan; raises ValueError if not all bits of all coefficients came before.

    `end`: the same of the first scan. What stands behind the last scan is no part of the picture.
    """
    count, frame, scan, interval = 1, header.frame, header.scan, header.interval
    missing = {part.name: bytearray(b"\xff" * 64) for part in frame.components}  # low bits not sent, per coefficient
    while True:
        first, last, bits = scan[2 * scan[0] + 1 : 2 * scan[0] + 4] if frame.progressive else (0, 63, 0)
        for name in scan[1 : 2 * scan[0] + 1 : 2]:
            if name in missing and first <= last < 64:
                missing[name][first : last + 1] = bytes((bits & 15,)) * (last + 1 - first)
        try:
            for segment in segments(picture, end):
                if segment.marker == RESTARTS:
                    interval = int.from_bytes(segment.body[:2], "big")
        except (IndexError, struct.error, ValueError):
            break
        if segment.marker == END:
            break
        scan, count = segment.body, count + 1
        end = _end_of_scan(picture, segment.end, frame, scan, interval)
    if any(map(any, missing.values())):
        raise ValueError(f"its {count} scans do not hold the whole picture")
    return end


def _end_of_scan(picture: bytes, at: int, frame: Frame, scan: bytes, interval: int) -> int:
    """Place of the marker behind a scan whose data begin at `at`; raises ValueError if it lacks restart intervals."""
    found, restarts = MARKER.search(picture, at), 0
    while found is not None and 0xD0 <= picture[found.end() - 1] <= 0xD7:
        restarts += 1
        found = MARKER.search(picture, found.end())
    if interval and not frame.lossless:
        expected = -(-_units(frame, scan) // interval) - 1
        if restarts < expected:
            raise ValueError(f"one of its scans has {restarts} restart markers, expected {expected}")
    return len(picture) if found is None else found.start()


def _units(frame: Frame, scan: bytes) -> int:
    """How many units a scan is made of (T.81, A.2)."""
    parts = [part for part in frame.components if part.name in scan[1 : 2 * scan[0] + 1 : 2]]
    widest, highest = (max(getattr(part, name) for part in frame.components) for name in ("wide", "high"))
    if len(parts) != 1:
        return -(-frame.width // (8 * widest)) * -(-frame.height // (8 * highest))
    one = parts[0]  # blocks, as many as its own size needs
    width, height = -(-frame.width * one.wide // widest), -(-frame.height * one.high // highest)
    return -(-width // 8) * -(-height // 8)
