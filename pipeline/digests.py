"""Digests of plain data, and ranks of ids that they key.

Every digest is SHA-256 over a tagged, length-prefixed encoding; 16 bytes are kept.
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.ids import words

BLOCK = 1 << 16
"""Ids that are ranked at once: their numbers stay in the processor's cache."""


def encode(value: Any) -> bytes:
    """Canonical bytes of plain data. int 1, float 1.0, True and "1" differ; -0.0 is 0.0; NaN is refused."""
    known = _OF_TYPE.get(type(value))
    if known is not None:
        return known(value)
    for kind, encoded in _OF_KIND:
        if isinstance(value, kind):
            return encoded(value)
    raise TypeError(f"{type(value).__name__} has no canonical form")


def _number(value: float) -> bytes:
    if math.isnan(value):
        raise ValueError("NaN has no canonical form")
    return _prefixed(b"f", repr(float(value) if value else 0.0).encode())


def _mapping(value: Mapping[Any, Any]) -> bytes:
    items = [(_text(key) if type(key) is str else encode(key), encode(inner)) for key, inner in value.items()]
    items.sort()
    return _prefixed(b"d", b"".join([key + inner for key, inner in items]))


def _set(value: Iterable[Any]) -> bytes:
    return _prefixed(b"e", b"".join(sorted([encode(item) for item in value])))


def _list(value: Iterable[Any]) -> bytes:
    return _prefixed(b"l", b"".join([encode(item) for item in value]))


@lru_cache(4096)  # recipes name the same modules over and over
def _text(value: str) -> bytes:
    return _prefixed(b"s", unicodedata.normalize("NFC", value).encode("utf-8", "surrogateescape"))


def _prefixed(tag: bytes, content: bytes) -> bytes:
    return tag + len(content).to_bytes(8, "little") + content


_OF_KIND: tuple[tuple[type, Callable[[Any], bytes]], ...] = (
    (type(None), lambda value: b"n"),
    (bool, lambda value: b"b1" if value else b"b0"),
    (int, lambda value: _prefixed(b"i", str(int(value)).encode())),
    (float, _number),
    (str, _text),
    (bytes, lambda value: _prefixed(b"y", value)),
    (Mapping, _mapping),
    (set, _set),
    (frozenset, _set),
    (list, _list),
    (tuple, _list),
)
"""Kinds of plain data, in the order in which a value of several kinds is asked for them."""

_OF_TYPE: dict[type, Callable[[Any], bytes]] = {**dict(_OF_KIND), dict: _mapping}
"""The same without asking: a recipe has hundreds of texts."""


def digest(kind: str, *parts: Any) -> bytes:
    """First 16 bytes of SHA-256 over a named kind and its parts."""
    return hashlib.sha256(encode((f"touchstone/{kind}", *parts))).digest()[:16]


def hash_rank(values: NDArray[np.void], purpose: str, seed: int) -> NDArray[np.uint64]:
    """A 64-bit number per id, uniform and independent between purposes and seeds.

    Ids are digests already; two rounds of the finalizer of SplitMix64 (Steele et al. 2014) keyed by a digest separate
    the purposes, at numpy speed.
    """
    key = digest("rank", purpose, seed)
    low, high = (np.uint64(int.from_bytes(part, "little")) for part in (key[:8], key[8:]))
    ranks = np.empty(len(values), dtype=np.uint64)
    for start in range(0, len(values), BLOCK):
        pair = words(values[start : start + BLOCK])
        ranks[start : start + BLOCK] = _mix(_mix(pair[:, 0] ^ low) ^ pair[:, 1] ^ high)
    return ranks


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
