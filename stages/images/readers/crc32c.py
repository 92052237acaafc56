"""CRC-32C as TFRecord files have it (reflected polynomial 0x82F63B78, RFC 3720), and its masked form."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec


@cache
def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


@cache
def is_quick() -> bool:
    """Whether the library is installed: it is a thousand times as fast as the loop here."""
    return find_spec("crc32c") is not None


def crc32c(data: bytes | memoryview) -> int:
    """The plain checksum, 32 bits."""
    if is_quick():
        import crc32c as library

        return int(library.crc32c(data))
    return slow_crc32c(data)


def slow_crc32c(data: bytes | memoryview) -> int:
    """The same, byte by byte."""
    table, value = _table(), 0xFFFFFFFF
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


def masked(checksum: int) -> int:
    """As it stands in a file: turned right by 15 bits, plus a constant (format of TensorFlow's records)."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
