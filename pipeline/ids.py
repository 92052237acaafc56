"""Set operations on row ids (V16 arrays) that stay fast at a million rows.

numpy compares void scalars byte by byte through a generic function. Here an id is seen as two big-endian 64-bit words:
almost always the first word alone orders two ids, so sorting and searching run on one integer column, and only ids that
share their first eight bytes are compared further. The order is that of the bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.stage import ID

Numbers = TypeVar("Numbers", bound=np.integer[Any])


def words(values: NDArray[np.void]) -> NDArray[np.uint64]:
    """The ids as numbers: (n, 2) uint64, first word first."""
    return _contiguous(values).view(">u8").astype(np.uint64).reshape(-1, 2)


def order(values: NDArray[np.void]) -> NDArray[np.int64]:
    """Indices (n,) that sort the ids by their bytes; equal ids keep their order."""
    if increasing(values):  # as the rows of a source and the index of a chain are
        return np.arange(len(values))
    first = _first_words(values)
    result = np.argsort(first, kind="stable")
    ranked = first[result]
    tied = np.zeros(len(ranked), dtype=bool)
    equal = ranked[1:] == ranked[:-1]
    tied[1:] |= equal
    tied[:-1] |= equal
    places = np.flatnonzero(tied)
    if len(places):
        members = result[places]
        pair = words(values[members])
        result[places] = members[np.lexsort((members, pair[:, 1], pair[:, 0]))]
    return result


def sort(values: NDArray[np.void]) -> NDArray[np.void]:
    """The ids in the order of their bytes."""
    return values[order(values)]


def unique(values: NDArray[np.void]) -> NDArray[np.void]:
    """The distinct ids, sorted."""
    ranked = sort(values)
    return ranked[_first_of_equal(ranked)]


def same(values: NDArray[np.void], others: NDArray[np.void]) -> NDArray[np.bool_]:
    """Where two arrays of as many ids are equal: (n,)."""
    one, other = _contiguous(values).view(np.uint64), _contiguous(others).view(np.uint64)
    found: NDArray[np.bool_] = (one[::2] == other[::2]) & (one[1::2] == other[1::2])
    return found


def increasing(values: NDArray[np.void]) -> bool:
    """Whether the ids are distinct and sorted, as far as their first words tell."""
    first = _first_words(values)
    return bool((first[1:] > first[:-1]).all())


def distinct(numbers: NDArray[Numbers]) -> NDArray[Numbers]:
    """The distinct numbers, ascending: `np.unique`, which would import numpy.ma for longer than many plans take."""
    ranked = np.sort(numbers, kind="stable")
    first = np.ones(len(ranked), dtype=bool)
    first[1:] = ranked[1:] != ranked[:-1]
    return ranked[first]


def lookup(ranked: NDArray[np.void], wanted: NDArray[np.void]) -> NDArray[np.int64]:
    """Position of each wanted id in the sorted array `ranked`, or -1; the first position where an id repeats."""
    if not len(ranked) or not len(wanted):
        return np.full(len(wanted), -1, dtype=np.int64)
    if len(ranked) == len(wanted) and increasing(ranked) and same(ranked, wanted).all():
        return np.arange(len(wanted))
    first = _first_words(ranked)
    if np.any(first[1:] == first[:-1]):
        return _lookup_tied(ranked, wanted)
    places = np.searchsorted(first, _first_words(wanted))
    places[places == len(first)] = 0
    places[~same(_contiguous(ranked)[places], wanted)] = -1
    return places


def isin(values: NDArray[np.void], others: NDArray[np.void]) -> NDArray[np.bool_]:
    """For each value whether it is among the others (in any order)."""
    return lookup(sort(others), values) >= 0


def hex(value: np.void | bytes) -> str:
    """The 32 hexadecimal digits of one id or digest."""
    return bytes(value).hex()  # type: ignore[arg-type]


def from_hex(text: str) -> bytes:
    """The 16 bytes behind 32 hexadecimal digits; ValueError names another text."""
    if len(text) != 32:
        raise ValueError(f"'{text}' is not an id: expected 32 hexadecimal digits, found {len(text)} characters")
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ValueError(f"'{text}' is not an id: expected 32 hexadecimal digits") from None


def from_bytes(values: Iterable[bytes]) -> NDArray[np.void]:
    """A V16 array of 16-byte strings."""
    parts = list(values)
    for part in parts:
        if len(part) != ID.itemsize:
            raise ValueError(f"an id has 16 bytes, found {len(part)} bytes: {part!r}")
    return np.frombuffer(b"".join(parts), dtype=ID)


def to_bytes(values: NDArray[np.void]) -> list[bytes]:
    """The ids as byte strings of 16 (dictionary keys)."""
    text = _contiguous(values).tobytes()
    return [text[start : start + 16] for start in range(0, len(text), 16)]


def expanded(parents: Sequence[NDArray[np.void]], index: NDArray[np.int64]) -> NDArray[np.void]:
    """Ids of an expand: H(parent ids, index), (n,) V16. parents: one array (n,) V16 each; index: (n,) draw numbers."""
    columns = [np.ascontiguousarray(one).tobytes() for one in parents]
    prefix = b"touchstone/expand" + len(columns).to_bytes(8, "little")
    parts = []
    for row, number in enumerate(index.tolist()):
        above = b"".join(column[16 * row : 16 * row + 16] for column in columns)
        parts.append(hashlib.sha256(prefix + above + number.to_bytes(8, "little")).digest()[:16])
    return from_bytes(parts)


def _contiguous(values: NDArray[Any]) -> NDArray[np.void]:
    if values.dtype != ID:
        raise TypeError(f"ids have dtype V16, found {values.dtype}")
    return np.ascontiguousarray(values)


def _first_words(values: NDArray[np.void]) -> NDArray[np.uint64]:
    return _contiguous(values).view(">u8")[::2].astype(np.uint64)


def _first_of_equal(ranked: NDArray[np.void]) -> NDArray[np.bool_]:
    """True at the first of each run of equal ids of a sorted array."""
    first = np.ones(len(ranked), dtype=bool)
    first[1:] = ~same(ranked[1:], ranked[:-1])
    return first


def _lookup_tied(ranked: NDArray[np.void], wanted: NDArray[np.void]) -> NDArray[np.int64]:
    """`lookup` where ids share their first word: both arrays are ranked together."""
    both = np.concatenate([ranked, wanted])
    placement = order(both)  # stable: an id of `ranked` stands before the same id of `wanted`
    starts = _first_of_equal(both[placement])
    leader = placement[np.flatnonzero(starts)][np.cumsum(starts) - 1]
    result = np.empty(len(both), dtype=np.int64)
    result[placement] = np.where(leader < len(ranked), leader, -1)
    return result[len(ranked) :]
