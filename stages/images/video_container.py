"""What an MP4 file says before it is decoded: frames, size and time, from its index (ISO/IEC 14496-12)."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Any

BRANDS = re.compile(rb".{4}ftyp(isom|iso[2-9]|mp4[12]|avc1|M4V |qt  |dash|MSNV|3gp[4-6])", re.DOTALL)
INSIDE = (b"moov", b"trak", b"mdia", b"minf", b"stbl")

TURNED = {(0, 1, -1, 0): 6, (-1, 0, 0, -1): 3, (0, -1, 1, 0): 8}
"""First two columns of a track's matrix that turns the picture -> the EXIF orientation that says the same."""

Box = tuple[bytes, int, int]
"""Kind, where its content begins, and where it ends."""


def boxes(content: bytes, at: int, end: int) -> Iterator[Box]:
    """Boxes of a piece, in their order. Raises ValueError for one that reaches beyond it."""
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", content, at)
        start = at + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", content, start)
            start += 8
        size = end - at if size == 0 else size
        if size < start - at or at + size > end:
            raise ValueError(f"the video is cut off: its part {kind.decode('latin-1')!r} ends after the file")
        yield kind, start, at + size
        at += size


def video_facts(content: bytes) -> tuple[int, int, int, int]:
    """(width, height, frames, orientation) of the first video track; orientation 0: it is not turned.

    Raises ValueError where there is no track, or no index.
    """
    top = {kind: (start, end) for kind, start, end in boxes(content, 0, len(content))}
    if b"moov" not in top:
        raise ValueError("the video has no index (moov), it is cut off; copy or download it again")
    for kind, start, end in boxes(content, *top[b"moov"]):
        if kind == b"trak":
            facts: dict[bytes, Any] = dict(_track(content, start, end))
            if facts.get(b"hdlr") == b"vide" and b"tkhd" in facts and b"stsz" in facts:
                width, height, orientation = facts[b"tkhd"]
                return width, height, facts[b"stsz"], orientation
    raise ValueError("the file has no video track, expected one")


def _track(content: bytes, start: int, end: int) -> Iterator[tuple[bytes, object]]:
    """Facts of a track: kind of its media, its size in pixels and how it is turned, its number of frames."""
    for kind, first, last in boxes(content, start, end):
        if kind in INSIDE:
            yield from _track(content, first, last)
        elif kind == b"hdlr":
            yield kind, content[first + 8 : first + 12]
        elif kind == b"tkhd":
            a, b, _, c, d, *_, width, height = struct.unpack_from(">9iII", content, last - 44)
            signs = tuple((number > 0) - (number < 0) for number in (a, b, c, d))
            yield kind, (width >> 16, height >> 16, TURNED.get(signs, 0))
        elif kind == b"stsz":
            yield kind, struct.unpack_from(">I", content, first + 8)[0]
