"""Tensors of a TensorFlow checkpoint of format 2 (`.index` and `.data-*`), as data.

The index is a sorted table (LevelDB's `table_format.md`): blocks of entries whose keys are shortened by what they share
with the key before, each with a type of compression and a checksum, and a footer that says where the block of blocks
is. Its values are messages of `tensor_bundle.proto`: under the empty key the header (1 shards, 2 byte order), under a
tensor's name 1 type, 2 shape, 3 shard, 4 offset, 5 size, 6 checksum, 7 slices. The data are plain bytes, little endian.
Checksums of everything read are compared, so that an index vouches for the data beside it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.images.readers.crc32c import crc32c, masked
from stages.sentences import shown
from stages.weights.pickle_machine import Budget
from stages.weights.protobuf import FOUR_BYTES, PIECE, VARINT, fields, signed, varint
from stages.weights.tensorflow_graph import FLOATS, NAME_LENGTH, shape_of
from stages.weights.weights_file import WeightsError

MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
FOOTER, TRAILER = 48, 5
SUFFIX = ".index"
LARGEST_INDEX = 64 << 20
MOST_SHARDS = 10_000
ENTRY = 500  # bytes charged for an entry
COMPRESSIONS = {1: "snappy", 2: "zlib", 4: "zstd"}


def is_index(path: Path) -> bool:
    """Whether a file ends as an index does; raises OSError."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - len(MAGIC), 0))
        return size >= FOOTER and file.read() == MAGIC


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Name -> values of each tensor of floating-point numbers; `path` is the index.

    Raises WeightsError, without a path, and OSError where the data beside it cannot be read.
    """
    size = path.stat().st_size
    if size > LARGEST_INDEX:
        raise WeightsError(f"its index has {size} bytes; one of more than {LARGEST_INDEX} is none of weights")
    index = memoryview(path.read_bytes())
    budget = Budget(len(index))
    try:
        entries = list(_table(index, budget))
        shards = _shards(index, path, entries)
        budget = Budget(len(index) + sum(one.stat().st_size for one in shards))
        found = {}
        for name, value in entries[1:]:
            array = _tensor(index, name, value, shards, budget)
            if array is not None:
                found[name] = array
        return found
    except WeightsError:
        raise
    except ValueError as error:
        raise WeightsError(f"its index is damaged, download it again: {error}") from error


def _table(index: memoryview, budget: Budget) -> Iterator[tuple[str, tuple[int, int]]]:
    """(key, span of the value) in order."""
    at = len(index) - FOOTER
    _, at = _handle(index, at)  # of the index of filters, which has none
    blocks, _ = _handle(index, at)
    before: bytes | None = None
    for _, handle in _block(index, *blocks, budget):
        block, _ = _handle(index, handle[0])
        for key, value in _block(index, *block, budget):
            if before is not None and key <= before:
                raise WeightsError(f"its index has the names {shown(before)} and {shown(key)} out of order")
            before = key
            if len(key) > NAME_LENGTH:
                raise WeightsError(f"its index has a name of {len(key)} bytes; expected {NAME_LENGTH} at most")
            yield key.decode("utf-8", "replace"), value


def _handle(index: memoryview, at: int) -> tuple[tuple[int, int], int]:
    """(offset, size) of a block, and the next position."""
    offset, at = varint(index, at, len(index))
    size, at = varint(index, at, len(index))
    return (offset, size), at


def _block(index: memoryview, offset: int, size: int, budget: Budget) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """(key, span of the value) of a block."""
    end = offset + size
    if end + TRAILER > len(index) - FOOTER or size < 4:
        raise ValueError(f"a block reaches from byte {offset} to {end}")
    kind = index[end]
    if kind:
        raise WeightsError(
            f"its index is packed ({COMPRESSIONS.get(kind, f'type {kind}')}), which is not read; save it plain"
        )
    _check(index[offset : end + 1], int.from_bytes(index[end + 1 : end + TRAILER], "little"), "a block of its index")
    restarts = int.from_bytes(index[end - 4 : end], "little")
    end -= 4 * restarts + 4
    if end < offset:
        raise ValueError(f"a block has {restarts} places to start at, more than it has room for")
    key = b""
    while offset < end:
        shared, offset = varint(index, offset, end)
        own, offset = varint(index, offset, end)
        length, offset = varint(index, offset, end)
        if shared > len(key) or own + length > end - offset:
            raise ValueError("an entry reaches beyond its block")
        budget.spend(ENTRY + shared + own)
        key = key[:shared] + bytes(index[offset : offset + own])
        yield key, (offset + own, offset + own + length)
        offset += own + length


def _check(data: memoryview, wanted: int, what: str) -> None:
    if masked(crc32c(data)) != wanted:
        raise WeightsError(f"the checksum of {what} is wrong; download the files again")


def _shards(index: memoryview, path: Path, entries: list[tuple[str, tuple[int, int]]]) -> list[Path]:
    """Files of data beside the index, from the header."""
    if not entries or entries[0][0]:
        raise WeightsError("its index has no header; expected a TensorFlow checkpoint of format 2")
    numbers = {1: 0, 2: 0}
    for number, wire, (value, _) in fields(index, entries[0][1]):
        if number == 1 and wire != VARINT:
            raise WeightsError("it is a TensorFlow checkpoint of format 1; save it again in format 2")
        if number in numbers and wire == VARINT:
            numbers[number] = value
    if numbers[2]:
        raise WeightsError("its numbers are big endian, which is not read")
    if not 1 <= numbers[1] <= MOST_SHARDS:
        raise WeightsError(f"its index names {numbers[1]} files of data; expected 1 to {MOST_SHARDS}")
    prefix = path.name.removesuffix(SUFFIX)
    found = [path.with_name(f"{prefix}.data-{number:05d}-of-{numbers[1]:05d}") for number in range(numbers[1])]
    for one in found:
        if not one.is_file():
            raise WeightsError(f"its data {shown(one.name)} are missing; put the file beside the index")
    return found


def _tensor(
    index: memoryview, name: str, value: tuple[int, int], shards: list[Path], budget: Budget
) -> NDArray[Any] | None:
    """Values of an entry; None: of another type."""
    numbers, checksum = {1: 0, 3: 0, 4: 0, 5: 0}, 0
    shape: tuple[int, ...] = ()
    for number, wire, found in fields(index, value):
        if number in numbers and wire == VARINT:
            numbers[number] = signed(found[0])
        elif number == 2 and wire == PIECE:
            shape = shape_of(index, found)
        elif number == 6 and wire == FOUR_BYTES:
            checksum = int.from_bytes(index[slice(*found)], "little")
        elif number == 7:
            raise WeightsError(f"its tensor {shown(name)} is stored in slices, which are not read; save it whole")
    kind, shard, offset, size = numbers[1], numbers[3], numbers[4], numbers[5]
    if kind not in FLOATS:
        return None
    dtype, where = np.dtype(FLOATS[kind]), f"its tensor {shown(name)} of shape {shape}"
    if size != math.prod(shape) * dtype.itemsize:
        raise WeightsError(f"{where} needs {math.prod(shape) * dtype.itemsize} bytes and has {size}")
    if not 0 <= shard < len(shards):
        raise WeightsError(f"{where} lies in file {shard} of {len(shards)}")
    there = shards[shard].stat().st_size
    if offset < 0 or offset + size > there:
        raise WeightsError(
            f"{where} ends at byte {offset + size} of {shards[shard].name}, which has {there}; it is cut off"
        )
    budget.spend(size)
    with shards[shard].open("rb") as file:
        file.seek(offset)
        data = memoryview(file.read(size))
    if len(data) != size:
        raise WeightsError(f"{where} cannot be read to its end; the file changes")
    _check(data, checksum, f"its tensor {shown(name)}")
    return np.frombuffer(data, dtype).reshape(shape)
