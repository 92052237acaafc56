"""Writes one array of a shard: metadata by zarr-python, data straight from memory.

The data file is what zarr-python's sharding codec writes for the same array in one write (a test compares the bytes):
inner chunks in order, each followed by its crc32c, then the index of offsets and lengths with a crc32c of its own. One
pass over memory instead of several copies makes it three times as fast, so that writing is not what a cheap feature
spends its time on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.stage import Field

_METADATA: dict[tuple[Any, ...], bytes] = {}
"""`zarr.json` by (shape, dtype, inner rows, units): shards of one chain mostly have the same."""


def write_array(
    directory: Path, name: str, values: NDArray[Any], field: Field, inner: int, kill: Callable[[str], None]
) -> None:
    """Write `values` (rows, *field.shape), little endian and in C order, as the array `name` of a group.

    The length is rounded up to whole inner chunks of `inner` rows inside the file only; the rest is the fill value.
    """
    place = directory / name
    _write_metadata(place, values, field, inner)
    kill(f"inside {name}")
    path = place.joinpath("c", *["0"] * values.ndim)
    path.parent.mkdir(parents=True)
    _write_data(path, values, inner, lambda: kill(f"half of {name}"))
    kill(f"after {name}")


def _write_metadata(place: Path, values: NDArray[Any], field: Field, inner: int) -> None:
    key = (values.shape, values.dtype.str, inner, field.units)
    if key in _METADATA:
        place.mkdir()
        (place / "zarr.json").write_bytes(_METADATA[key])
        return
    import zarr
    from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec

    whole = -(-len(values) // inner) * inner
    zarr.create_array(
        place,
        shape=values.shape,
        chunks=(whole, *field.shape),
        dtype=values.dtype,
        serializer=ShardingCodec(chunk_shape=(inner, *field.shape), codecs=[BytesCodec(), Crc32cCodec()]),
        compressors=None,
        filters=None,
        fill_value=_fill(values.dtype) if values.dtype.kind == "f" else None,
        attributes={"units": field.units} if field.units else {},
        config={"write_empty_chunks": True},
    )
    _METADATA[key] = (place / "zarr.json").read_bytes()


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
