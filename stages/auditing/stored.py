"""Rows of a pipeline as rows of an audit: from what `examine` kept, from images, or from facts of files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.stage import PICTURE, Field, Rows, Schema
from stages.auditing.coding import NONE, PRESENT, Coding, table_facts
from stages.auditing.examined import Row
from stages.auditing.pixels import FEATURES, STATISTICS, THUMBNAIL, Picture, picture
from stages.images.containers import TEXT, packed, texts

FILE_BYTES = 2048
"""What is kept of the facts of a file; texts of its metadata are left out where they do not fit."""

KEPT: Mapping[str, Field] = {
    "file_facts": Field("uint8", (FILE_BYTES,), "JSON, filled up with zero bytes; nothing: no file"),
    "statistics": Field("float64", (len(STATISTICS),), "as stages.auditing.pixels names them"),
    "audit_features": Field("float32", (FEATURES,), "what the learned test sees"),
    "thumbnail": Field("uint8", (THUMBNAIL, THUMBNAIL, 3), "RGB, 0 to 255", PICTURE),
    "picture_digest": Field("uint8", (16,), "of shape and pixels"),
    "grid_phase": TEXT,
    "is_gray": Field("uint8"),
    "colors": Field("int32", (), "different colors"),
}
"""Fields of a row of `examine`."""

IMAGE, CODEC = "image", "codec"
BLOCK_ROWS = 64


def kept(coding: Coding | None, found: Picture) -> dict[str, Any]:
    """Values of `KEPT` of one row."""
    return {
        "file_facts": _packed(coding),
        "statistics": found.statistics,
        "audit_features": found.features,
        "thumbnail": found.thumbnail,
        "picture_digest": np.frombuffer(found.digest, np.uint8),
        "grid_phase": packed(found.phase),
        "is_gray": found.gray,
        "colors": found.colors,
    }


def _packed(coding: Coding | None) -> NDArray[np.uint8]:
    if coding is None:
        return np.zeros(FILE_BYTES, np.uint8)
    while True:
        text = json.dumps(asdict(coding)).encode()
        if len(text) <= FILE_BYTES:
            return np.frombuffer(text.ljust(FILE_BYTES, b"\0"), np.uint8)
        coding = replace(coding, texts=(coding.texts or ())[:-1], encoder=(coding.encoder or "")[:200])


def _unpacked(values: NDArray[np.uint8]) -> Coding | None:
    text = values.tobytes().rstrip(b"\0")
    if not text:
        return None
    found = json.loads(text)
    return Coding(**{**found, "texts": tuple(found["texts"] or ())})


def has_rows(schema: Schema) -> bool:
    """Whether an audit knows anything of rows with these fields."""
    return "statistics" in schema or IMAGE in schema or CODEC in schema


def rows_of(view: Rows, report: Callable[[int], None] = lambda count: None) -> tuple[list[Row], NDArray[np.uint8]]:
    """Rows of a view, and their labels, (n,) uint8. Rows of which nothing is known are left out."""
    found: list[Row] = []
    labels: list[NDArray[np.uint8]] = []
    taken = np.zeros(len(view), bool)
    for fields, read in (
        (tuple(KEPT), _examined), ((IMAGE,), _images), ((CODEC, "native_size", "quantization"), _facts)
    ):  # fmt: skip
        chosen = _having(view, fields, taken)
        if chosen is None:
            continue
        table = _table(chosen)
        for number, values in enumerate(read(chosen)):
            found.append(replace(table[number], **values))
            report(1)
        labels.append(chosen.column("label").astype(np.uint8))
    return found, np.concatenate(labels) if labels else np.zeros(0, np.uint8)


def _having(view: Rows, fields: tuple[str, ...], taken: NDArray[np.bool_]) -> Rows | None:
    """Rows with these fields that were not taken yet, and are now."""
    numbers = [number for number, part in enumerate(view.parts) if set(fields) <= set(part.schema)]
    mask = np.isin(view.part_numbers, numbers) & ~taken
    taken |= mask
    return view.where(mask).having(*fields) if mask.any() else None


def _table(view: Rows) -> list[Row]:
    """Names, groups, splits and domains of rows."""
    columns = {name: view.column(name) for name in ("group", "split", "domain")}
    ids = [bytes(one) for one in view.ids]
    groups = [bytes(one) for one in columns["group"]]
    return [
        Row(one.hex(), group="" if group == one else group.hex(), split=str(split), domain=str(domain))
        for one, group, split, domain in zip(ids, groups, columns["split"], columns["domain"], strict=True)
    ]


def _blocks(view: Rows, fields: tuple[str, ...]) -> Iterator[Mapping[str, NDArray[Any]]]:
    for start in range(0, len(view), BLOCK_ROWS):
        chosen = np.arange(start, min(start + BLOCK_ROWS, len(view)))
        yield {name: view.array(name, chosen) for name in fields}


def _examined(view: Rows) -> Iterator[dict[str, Any]]:
    for block in _blocks(view, tuple(KEPT)):
        phases = texts(block["grid_phase"])
        for row in range(len(phases)):
            yield {
                "coding": _unpacked(block["file_facts"][row]),
                "picture": Picture(
                    block["statistics"][row], block["audit_features"][row], block["thumbnail"][row],
                    block["picture_digest"][row].tobytes(), phases[row], bool(block["is_gray"][row]),
                    int(block["colors"][row]),
                ),
            }  # fmt: skip


def _images(view: Rows) -> Iterator[dict[str, Any]]:
    for block in _blocks(view, (IMAGE,)):
        for pixels in block[IMAGE]:
            yield {"picture": picture(pixels)}


def _facts(view: Rows) -> Iterator[dict[str, Any]]:
    """Rows of `ingest`: what files say, and nothing of their pixels."""
    fields = tuple(
        name
        for name in (CODEC, "mode", "native_size", "quantization", "subsampling", "orientation", "has_icc", "has_exif")
        if name in view.fields
    )
    for block in _blocks(view, fields):
        words = {name: texts(block[name]) for name in (CODEC, "mode", "subsampling") if name in block}
        for row, size in enumerate(block["native_size"]):
            known = {name: int(block[name][row]) for name in ("orientation", "has_icc", "has_exif") if name in block}
            tables, coarseness = table_facts(block["quantization"][row])
            yield {
                "coding": Coding(
                    words[CODEC][row], words.get("mode", {row: ""})[row], int(size[0]), int(size[1]),
                    known.get("orientation", 0), words.get("subsampling", {row: ""})[row], tables, coarseness,
                    PRESENT if known.get("has_icc") else NONE, PRESENT if known.get("has_exif") else NONE,
                )
            }  # fmt: skip
