"""Rows that `ingest` finds, as plain data, and small pictures to find."""

from __future__ import annotations

import hashlib
import io
import struct
from pathlib import Path
from typing import Any

import crc32c
import numpy as np
from PIL import Image

from pipeline.inputs.scan import Scan
from pipeline.planning.rows import Names, Source, tabulate
from pipeline.stage import SourceRows
from stages.ingest import Ingest, IngestConfig

STAGE = Ingest()


def picture(mark: str, size: tuple[int, int] = (4, 4), codec: str = "PNG") -> bytes:
    """An image file whose pixels depend on `mark`."""
    seed = int.from_bytes(hashlib.sha256(mark.encode()).digest()[:4], "little")
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, codec)
    return stream.getvalue()


def plant(folder: Path, *paths: str) -> Path:
    """Pictures, each with pixels of its own."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(picture(path))
    return folder


def discover(base: Path, **settings: Any) -> SourceRows:
    return STAGE.discover(IngestConfig.model_validate(settings), Scan(base, None))


def tabulated(base: Path, **settings: Any) -> Source:
    return tabulate(discover(base, **settings), "images", 1, {"train": 0.8, "val": 0.1, "test": 0.1}, Names())


def table(base: Path, **settings: Any) -> list[dict[str, Any]]:
    """One mapping per row: location, id, label, split, domain, group; None where nothing is said."""
    found = discover(base, **settings)
    count = len(found.id)
    labels = np.broadcast_to(np.asarray(found.label), (count,)).tolist()
    columns = {
        name: [None if value == "" else value for value in column] if column is not None else [None] * count
        for name, column in (("split", found.split), ("domain", found.domain), ("group", found.group))
    }
    return [
        {
            "location": str(found.payload["location"][row]),
            "id": found.id[row].tobytes().hex(),
            "label": labels[row],
            **{name: column[row] for name, column in columns.items()},
        }
        for row in range(count)
    ]


def record(data: bytes, length: int | None = None) -> bytes:
    head = struct.pack("<Q", len(data) if length is None else length)
    return b"".join((head, mask(head), data, mask(data)))


def mask(data: bytes) -> bytes:
    value = crc32c.crc32c(data)
    return struct.pack("<I", ((value >> 15 | value << 17) + 0xA282EAD8) % 2**32)


def example(shape: tuple[int, ...], data: bytes) -> bytes:
    def piece(number: int, content: bytes) -> bytes:
        size, text = len(content), b""
        while size > 127:
            text, size = text + bytes([size & 127 | 128]), size >> 7
        return bytes([number << 3 | 2]) + text + bytes([size]) + content

    features = {"shape": piece(3, piece(1, bytes(shape))), "data": piece(1, piece(1, data))}
    entries = [piece(1, piece(1, name.encode()) + piece(2, one)) for name, one in features.items()]
    return piece(1, b"".join(entries))
