"""Pictures encoded by hand, whole and damaged."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

Picture = np.ndarray[Any, np.dtype[np.uint8]]


def noise(height: int, width: int, seed: int = 0) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(picture: Picture | Image.Image, codec: str, **options: Any) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    stream = io.BytesIO()
    image.save(stream, codec, **options)
    return stream.getvalue()


def scan(content: bytes) -> int:
    """Place of the last scan's data."""
    start = content.rindex(b"\xff\xda")
    return start + 2 + struct.unpack_from(">H", content, start + 2)[0]


def closed(content: bytes, end: int) -> bytes:
    return content[:end].rstrip(b"\xff") + b"\xff\xd9"


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Adam7: first column, first row, steps right and down (PNG, table 8.1)."""


CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def lines(width: int, height: int, bits: int, interlaced: bool) -> list[int]:
    """Bytes of each line with its filter byte, in the order of the file."""
    if not interlaced:
        return [1 + -(-width * bits // 8)] * height
    return [
        1 + -(-len(range(left, width, right)) * bits // 8)
        for left, top, right, down in PASSES
        for _ in range(top, height, down)
        if left < width
    ]


def png(width: int, height: int, depth: int, color: int, interlaced: bool, kept: int) -> bytes:
    """A picture of ones (white, opaque) whose data end properly behind the first `kept` lines."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced)
    sizes = lines(width, height, depth * CHANNELS[color], interlaced)[:kept]
    data = zlib.compress(b"".join(b"\0" + b"\xff" * (size - 1) for size in sizes))
    palette = chunk(b"PLTE", bytes(range(3)) * (1 << depth)) if color == 3 else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + palette + chunk(b"IDAT", data) + chunk(b"IEND", b"")
