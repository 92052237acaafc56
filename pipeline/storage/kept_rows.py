"""Finished rows of a task that goes on: a process that is killed loses what it computed since the last of these files.

    <root>/scratch/<chain, 16 hex>/<digest of the ids, 16 hex>.rows

They are no shards: no plan and no reader sees them, only a task of the same chain that starts on rows which are in
them. A file says whose rows it holds and ends in a crc32c of all its bytes. It is not flushed to the disk (what a
killed process has written is safe with the kernel), and one that is torn, of another chain or of another schema is
passed over: all of them may be deleted at any time, which costs the work and nothing else.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic
from pipeline.stage import ID, Schema
from pipeline.storage.sealed import FORMAT_VERSION, ZARR_BYTES, parse
from pipeline.storage.shards import DIGEST_FIELD, as_stored, schema_as_data, shard_name

MAGIC = f"touchstone rows {FORMAT_VERSION}\n".encode()
SUFFIX = ".rows"


@dataclass(frozen=True)
class KeptRows:
    """Some rows with their values.

    ids      (n,) V16
    parents  (n,) V16 of `shards.parent_digests`; None where the rows come from nothing of the store
    arrays   one per field of the schema, (n, *shape)
    """

    ids: NDArray[np.void]
    parents: NDArray[np.void] | None
    arrays: Mapping[str, NDArray[Any]]


def folder(root: Path, chain: bytes) -> Path:
    """Where the finished rows of unfinished tasks of a chain lie; it need not exist."""
    return root / "scratch" / chain[:8].hex()


def keep(root: Path, chain: bytes, schema: Schema, rows: KeptRows) -> Path | None:
    """Write the rows to a file of their own; None where the system does not take it, which costs no more than that."""
    import google_crc32c

    header = {"chain": chain.hex(), "rows": len(rows.ids), "schema": schema_as_data(schema)}
    header["parents"] = rows.parents is not None
    first = MAGIC + json.dumps(header, sort_keys=True).encode() + b"\n"
    parts = [np.frombuffer(first, np.uint8), _plain(rows.ids)]
    parts += [] if rows.parents is None else [_plain(rows.parents)]
    parts += [_plain(as_stored(rows.arrays[name], schema[name])) for name in sorted(schema)]
    path = folder(root, chain) / f"{shard_name(rows.ids)}{SUFFIX}"
    check = 0
    try:
        with atomic.replacing(path, durable=False) as file:
            for part in parts:
                check = google_crc32c.extend(check, part)
                file.write(part.data)
            file.write(check.to_bytes(4, "little"))
    except OSError:
        return None
    return path


def found(root: Path, chain: bytes) -> Iterator[tuple[Path, NDArray[np.void]]]:
    """The files of a chain and the ids that they name, sorted by file; their values are not looked at."""
    for path in sorted(folder(root, chain).glob(f"*{SUFFIX}")):
        with suppress(OSError, ValueError), path.open("rb") as file:
            yield path, _ids(file, _header(file, chain))


def read(path: Path, chain: bytes, schema: Schema) -> KeptRows | None:
    """The rows of a file; None if it is gone, damaged, or of another chain or schema."""
    import google_crc32c

    try:
        data = path.read_bytes()
        with path.open("rb") as file:
            header = _header(file, chain)
            start = file.tell()
        wanted = {"chain": chain.hex(), "rows": header["rows"], "schema": schema_as_data(schema)}
        body = np.frombuffer(data, np.uint8)[:-4]
        if header != {**wanted, "parents": bool(header.get("parents"))} or google_crc32c.value(body) != _last(data):
            return None
        own = {"id": DIGEST_FIELD, **({"parents": DIGEST_FIELD} if header["parents"] else {})}
        values = {}
        for name, field in (*own.items(), *sorted(schema.items())):
            dtype = np.dtype(field.dtype).newbyteorder("<")
            shape = (header["rows"], *field.shape)
            values[name] = np.ndarray(shape, dtype, body.data, start)
            start += values[name].nbytes
    except (OSError, ValueError):
        return None
    ids = values.pop("id").reshape(-1).view(ID)
    parents = values.pop("parents").reshape(-1).view(ID) if header["parents"] else None
    return KeptRows(ids, parents, values) if start == len(body) else None


def forget(root: Path, chain: bytes) -> None:
    """Remove all files of a chain; tasks that go on lose what they would have kept."""
    shutil.rmtree(folder(root, chain), ignore_errors=True)


def _header(file: BinaryIO, chain: bytes) -> dict[str, Any]:
    """What a file says of itself; ValueError if it is none of this chain."""
    header = parse(file.readline(ZARR_BYTES)) if file.read(len(MAGIC)) == MAGIC else None
    if not isinstance(header, dict) or header.get("chain") != chain.hex() or type(header.get("rows")) is not int:
        raise ValueError("it is of another chain")
    return header


def _ids(file: BinaryIO, header: Mapping[str, Any]) -> NDArray[np.void]:
    return np.frombuffer(file.read(header["rows"] * ID.itemsize), dtype=ID, count=header["rows"])


def _plain(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)


def _last(data: bytes) -> int:
    return int.from_bytes(data[-4:], "little")
