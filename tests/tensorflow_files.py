"""Frozen graphs and checkpoints of TensorFlow, written from the descriptions of their formats, for tests of readers."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stages.images.readers.crc32c import masked, slow_crc32c

Array = np.ndarray[Any, Any]
TYPES = {"f4": 1, "f8": 2, "i4": 3, "i8": 9, "f2": 19}


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def piece(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def shape(sides: tuple[int, ...]) -> bytes:
    return b"".join(piece(2, number(1, side)) for side in sides)


# Graphs


def tensor(array: Array, sides: tuple[int, ...] | None = None) -> bytes:
    """A TensorProto with the values as content."""
    kind = TYPES[array.dtype.str[1:]]
    return number(1, kind) + piece(2, shape(array.shape if sides is None else sides)) + piece(4, array.tobytes())


def listed(kind: int, sides: tuple[int, ...], values: bytes) -> bytes:
    """A TensorProto whose values are given as fields."""
    return number(1, kind) + piece(2, shape(sides)) + values


def node(name: str, operation: str = "Const", value: bytes | None = None) -> bytes:
    """A node of a graph; value: a TensorProto."""
    found = piece(1, name.encode()) + piece(2, operation.encode())
    found += piece(5, piece(1, b"dtype") + piece(2, number(6, 1)))
    if value is not None:
        found += piece(5, piece(1, b"value") + piece(2, piece(8, value)))
    return piece(1, found)


def graph(constants: Mapping[str, Array]) -> bytes:
    """A frozen graph with these constants, a reader of each, a placeholder, and constants that are no weights."""
    found = [node("input/image", "Placeholder")]
    for name, array in constants.items():
        found += [node(name, value=tensor(array)), node(f"{name}/read", "Identity")]
        found.append(node(f"{name}/shape", value=tensor(np.array(array.shape, np.int32))))
    return b"".join(found)


# Checkpoints


def block(entries: list[tuple[bytes, bytes]], kind: int = 0) -> bytes:
    """A block of a table, keys shortened by what they share with the one before; with its type and checksum."""
    found, before = b"", b""
    for key, value in entries:
        shared = next(
            (at for at, (a, b) in enumerate(zip(key, before, strict=False)) if a != b), min(len(key), len(before))
        )
        found += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    found += struct.pack("<II", 0, 1) + bytes([kind])
    return found + struct.pack("<I", masked(slow_crc32c(found)))


def entry(array: Array, shard: int, at: int, **change: Any) -> bytes:
    """A BundleEntryProto."""
    data = array.tobytes()
    given = {"kind": TYPES[array.dtype.str[1:]], "sides": array.shape, "offset": at, "size": len(data), **change}
    found = number(1, given["kind"]) + piece(2, shape(given["sides"])) + number(3, shard)
    found += number(4, given["offset"]) + number(5, given["size"])
    found += varint(6 << 3 | 5) + struct.pack("<I", given.get("crc", masked(slow_crc32c(data))))
    return found + given.get("more", b"")


def table(entries: list[tuple[bytes, bytes]], kind: int = 0, per_block: int = 3) -> bytes:
    """An index file of these entries."""
    whole, handles = b"", []
    for at in range(0, len(entries), per_block):
        part = entries[at : at + per_block]
        made = block(part, kind)
        handles.append((part[-1][0], varint(len(whole)) + varint(len(made) - 5)))
        whole += made
    handle = []
    for made in (block([]), block(handles)):
        handle.append(varint(len(whole)) + varint(len(made) - 5))
        whole += made
    return whole + b"".join(handle).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


HEADER = number(1, 1) + piece(3, number(1, 1))


def checkpoint(
    folder: Path, tensors: Mapping[str, Array], *, header: bytes = HEADER, kind: int = 0, **change: Any
) -> Path:
    """Write `model.ckpt.index` and its data; `change` replaces parts of the first entry. Returns the index."""
    entries, data = [(b"", header)], b""
    for at, name in enumerate(sorted(tensors)):
        entries.append((name.encode(), entry(tensors[name], 0, len(data), **(change if not at else {}))))
        data += tensors[name].tobytes()
    folder.joinpath("model.ckpt.data-00000-of-00001").write_bytes(data)
    path = folder / "model.ckpt.index"
    path.write_bytes(table(entries, kind))
    return path
