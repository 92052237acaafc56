"""Ways to damage, exchange and age what a store holds, for tests."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from pipeline.runs import this_run
from pipeline.storage.shards import Shard
from pipeline.storage.store import Store


def data_file(shard: Path, field: str) -> Path:
    return next(one for one in sorted((shard / field / "c").rglob("*")) if one.is_file())


def exchange(one: Path, other: Path) -> None:
    """Two files or folders change places."""
    aside = one.with_name(f"{one.name}.aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def edit_json(path: Path, change: Callable[[Any], None], sealed: str | None = None) -> None:
    """Edit a JSON file; sealed: as somebody would who computes its digest again ("" or the object that holds it)."""
    data = json.loads(path.read_text())
    change(data)
    indent = {"indent": 2, "sort_keys": True} if sealed is not None else {"indent": 2}
    end = "\n" if sealed is not None else ""
    if sealed is not None:
        (data[sealed] if sealed else data)["check"] = "0" * 32
    text = json.dumps(data, **indent) + end  # type: ignore[arg-type]
    if sealed is not None:
        digest = hashlib.sha256(text.encode()).hexdigest()[:32]
        text = text.replace(f'"check": "{"0" * 32}"', f'"check": "{digest}"')
    path.write_text(text)


def age(path: Path, place: str | None = None, version: int | None = None) -> None:
    """Make a file look as a format before wrote it: of `version`; None: without chain, format and digest of its own."""
    if version is not None:
        edit_json(path, lambda data: (data[place] if place else data).update(format=version), sealed=place or "")
        return

    def strip(data: Any) -> None:
        for name in ("chain", "format", "check", "content", "chunks"):
            if name != "chain" or place == "attributes":
                (data[place] if place else data).pop(name, None)

    edit_json(path, strip)


def change_value(shard: Path, field: str, at: int = 0) -> None:
    """Another byte of data in the first inner chunk, with a checksum that fits."""
    file = data_file(shard, field)
    data = bytearray(file.read_bytes())
    chunk = json.loads((shard / field / "zarr.json").read_text())["codecs"][0]["configuration"]["chunk_shape"]
    width = {"float64": 8, "float32": 4, "uint8": 1}[json.loads((shard / field / "zarr.json").read_text())["data_type"]]
    size = width
    for side in chunk:
        size *= side
    data[at] ^= 1
    data[size : size + 4] = google_crc32c.value(bytes(data[:size])).to_bytes(4, "little")
    file.write_bytes(data)


def give_other_values(shard: Path, field: str) -> None:
    """In place of a shard one with the values of a field plus 1, sound in itself; it was published as any other."""
    store, found = Store(shard.parents[2], writable=True), Shard.open(shard)
    arrays = {name: found.gather(name, np.arange(found.rows)) for name in found.schema}
    arrays[field] = arrays[field] + 1
    ids, parents = found.ids.copy(), found.parents
    store.quarantine(shard, "its values are exchanged")
    store.stage_shard(shard.parents[1].name, found.chain, ids, arrays, found.schema, this_run(), parents=parents)


def flip(path: Path, at: int, bit: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= bit
    path.write_bytes(data)


def pipe_instead(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)
