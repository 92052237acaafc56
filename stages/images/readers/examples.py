"""The protocol buffer `Example` of TensorFlow, as far as records of images need it; nothing is ever executed."""

from __future__ import annotations

from collections.abc import Iterator

Span = tuple[int, int]
"""Where something begins and ends."""


def _varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    """(value, next position); 64 bits at most."""
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise ValueError("a number in it does not end")


def _fields(data: memoryview, at: int, end: int) -> Iterator[tuple[int, int | Span]]:
    """(number, value) of a message: an integer, or the span of a piece of bytes; others are passed over."""
    while at < end:
        key, at = _varint(data, at, end)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at, end)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(data, at, end)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"a field has the wire type {wire}")
        if size > end - at:
            raise ValueError("a field reaches beyond its message")
        if wire == 2:
            yield number, (at, at + size)
        at += size


def _spans(data: memoryview, span: Span, number: int) -> Iterator[Span]:
    for found, value in _fields(data, *span):
        if found == number and isinstance(value, tuple):
            yield value


def features(data: memoryview) -> dict[str, Span]:
    """Name -> span of each feature; the last one of a name wins. Raises ValueError for what is no Example."""
    found: dict[str, Span] = {}
    for message in _spans(data, (0, len(data)), 1):
        for entry in _spans(data, message, 1):
            parts = {number: value for number, value in _fields(data, *entry) if isinstance(value, tuple)}
            if 1 in parts:
                found[bytes(data[slice(*parts[1])]).decode("utf-8", "replace")] = parts.get(2, (0, 0))
    return found


def integers(data: memoryview, feature: Span) -> list[int]:
    """Values of an int64 list, packed or not."""
    values: list[int] = []
    for items in _spans(data, feature, 3):
        for number, value in _fields(data, *items):
            if number != 1:
                continue
            if isinstance(value, int):
                values.append(value)
                continue
            at, end = value
            while at < end:
                one, at = _varint(data, at, end)
                values.append(one)
    return [value - (1 << 64) if value >> 63 else value for value in values]


def texts(data: memoryview, feature: Span) -> list[Span]:
    """Spans of the values of a bytes list."""
    return [value for items in _spans(data, feature, 1) for value in _spans(data, items, 1)]
