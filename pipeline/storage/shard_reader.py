"""Reads rows of one Zarr v3 array through a memory map, without importing zarr.

An uncompressed shard is rows at known places of a file: the metadata and the shard index are parsed once, and a batch
of any rows is then one copy per row. Everything the map cannot serve (compressed or otherwise unusual arrays) goes
through zarr-python, which is also the oracle of the tests: both give the same bytes for every row.
A checksum behind each inner chunk (crc32c) is verified when the chunk is first touched; that costs one pass over the
bytes of the chunk (about 0.1 ms per MiB), once per process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DamagedShardError
from pipeline.ids import distinct
from pipeline.storage.files import map_file, reading_error
from pipeline.storage.sealed import ZARR_BYTES, parse, read_regular

MISSING = np.uint64(2**64 - 1)
LARGE_ROW = 2048  # bytes; from here on copying row by row beats numpy's indexing
INDEX_CODECS = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
CORE_TYPES = {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"} | {
    "float16",
    "float32",
    "float64",
    "complex64",
    "complex128",
}


@dataclass(frozen=True)
class Layout:
    """What `zarr.json` of one array says, as far as the memory map can serve it."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    chunk_rows: int  # rows of an inner chunk
    chunks: int  # inner chunks in the file, the padded last one included
    checksums: bool
    index_first: bool
    fill: NDArray[Any]  # 0-d
    file: str  # name of the one chunk file, relative to the array

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))

    @property
    def chunk_bytes(self) -> int:
        return self.chunk_rows * self.row_bytes


def parse_layout(metadata: Mapping[str, Any]) -> Layout | None:
    """The layout behind the metadata of a Zarr v3 array, or None where only zarr-python can read it."""
    shape = tuple(metadata["shape"])
    codecs = metadata["codecs"]
    grid, keys = metadata["chunk_grid"], metadata["chunk_key_encoding"]
    usual = (
        metadata["data_type"] in CORE_TYPES
        and len(shape) >= 1
        and min(shape) > 0
        and grid["name"] == "regular"
        and keys["name"] == "default"
        and not metadata.get("storage_transformers")
        and len(codecs) == 1
        and codecs[0]["name"] == "sharding_indexed"
    )
    if not usual:
        return None
    dtype = np.dtype(metadata["data_type"]).newbyteorder("<")
    outer, shard = grid["configuration"]["chunk_shape"], codecs[0]["configuration"]
    inner = shard["chunk_shape"]
    checksums = _checksums(shard["codecs"], dtype)
    fill = _fill_value(metadata["fill_value"], dtype)
    one_file = outer[0] >= shape[0] and tuple(outer[1:]) == shape[1:] == tuple(inner[1:])
    if checksums is None or fill is None or not one_file or shard["index_codecs"] != INDEX_CODECS:
        return None
    return Layout(
        dtype=dtype,
        shape=shape,
        chunk_rows=inner[0],
        chunks=outer[0] // inner[0],
        checksums=checksums,
        index_first=shard.get("index_location", "end") == "start",
        fill=fill,
        file=keys.get("configuration", {}).get("separator", "/").join(["c", *["0"] * len(shape)]),
    )


def _checksums(codecs: list[dict[str, Any]], dtype: np.dtype[Any]) -> bool | None:
    """Whether inner chunks end in a crc32c; None if they are not plain little-endian bytes."""
    if not codecs or codecs[0]["name"] != "bytes":
        return None
    endian = codecs[0].get("configuration", {}).get("endian")
    if dtype.itemsize > 1 and endian != "little":
        return None
    rest = [codec["name"] for codec in codecs[1:]]
    return {(): False, ("crc32c",): True}.get(tuple(rest))


