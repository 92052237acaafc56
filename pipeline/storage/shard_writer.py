"""Writes one array of a shard, metadata and data, straight from memory.

Both files are what zarr-python writes for the same array (a test compares the bytes): inner chunks in order, each
followed by its crc32c, then the index of offsets and lengths with a crc32c of its own. One pass over memory instead of
several copies makes it three times as fast, so that writing is not what a cheap feature spends its time on.
The text of the metadata follows from field and rows alone: what a reader finds is compared with it. Another text is
another format (`FORMAT_VERSION`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.stage import Field

CRC = {"name": "crc32c"}
LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}


@lru_cache(maxsize=4096)
def array_metadata(field: Field, rows: int, inner: int) -> bytes:
    """`zarr.json` of the array of some rows, with inner chunks of `inner` rows: one file for the whole array.

    The length is rounded up to whole inner chunks inside the file only; the rest is the fill value.
    """
    dtype = np.dtype(field.dtype)
    shard = {
        "chunk_shape": [inner, *field.shape],
        "codecs": [LITTLE if dtype.itemsize > 1 else {"name": "bytes"}, CRC],
        "index_codecs": [LITTLE, CRC],
        "index_location": "end",
    }
    data = {
        "shape": [rows, *field.shape],
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [-(-rows // inner) * inner, *field.shape]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": {"f": "NaN", "b": False, "c": [0.0, 0.0]}.get(dtype.kind, 0),
        "codecs": [{"name": "sharding_indexed", "configuration": shard}],
        "attributes": {"units": field.units} if field.units else {},
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }
    return json.dumps(data, indent=2).encode()


def array_files(name: str, field: Field, rows: int, inner: int) -> dict[str, int]:
    """Size in bytes of the two files of an array, by name inside the shard."""
    chunk = inner * np.dtype(field.dtype).itemsize * math.prod(field.shape)
    data = -(-rows // inner) * (chunk + 4 + 16) + 4
    return {
        f"{name}/zarr.json": len(array_metadata(field, rows, inner)),
        "/".join([name, "c", *["0"] * (len(field.shape) + 1)]): data,
    }


def write_array(
    directory: Path, name: str, values: NDArray[Any], field: Field, inner: int, kill: Callable[[str], None]
) -> None:
    """Write `values` (rows, *field.shape), little endian and in C order, as the array `name` of a group."""
    place = directory / name
    place.mkdir()
    (place / "zarr.json").write_bytes(array_metadata(field, len(values), inner))
    kill(f"inside {name}")
    path = place.joinpath("c", *["0"] * values.ndim)
    path.parent.mkdir(parents=True)
    _write_data(path, values, inner, lambda: kill(f"half of {name}"))
    kill(f"after {name}")


def _write_data(path: Path, values: NDArray[Any], inner: int, half: Callable[[], None]) -> None:
    import google_crc32c

    rows = len(values)
    flat = values.reshape(rows, -1).view(np.uint8)
    chunks = -(-rows // inner)
    index = np.zeros((chunks, 2), dtype="<u8")
    offset = 0
    with path.open("wb", buffering=0) as file:
        for number in range(chunks):
            block = flat[number * inner : (number + 1) * inner]
            if len(block) < inner:
                padded = np.full((inner, *values.shape[1:]), _fill(values.dtype), dtype=values.dtype)
                padded = padded.reshape(inner, -1).view(np.uint8)
                padded[: len(block)] = block
                block = padded
            size = _write(file, block.reshape(-1))
            size += _write(file, np.array([google_crc32c.value(block.reshape(-1))], dtype="<u4").view(np.uint8))
            index[number] = offset, size
            offset += size
            if number == chunks // 2:
                half()
        table = index.reshape(-1).view(np.uint8)
        _write(file, table)
        _write(file, np.array([google_crc32c.value(table)], dtype="<u4").view(np.uint8))


def _write(file: Any, data: NDArray[np.uint8]) -> int:
    """Write all of it; an unbuffered file may take less at a time. Returns the number of bytes."""
    view = memoryview(data)  # type: ignore[arg-type]
    done = 0
    while done < len(view):
        done += file.write(view[done:])
    return len(view)


def _fill(dtype: np.dtype[Any]) -> float | int:
    return float("nan") if dtype.kind in "f" else 0
