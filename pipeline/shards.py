"""Writes and opens shards: some rows of one chain as one immutable, ordinary Zarr v3 group in one directory.

A shard has `id`, `digest` and one array per field, rows sorted by id, each array in one file (sharding codec over the
whole array, inner chunks of 0.5 to 1 MiB followed by a crc32c). Its bytes depend on the rows, the schema and the
library versions only: nothing of the run that wrote it is kept.
`id` and `digest` are stored as uint8 (rows, 16): Zarr v3 has no stable specification of a 16-byte type (zarr 3.1.6
warns about `raw_bytes`), and uint8 opens everywhere without a warning. Here they are V16.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic
from pipeline import ids as row_ids
from pipeline.errors import DamagedShardError, StoreError
from pipeline.shard_reader import CORE_TYPES, ArrayReader, file_sizes, reading_error
from pipeline.shard_writer import write_array
from pipeline.stage import ID, Field, Schema

SHARD_BYTES = 32 * 2**20
CHUNK_BYTES = 2**20
RESERVED = ("id", "digest")
VERSIONS = ("numpy", "zarr", "numcodecs", "google-crc32c")
DIGEST_FIELD = Field("uint8", (16,))


def nothing(_point: str) -> None:
    """The kill point of an ordinary run."""


def shard_name(ids: NDArray[np.void]) -> str:
    """Name of the shard of exactly these rows, in any order: 16 hexadecimal digits of SHA-256 over the sorted ids."""
    return hashlib.sha256(np.ascontiguousarray(row_ids.sort(ids)).tobytes()).hexdigest()[:16]


def rows_per_shard(schema: Schema) -> int:
    """Rows of a full shard: about 32 MiB of data, between 16 and 32768 rows; no part of any recipe."""
    size = sum(field.row_bytes for field in schema.values())
    return int(min(max(SHARD_BYTES // max(size, 1), 16), 32768))


def chunk_rows(field: Field, rows: int) -> int:
    """Rows of an inner chunk: a power of two that makes 0.5 to 1 MiB, at least one row, at most the shard."""
    fitting = CHUNK_BYTES // max(field.row_bytes, 1)
    return min(1 << (fitting.bit_length() - 1), rows) if fitting else 1


def row_digests(arrays: Mapping[str, NDArray[Any]], schema: Schema) -> NDArray[np.void]:
    """First 16 bytes of the SHA-256 of each row: (n,) V16.

    Per field, in the order of names: length as 8 bytes (little endian), then the values (C order, little endian).
    """
    parts = []
    for name in sorted(schema):
        values = _as_stored(arrays[name], schema[name])
        flat = values.reshape(len(values), -1).view(np.uint8)
        parts.append((flat.shape[1].to_bytes(8, "little"), memoryview(flat)))  # type: ignore[arg-type]
    digests = []
    for row in range(len(parts[0][1]) if parts else 0):
        state = hashlib.sha256()
        for length, data in parts:
            state.update(length)
            state.update(data[row : row + 1])
        digests.append(state.digest()[:16])
    return np.frombuffer(b"".join(digests), dtype=ID)


def write_shard(
    directory: Path,
    ids: NDArray[np.void],
    arrays: Mapping[str, NDArray[Any]],
    schema: Schema,
    kill: Callable[[str], None] = nothing,
) -> None:
    """Write a complete group into an existing empty directory and flush it to the disk.

    ids     (n,) V16 in any order, distinct; rows are written sorted by id
    arrays  one array per field of the schema, first axis = rows in the order of `ids`
    kill    called with a name at the points where a test may kill the process
    Raises ValueError where the arrays are not what the schema says.
    """
    _check_rows(directory, ids, arrays, schema)
    order = row_ids.order(ids)
    stored = {name: _as_stored(arrays[name], schema[name]) for name in sorted(schema)}
    if (order != np.arange(len(ids))).any():
        ids = ids[order]
        stored = {name: values[order] for name, values in stored.items()}
    digests = row_digests(stored, schema)
    for name, values in (("id", _as_bytes(ids)), ("digest", _as_bytes(digests)), *stored.items()):
        field = schema.get(name, DIGEST_FIELD)
        write_array(directory, name, values, field, chunk_rows(field, len(values)), kill)
    kill("before the root attributes")
    root = {
        "schema": schema_as_data(schema),
        "rows": len(ids),
        "files": file_sizes(directory),
        "environment": environment(),
    }
    text = json.dumps({"attributes": root, "zarr_format": 3, "node_type": "group"}, indent=2, sort_keys=True)
    (directory / "zarr.json").write_text(text + "\n", encoding="utf-8")
    kill("before fsync")
    atomic.flush_tree(directory)
    kill("after fsync")


def _check_rows(directory: Path, ids: NDArray[np.void], arrays: Mapping[str, NDArray[Any]], schema: Schema) -> None:
    if not len(ids):
        raise ValueError("a shard has at least one row")
    if len(row_ids.unique(ids)) != len(ids):
        raise ValueError(f"{len(ids)} rows have only {len(row_ids.unique(ids))} distinct ids")
    if set(arrays) != set(schema):
        raise ValueError(f"the arrays are {sorted(arrays)}, the schema wants {sorted(schema)}")
    for name, field in schema.items():
        if name in RESERVED or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name):
            raise ValueError(f"'{name}' cannot name a field: letters, digits, '_' and '-', and not 'id' or 'digest'")
        if np.dtype(field.dtype).name not in CORE_TYPES:
            raise ValueError(f"field '{name}' has dtype {field.dtype}; a shard holds {', '.join(sorted(CORE_TYPES))}")
        if arrays[name].shape != (len(ids), *field.shape):
            raise ValueError(
                f"field '{name}' has shape {arrays[name].shape}, the schema wants {(len(ids), *field.shape)}"
            )
        if np.dtype(arrays[name].dtype).name != np.dtype(field.dtype).name:
            raise ValueError(f"field '{name}' has dtype {arrays[name].dtype}, the schema wants {field.dtype}")
    if any(directory.iterdir()):
        raise StoreError(f"{directory} is not empty; a shard is written into a new directory")


class Shard:
    """A published shard, read only."""

    def __init__(self, path: Path, attributes: Mapping[str, Any], checksums: bool) -> None:
        self.path = path
        self.attributes = attributes
        self.rows: int = attributes["rows"]
        self.schema: Schema = schema_from_data(attributes["schema"])
        self._checksums = checksums
        self._readers: dict[str, ArrayReader] = {}
        self._ids: NDArray[np.void] | None = None

    @classmethod
    def open(cls, path: Path, checksums: bool = True) -> Shard:
        """Open a shard and check the size of each file; `checksums=False` trusts the bytes on first touch.

        Raises DamagedShardError naming the file, the size found and the one expected; StoreError where the system does
        not let us look.
        """
        attributes = read_attributes(path)
        check_sizes(path, attributes["files"])
        return cls(path, attributes, checksums)

    @property
    def ids(self) -> NDArray[np.void]:
        """(rows,) V16, sorted."""
        if self._ids is None:
            self._ids = self._identities("id")
        return self._ids

    @property
    def digests(self) -> NDArray[np.void]:
        """(rows,) V16: digest of each row's data."""
        return self._identities("digest")

    def gather(self, field: str, rows: NDArray[np.integer[Any]]) -> NDArray[Any]:
        """Values of one field: (len(rows), *shape) in the given order; a fresh array."""
        return self.reader(field).rows(rows)

    def reader(self, field: str) -> ArrayReader:
        """The reader of one array; kept, so that a chunk's checksum is verified once."""
        reader = self._readers.get(field)
        if reader is None:
            if field not in self.schema and field not in RESERVED:
                raise KeyError(f"{self.path.name} has no field '{field}'; it has {', '.join(sorted(self.schema))}")
            try:
                reader = ArrayReader(self.path / field, str(self.path), self._checksums)
            except (OSError, KeyError, ValueError) as error:
                raise reading_error(error, self.path / field, self.path) from error
            self._readers[field] = reader
        return reader

    def verify(self) -> None:
        """Check everything: sizes, checksums, order of ids, digests; DamagedShardError says what is wrong first."""
        check_sizes(self.path, self.attributes["files"])
        for name in (*RESERVED, *sorted(self.schema)):
            reader = self.reader(name)
            reader.verify()
            if reader.shape[0] != self.rows:
                raise self._damaged(f"'{name}' has {reader.shape[0]} rows, the attributes say {self.rows}")
        if shard_name(self.ids) != self.path.name.split(".")[0]:
            raise self._damaged(f"its ids belong to a shard named {shard_name(self.ids)}")
        if np.any(row_ids.unique(self.ids) != self.ids):
            raise self._damaged("its ids are not sorted")
        block = max(SHARD_BYTES // max(sum(field.row_bytes for field in self.schema.values()), 1), 1)
        for start in range(0, self.rows, block):
            rows = np.arange(start, min(start + block, self.rows))
            found = row_digests({name: self.gather(name, rows) for name in self.schema}, self.schema)
            wrong = np.flatnonzero(found != self.digests[rows])
            if len(wrong):
                bad = row_ids.hex(self.ids[rows[wrong[0]]])
                raise self._damaged(f"{len(wrong)} rows do not have their digest, first {bad}")

    def _identities(self, name: str) -> NDArray[np.void]:
        reader = self.reader(name)
        if reader.shape != (self.rows, 16):
            raise self._damaged(f"'{name}' has shape {reader.shape}, expected {(self.rows, 16)}")
        return reader.rows(np.arange(self.rows)).reshape(-1).view(ID)

    def _damaged(self, what: str) -> DamagedShardError:
        return DamagedShardError(f"{self.path}: {what}; the shard must be computed again", str(self.path))


def read_attributes(path: Path) -> dict[str, Any]:
    """Root attributes of a shard; DamagedShardError if they cannot be read."""
    try:
        attributes = json.loads((path / "zarr.json").read_bytes())["attributes"]
        if isinstance(attributes["rows"], int) and isinstance(attributes["files"], dict) and attributes["schema"]:
            return dict(attributes)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise reading_error(error, path / "zarr.json", path) from error
    raise DamagedShardError(f"{path / 'zarr.json'} does not describe a shard", str(path))


def check_sizes(path: Path, files: Mapping[str, int]) -> None:
    """DamagedShardError if a file of the shard is missing or has another size; costs one stat per file."""
    for name, expected in files.items():
        try:
            found = os.stat(f"{path}/{name}").st_size
        except FileNotFoundError:
            raise DamagedShardError(f"{path / name} is missing, expected {expected} bytes", str(path)) from None
        except OSError as error:
            raise reading_error(error, path / name, path) from error
        if found != expected:
            raise DamagedShardError(f"{path / name} has {found} bytes, expected {expected}", str(path))


def schema_as_data(schema: Schema) -> dict[str, dict[str, Any]]:
    """The schema as plain data: name -> dtype, shape, units, axes."""
    return {
        name: {
            "dtype": np.dtype(field.dtype).name,
            "shape": list(field.shape),
            "units": field.units,
            **({"axes": list(field.axes)} if field.axes else {}),
        }
        for name, field in sorted(schema.items())
    }


def schema_from_data(data: Mapping[str, Mapping[str, Any]]) -> dict[str, Field]:
    """The schema behind `schema_as_data`."""
    return {
        name: Field(one["dtype"], tuple(one["shape"]), one["units"], tuple(one.get("axes", ())))
        for name, one in data.items()
    }


@cache
def environment() -> Mapping[str, str]:
    """Versions of the libraries that wrote the files (they do not change decoded values)."""
    return {name: version(name) for name in VERSIONS}


def _as_stored(values: NDArray[Any], field: Field) -> NDArray[Any]:
    """C order, little endian."""
    return np.ascontiguousarray(values, dtype=np.dtype(field.dtype).newbyteorder("<"))


def _as_bytes(values: NDArray[np.void]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(values).view(np.uint8).reshape(-1, 16)