def _fill_value(value: Any, dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """The fill value of an array; None for spellings that are left to zarr-python (bit patterns, complex numbers)."""
    if dtype.kind == "c" or (isinstance(value, str) and value not in ("NaN", "Infinity", "-Infinity")):
        return None
    return np.array(float(value) if dtype.kind == "f" else value, dtype=dtype)


class ArrayReader:
    """Rows of one array in a directory; `shard` names the group in errors."""

    def __init__(self, directory: Path, shard: str = "", checksums: bool = True, expected: bytes | None = None) -> None:
        """expected: the metadata that it must have (None: any), with the chunks in order; else DamagedShardError."""
        self.directory = directory
        self.shard = shard or str(directory)
        text = read_regular(directory / "zarr.json", ZARR_BYTES)
        if expected is not None and text != expected:
            raise DamagedShardError(f"{directory / 'zarr.json'} {_difference(text, expected)}", self.shard)
        metadata = parse(text)
        self.shape: tuple[int, ...] = tuple(metadata["shape"])
        self.layout = parse_layout(metadata)
        self._in_order = expected is not None
        if self.layout is not None:
            self.dtype = self.layout.dtype
            self._open(self.layout, checksums)
        else:
            import zarr

            self._fallback = zarr.open_array(directory, mode="r")
            self.dtype = self._fallback.dtype

    @property
    def mapped(self) -> bool:
        """Whether rows come from the memory map and not through zarr-python."""
        return self.layout is not None

    def rows(self, rows: NDArray[np.integer[Any]]) -> NDArray[Any]:
        """The rows in the given order: (len(rows), *shape[1:]) in the array's dtype, a fresh array."""
        out = np.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        self.rows_into(np.asarray(rows, dtype=np.int64), out, None)
        return out

    def rows_into(self, rows: NDArray[np.int64], out: NDArray[Any], places: NDArray[np.int64] | None) -> None:
        """Copy `rows` to the rows `places` of `out` (None: to all of it, in order); `out` is C-contiguous."""
        if not len(rows):
            return
        if rows.min() < 0 or rows.max() >= self.shape[0]:
            raise IndexError(f"{self.directory}: rows {rows.min()} to {rows.max()} asked for, {self.shape[0]} there")
        if self.layout is None:
            values = self._through_zarr(rows)
            if places is None:
                out[...] = values
            else:
                out[places] = values
            return
        start, chunk = self.spans(rows)
        if self._unverified:
            self.verify_chunks(distinct(chunk))
        if self._all_present:
            self._copy(start, out, places)
            return
        present = self._present[chunk]
        targets = np.arange(len(rows)) if places is None else places
        out[targets[~present]] = self.layout.fill
        self._copy(start[present], out, targets[present])

    @property
    def complete(self) -> bool:
        """Whether every row lies in the memory map: no chunk is left out of the file."""
        return self.layout is not None and self._all_present

    @property
    def path(self) -> Path:
        """Of the file (mapped arrays only)."""
        assert self.layout is not None
        return self.directory / self.layout.file

    @property
    def buffer(self) -> memoryview:
        """The bytes of the file (mapped arrays only)."""
        return self._bytes

    def spans(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Byte offset in `buffer` and inner chunk of each row (mapped arrays only; rows of absent chunks have none)."""
        assert self.layout is not None
        chunk = rows // self.layout.chunk_rows
        return self._offsets[chunk] + (rows - chunk * self.layout.chunk_rows) * self.layout.row_bytes, chunk

    def verify(self) -> None:
        """Check the checksum of each inner chunk again (reads all bytes); DamagedShardError names the first bad one."""
        if self.layout is None:
            self._through_zarr(np.arange(self.shape[0]))
        elif self.layout.checksums:
            self._verified[:] = False
            self._unverified = True
            self.verify_chunks(np.flatnonzero(self._present))

    def _open(self, layout: Layout, checksums: bool) -> None:
        path = self.directory / layout.file
        if self._in_order or path.exists():
            self._bytes = memoryview(map_file(path))
            index = self._parse_index(layout, path)
        else:  # an array that equals its fill value may have no file
            self._bytes = memoryview(b"")
            index = np.full((layout.chunks, 2), MISSING)
        self._present = (index != MISSING).any(axis=1)
        used = index[self._present]
        length = layout.chunk_bytes + 4 * layout.checksums
        fits = bool((used[:, 1] == length).all() and (used[:, 0] <= max(len(self._bytes) - length, 0)).all())
        if self._in_order:
            fits &= bool((index[:, 0] == np.arange(layout.chunks, dtype=np.uint64) * np.uint64(length)).all())
        if not fits:
            raise DamagedShardError(f"{path}: its index does not fit a file of {len(self._bytes)} bytes", self.shard)
        self._all_present = bool(self._present.all())
        self._offsets = np.where(self._present, index[:, 0], 0).astype(np.int64)
        self._verified = ~self._present
        self._unverified = checksums and layout.checksums and not self._verified.all()
        # One "row" at every byte: indexing it with byte offsets copies rows from anywhere in the file.
        self._everywhere = np.ndarray(
            (max(len(self._bytes) - layout.row_bytes + 1, 0),), f"V{layout.row_bytes}", self._bytes, strides=(1,)
        )

    def _parse_index(self, layout: Layout, path: Path) -> NDArray[np.uint64]:
        size = 16 * layout.chunks
        start = 0 if layout.index_first else len(self._bytes) - size - 4
        if start < 0:
            raise DamagedShardError(
                f"{path} has {len(self._bytes)} bytes, less than its index of {size + 4} bytes", self.shard
            )
        _check(self._bytes[start : start + size + 4], f"{path}: the shard index", self.shard)
        return np.frombuffer(self._bytes, dtype="<u8", count=2 * layout.chunks, offset=start).reshape(-1, 2)

    def verify_chunks(self, chunks: NDArray[np.int64]) -> None:
        """Check the checksums of chunks that were not checked yet (mapped arrays only)."""
        assert self.layout is not None
        if not self._unverified:
            return
        length = self.layout.chunk_bytes + 4
        for chunk in chunks[~self._verified[chunks]].tolist():
            start = int(self._offsets[chunk])
            what = f"{self.directory / self.layout.file}: inner chunk {chunk}"
            _check(self._bytes[start : start + length], what, self.shard)
            self._verified[chunk] = True
        self._unverified = not self._verified.all()

    def _copy(self, start: NDArray[np.int64], out: NDArray[Any], places: NDArray[np.int64] | None) -> None:
        """Copy the rows at the byte offsets `start` into rows of `out`."""
        assert self.layout is not None
        size = self.layout.row_bytes
        if not len(start):
            return
        together = np.diff(start) == size
        if places is not None:
            together &= np.diff(places) == 1
        ends = np.append(np.flatnonzero(~together) + 1, len(start))
        if size < LARGE_ROW and 8 * len(ends) > len(start):
            view = out.reshape(len(out), -1).view(f"V{size}")[:, 0]
            view[slice(None) if places is None else places] = self._everywhere[start]
            return
        target, source = memoryview(out.reshape(-1)).cast("B"), self._bytes  # type: ignore[arg-type]
        begins = np.append(0, ends[:-1])
        firsts = (begins if places is None else places[begins]) * size
        lengths = (ends - begins) * size
        for first, at, length in zip(firsts.tolist(), start[begins].tolist(), lengths.tolist(), strict=True):
            target[first : first + length] = source[at : at + length]

    def _through_zarr(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        try:
            distinct, back = np.unique(rows, return_inverse=True)
            first, last = int(distinct[0]), int(distinct[-1])
            if last - first < 2 * len(distinct):
                return np.asarray(self._fallback[first : last + 1])[rows - first]
            return np.asarray(self._fallback.oindex[distinct])[back]
        except (OSError, ValueError, RuntimeError) as error:  # what codecs raise on damaged bytes
            raise reading_error(error, self.directory, self.shard) from error


def _difference(text: bytes, expected: bytes) -> str:
    """What array metadata say and what they should, key by key: the first that differs."""
    wanted = parse(expected)
    try:
        found = parse(text)
        changed = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
    except (ValueError, TypeError) as error:
        return f"cannot be read: {error}; the shard must be made again"
    if not changed:
        return "is written in another way than its schema demands; the shard must be made again"
    name = changed[0]
    said, right = (json.dumps(data.get(name))[:200] for data in (found, wanted))
    return f"says {name} {said}, but its recipe and schema say {right}; the shard must be made again"


def _check(data: memoryview, what: str, shard: str) -> None:
    """Compare the crc32c in the last four bytes with that of the bytes before them."""
    import google_crc32c

    found = int.from_bytes(data[-4:], "little")
    computed = google_crc32c.value(np.frombuffer(data[:-4], dtype=np.uint8))  # no copy
    if found != computed:
        raise DamagedShardError(
            f"{what} is damaged: its crc32c is {computed:08x}, {found:08x} was written; the shard must be made again",
            shard,
        )
