"""Protocol buffers as data: fields of a message by number, without any schema. Nothing is executed or copied."""

from __future__ import annotations

from collections.abc import Iterator

Span = tuple[int, int]
"""Where something begins and ends."""

VARINT, EIGHT_BYTES, PIECE, FOUR_BYTES = 0, 1, 2, 5
"""Types of fields on the wire."""


def varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    """(value, next position); 64 bits at most. Raises ValueError."""
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise ValueError("a number in it does not end")


def fields(data: memoryview, span: Span) -> Iterator[tuple[int, int, Span]]:
    """(number, type, value) of a message; a value is (integer, 0) of type VARINT, else the span of its bytes.

    Raises ValueError for what is no message.
    """
    at, end = span
    while at < end:
        key, at = varint(data, at, end)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, at = varint(data, at, end)
            yield number, wire, (value, 0)
            continue
        if wire == PIECE:
            size, at = varint(data, at, end)
        elif wire in (EIGHT_BYTES, FOUR_BYTES):
            size = 8 if wire == EIGHT_BYTES else 4
        else:
            raise ValueError(f"a field has the wire type {wire}")
        if size > end - at:
            raise ValueError("a field reaches beyond its message")
        yield number, wire, (at, at + size)
        at += size


def spans(data: memoryview, span: Span, number: int) -> Iterator[Span]:
    """Pieces of bytes of one number."""
    for found, wire, value in fields(data, span):
        if found == number and wire == PIECE:
            yield value


def signed(value: int) -> int:
    """A 64-bit integer as it was written."""
    return value - (1 << 64) if value >> 63 else value
