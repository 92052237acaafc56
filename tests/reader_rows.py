"""Rows that `ingest` finds, as plain data, and small pictures to find."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

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
