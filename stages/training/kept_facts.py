"""What a model's training rows were like, for a file beside its card: codes of their files, looks of their pictures.

The rows themselves are features; their pictures and files are found by lineage (`Rows.having_been`). Statistics of
pictures are those of the audit, of some hundred rows: `predict` allows a tenth of their range beyond it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.digests import hash_rank
from pipeline.stage import Rows

FILE = "facts.json"
FORMAT = 1

MOST_ROWS = 500
"""Whose pictures are looked at, chosen by hash."""

ENDS = (0.001, 0.999)
"""Quantiles that are the range of a statistic."""

BLOCK_ROWS = 64
MOST_KNOWN = 50_000
_known: dict[bytes, NDArray[np.float64]] = {}
"""Digest of a picture -> its statistics: several detectors learn from the same rows."""


def write_facts(folder: Path, train: Rows, validation_reals: NDArray[np.float32]) -> None:
    """Write the file. train: training rows; validation_reals: (n,) scores of validation rows that are real."""
    data = {
        "format": FORMAT,
        "validation_reals": np.sort(validation_reals).tolist(),
        "files": _files(train),
        "statistics": _ranges(train),
    }
    (folder / FILE).write_text(json.dumps(data, sort_keys=True) + "\n", encoding="utf-8")


def _files(rows: Rows) -> dict[str, list[Any]]:
    """Codecs and color modes, and the ranges of sides and JPEG qualities, of rows that were files."""
    from stages.images.containers import texts
    from stages.images.jpeg_quality import nearest_quality

    values: dict[str, set[Any]] = {}
    for _, files in rows.having_been("codec"):
        for name in ("codec", "mode"):
            values.setdefault(name, set()).update(texts(files.array(name)))
        sizes = files.array("native_size")
        values.setdefault("width", set()).update(sizes[:, 0].tolist())
        values.setdefault("height", set()).update(sizes[:, 1].tolist())
        tables = np.unique(files.array("quantization")[:, 0], axis=0)
        values.setdefault("quality", set()).update(nearest_quality(one) for one in tables if one.any())
    found = {name: sorted(seen) for name, seen in values.items() if seen}
    return {name: seen if name in ("codec", "mode") else [seen[0], seen[-1]] for name, seen in found.items()}


def _ranges(rows: Rows) -> dict[str, list[float]]:
    """Range of each statistic over the pictures of some rows; nothing where there are none."""
    from stages.auditing.pixels import STATISTICS

    chosen = rows.take(np.sort(np.argsort(hash_rank(rows.ids, "facts", 0), kind="stable")[:MOST_ROWS]))
    values = [statistics_of(one) for one in _pictures(chosen)]
    if not values:
        return {}
    low, high = np.quantile(np.stack(values), ENDS, axis=0)
    return {name: [float(low[n]), float(high[n])] for n, name in enumerate(STATISTICS)}


def _pictures(rows: Rows) -> Iterator[NDArray[np.uint8]]:
    for _, pictures in rows.having_been("image"):
        one = pictures.fields["image"]
        if one.dtype in ("uint8", "|u1", "u1") and len(one.shape) == 3 and one.shape[2] == 3:
            for block in pictures.blocks("image", BLOCK_ROWS):
                yield from block


def statistics_of(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Statistics of the audit (len(STATISTICS),) of (H, W, 3) uint8 RGB."""
    from stages.auditing.pixels import picture

    key = hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).digest()[:16]
    found = _known.get(key)
    if found is None:
        found = picture(pixels).statistics
        if len(_known) < MOST_KNOWN:
            _known[key] = found
    return found
