"""Writes and opens shards: some rows of one chain as one immutable, ordinary Zarr v3 group in one directory.

A shard has `id`, `digest` and one array per field, rows sorted by id, each array in one file (sharding codec over the
whole array, inner chunks of 0.5 to 1 MiB followed by a crc32c). Rows that were computed from stored rows or artifacts
have `parents` as well: a digest of what each was computed from. The bytes of a shard depend on the rows, the chain, the
schema and the library versions only: nothing of the run that wrote it is kept, but for the kind of GPU that computed
the rows.
The root attributes say whose shard it is (chain, format, schema) and seal themselves; all other metadata and all file
sizes follow from them and are compared when the shard or an array is opened.
`id`, `digest` and `parents` are stored as uint8 (rows, 16): Zarr v3 has no stable specification of a 16-byte type
(zarr 3.1.6 warns about `raw_bytes`), and uint8 opens everywhere without a warning. Here they are V16.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic
from pipeline import ids as row_ids
from pipeline.errors import DamagedShardError, OldFormatError, StoreError
from pipeline.stage import ID, Field, Schema
from pipeline.storage.files import file_sizes, reading_error
from pipeline.storage.sealed import ZARR_BYTES, read_sealed, seal
from pipeline.storage.shard_reader import CORE_TYPES, ArrayReader
from pipeline.storage.shard_writer import array_files, array_metadata, write_array

SHARD_BYTES = 32 * 2**20
CHUNK_BYTES = 2**20
RESERVED = ("id", "digest", "parents")
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
        values = as_stored(arrays[name], schema[name])
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


def parent_digests(rows: Sequence[NDArray[np.void]], artifacts: Sequence[bytes], count: int) -> NDArray[np.void] | None:
    """For each row a digest of what it is computed from: (count,) V16; None where that is nothing of the store.

    rows: digests of the rows of each input, (count,) V16. artifacts: digests of their contents.
    """
    if not rows and not artifacts:
        return None
    common = b"".join(artifacts)
    parts = [np.ascontiguousarray(one).tobytes() for one in rows]
    found = [
        hashlib.sha256(b"".join([part[start : start + 16] for part in parts]) + common).digest()[:16]
        for start in range(0, 16 * count, 16)
    ]
    return np.frombuffer(b"".join(found), dtype=ID)


def joined_digests(parts: Sequence[NDArray[np.void]]) -> NDArray[np.void]:
    """Digests (n,) V16 of rows whose fields lie apart, from those of the parts, each (n,) V16; of one part its own."""
    if len(parts) == 1:
        return parts[0]
    found = parent_digests(parts, (), len(parts[0]))
    assert found is not None
    return found


def write_shard(
    directory: Path,
    chain: bytes,
    ids: NDArray[np.void],
    arrays: Mapping[str, NDArray[Any]],
    schema: Schema,
    parents: NDArray[np.void] | None = None,
    kill: Callable[[str], None] = nothing,
    gpus: Sequence[Mapping[str, str]] = (),
) -> None:
    """Write a complete group into an existing empty directory and flush it to the disk.

    ids      (n,) V16 in any order, distinct; rows are written sorted by id
    arrays   one array per field of the schema, first axis = rows in the order of `ids`
    parents  (n,) V16 of `parent_digests`, if the rows were computed from stored ones
    kill     called with a name at the points where a test may kill the process
    gpus     that computed the rows, by model and builds of libraries; none: a CPU did
    Raises ValueError where the arrays are not what the schema says.
    """
    _check_rows(directory, ids, arrays, schema)
    order = row_ids.order(ids)
    stored = {name: as_stored(arrays[name], schema[name]) for name in sorted(schema)}
    if (order != np.arange(len(ids))).any():
        ids = ids[order]
        stored = {name: values[order] for name, values in stored.items()}
        parents = None if parents is None else parents[order]
    own = {"id": ids, "digest": row_digests(stored, schema)} | ({} if parents is None else {"parents": parents})
    fields = shard_fields(schema, parents is not None)
    chunks = {name: chunk_rows(field, len(ids)) for name, field in fields.items()}
    for name, values in (*((name, _as_bytes(one)) for name, one in own.items()), *stored.items()):
        write_array(directory, name, values, fields[name], chunks[name], kill)
    kill("before the root attributes")
    root = {
        "chain": chain.hex(),
        "chunks": chunks,
        "content": _content(list(own.values())),
        "schema": schema_as_data(schema),
        "rows": len(ids),
        "files": file_sizes(directory),
        "environment": environment(),
        **({"gpus": [dict(one) for one in gpus]} if gpus else {}),
    }
    text = seal({"attributes": root, "zarr_format": 3, "node_type": "group"}, "attributes")
    (directory / "zarr.json").write_bytes(text)
    kill("before fsync")
    atomic.flush_tree(directory, folders=False)
    kill("after fsync")


def shard_fields(schema: Schema, parents: bool) -> dict[str, Field]:
    """All arrays of a shard, in the order in which they are written."""
    own = RESERVED if parents else RESERVED[:2]
    return {**dict.fromkeys(own, DIGEST_FIELD), **{name: schema[name] for name in sorted(schema)}}


def _content(parts: Sequence[NDArray[np.void]]) -> str:
    """Digest of the ids, the row digests and the digests of the parents: equal for equal rows."""
    total = hashlib.sha256()
    for part in parts:
        total.update(np.ascontiguousarray(part).tobytes())
    return total.hexdigest()[:32]


def _check_rows(directory: Path, ids: NDArray[np.void], arrays: Mapping[str, NDArray[Any]], schema: Schema) -> None:
    if not len(ids):
        raise ValueError("a shard has at least one row")
    if len(row_ids.unique(ids)) != len(ids):
        raise ValueError(f"{len(ids)} rows have only {len(row_ids.unique(ids))} distinct ids")
    if set(arrays) != set(schema):
        raise ValueError(f"the arrays are {sorted(arrays)}, the schema wants {sorted(schema)}")
    for name, field in schema.items():
        if name in RESERVED or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name):
            reserved = ", ".join(RESERVED)
            raise ValueError(f"'{name}' cannot name a field: letters, digits, '_' and '-', and not {reserved}")
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
        self.chain = bytes.fromhex(attributes["chain"])
        self.rows: int = attributes["rows"]
        self.content: str = attributes["content"]
        self.schema: Schema = schema_from_data(attributes["schema"])
        self.has_parents = "parents" in attributes["chunks"]
        self._agreed: Schema | None = None  # the schema that was compared last
        self._checksums = checksums
        self._readers: dict[str, ArrayReader] = {}
        self._ids: NDArray[np.void] | None = None

    @classmethod
    def open(
        cls, path: Path, checksums: bool = True, chain: bytes | None = None, schema: Schema | None = None
    ) -> Shard:
        """Open a shard and check the size of each file; `checksums=False` trusts the bytes on first touch.

        chain, schema: what it must be a shard of (None: anything).
        Raises DamagedShardError naming the file, what was found and what was expected, also for a shard of another
        chain; OldFormatError for one of another format; StoreError where the system does not let us look.
        """
        shard = cls(path, read_attributes(path), checksums)
        check_sizes(path, shard.attributes["files"])
        shard.check_origin(chain, schema)
        return shard

    def check_origin(self, chain: bytes | None, schema: Schema | None) -> None:
        """DamagedShardError if this is a shard of another chain, or has other fields; None: not compared."""
        if chain is not None and chain != self.chain:
            raise self._damaged(f"it is a shard of chain {self.chain.hex()}, expected {chain.hex()}")
        if schema is not None and schema is not self._agreed:
            found, wanted = schema_as_data(self.schema), schema_as_data(schema)
            for name in sorted({*found, *wanted}):
                if found.get(name) != wanted.get(name):
                    raise self._damaged(f"its field '{name}' is {found.get(name)}, the recipe says {wanted.get(name)}")
            self._agreed = schema

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

    @property
    def parents(self) -> NDArray[np.void] | None:
        """(rows,) V16: digest of what each row was computed from; None where that was nothing of the store."""
        return self._identities("parents") if self.has_parents else None

    def gather(self, field: str, rows: NDArray[np.integer[Any]]) -> NDArray[Any]:
        """Values of one field: (len(rows), *shape) in the given order; a fresh array."""
        return self.reader(field).rows(rows)

    def reader(self, field: str) -> ArrayReader:
        """The reader of one array; kept, so that a chunk's checksum is verified once."""
        reader = self._readers.get(field)
        if reader is None:
            chunks = self.attributes["chunks"]
            if field not in chunks:
                raise KeyError(f"{self.path.name} has no field '{field}'; it has {', '.join(sorted(self.schema))}")
            expected = array_metadata(self.schema.get(field, DIGEST_FIELD), self.rows, chunks[field])
            try:
                reader = ArrayReader(self.path / field, str(self.path), self._checksums, expected)
            except (OSError, KeyError, ValueError) as error:
                raise reading_error(error, self.path / field, self.path) from error
            self._readers[field] = reader
        return reader

    def verify(self) -> None:
        """Check everything: sizes, checksums, order of ids, digests; DamagedShardError says what is wrong first."""
        check_sizes(self.path, self.attributes["files"])
        for name in self.attributes["chunks"]:
            self.reader(name).verify()
        ids, digests, parents = self.ids, self.digests, self.parents
        if shard_name(ids) != self.path.name.split(".")[0]:
            raise self._damaged(f"its ids belong to a shard named {shard_name(ids)}")
        if np.any(row_ids.unique(ids) != ids):
            raise self._damaged("its ids are not sorted")
        if _content([ids, digests, *([] if parents is None else [parents])]) != self.content:
            raise self._damaged("its ids and digests are not those that its attributes name")
        block = max(SHARD_BYTES // max(sum(field.row_bytes for field in self.schema.values()), 1), 1)
        for start in range(0, self.rows, block):
            rows = np.arange(start, min(start + block, self.rows))
            found = row_digests({name: self.gather(name, rows) for name in self.schema}, self.schema)
            wrong = np.flatnonzero(found != digests[rows])
            if len(wrong):
                bad = row_ids.hex(ids[rows[wrong[0]]])
                raise self._damaged(f"{len(wrong)} rows do not have their digest, first {bad}")

    def _identities(self, name: str) -> NDArray[np.void]:
        return self.reader(name).rows(np.arange(self.rows)).reshape(-1).view(ID)

    def _damaged(self, what: str) -> DamagedShardError:
        return DamagedShardError(f"{self.path}: {what}; the shard must be computed again", str(self.path))


def read_attributes(path: Path) -> dict[str, Any]:
    """Root attributes of a shard, which agree with each other; DamagedShardError if not, OldFormatError, StoreError."""
    place = path / "zarr.json"
    try:
        attributes = read_sealed(place, ZARR_BYTES, ("schema", "rows", "files"), "attributes")
        wanted = _files_of(attributes)
    except OldFormatError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise reading_error(error, place, path) from error
    if attributes["files"] != wanted:
        raise DamagedShardError(f"{place} names files that do not follow from its schema and rows", str(path))
    return attributes


def _files_of(attributes: Mapping[str, Any]) -> dict[str, int]:
    """Names and sizes of the files that a shard of these attributes has; ValueError for attributes that cannot be."""
    rows, chunks = attributes["rows"], attributes["chunks"]
    if type(rows) is not int or rows < 1 or len(bytes.fromhex(attributes["chain"])) != 16:
        raise ValueError(f"it has {rows} rows of chain {attributes['chain']}")
    for name, field in attributes["schema"].items():
        sides = field["shape"]
        plain = isinstance(sides, list) and all(type(side) is int and side >= 0 for side in sides)
        if field["dtype"] not in CORE_TYPES or not plain or not isinstance(field["units"], str):
            raise ValueError(f"its field '{name}' is {str(field)[:200]}")
    fields = shard_fields(schema_from_data(attributes["schema"]), "parents" in chunks)
    if set(chunks) != set(fields) or not all(type(inner) is int and 1 <= inner <= rows for inner in chunks.values()):
        raise ValueError(f"its chunks are {str(chunks)[:200]}")
    found: dict[str, int] = {}
    for name, field in fields.items():
        found |= array_files(name, field, rows, chunks[name])
    return found


def is_old(path: Path) -> bool:
    """Whether a shard is of another format: never damage, never served."""
    try:
        read_attributes(path)
    except OldFormatError:
        return True
    except (StoreError, DamagedShardError):
        return False
    return False


def check_sizes(path: Path, files: Mapping[str, int]) -> None:
    """DamagedShardError if a file of the shard is missing or has another size; costs one stat per file."""
    for name, expected in files.items():
        try:
            found = os.stat(f"{path}/{name}")
        except FileNotFoundError:
            raise DamagedShardError(f"{path / name} is missing, expected {expected} bytes", str(path)) from None
        except OSError as error:
            raise reading_error(error, path / name, path) from error
        if not stat.S_ISREG(found.st_mode):
            raise DamagedShardError(f"{path / name} is no regular file, expected {expected} bytes", str(path))
        if found.st_size != expected:
            raise DamagedShardError(f"{path / name} has {found.st_size} bytes, expected {expected}", str(path))


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


def as_stored(values: NDArray[Any], field: Field) -> NDArray[Any]:
    """The values in the order and the bytes in which they are written: C order, little endian."""
    return np.ascontiguousarray(values, dtype=np.dtype(field.dtype).newbyteorder("<"))


def _as_bytes(values: NDArray[np.void]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(values).view(np.uint8).reshape(-1, 16)
