"""CRC-32C as TFRecord files have it (reflected polynomial 0x82F63B78, RFC 3720), and its masked form."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

LONG = 1 << 16
"""Bytes from which on pieces are worth their while."""


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
    return slow_crc32c(data) if len(data) < LONG else long_crc32c(data)


def slow_crc32c(data: bytes | memoryview, value: int = 0xFFFFFFFF) -> int:
    """The same, byte by byte. value: the register before."""
    table = _table()
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


def long_crc32c(data: bytes | memoryview) -> int:
    """The same, many pieces at a time: the register is a linear function of itself and of the bytes.

    R(s, A + B) = Z(R(s, A)) ^ R(0, B), where Z passes over as many zeros as B has bytes.
    """
    lanes = 1 << (len(data).bit_length() // 2)
    length = len(data) // lanes
    table = np.array(_table(), np.uint32)
    columns = np.ascontiguousarray(np.frombuffer(data, np.uint8, lanes * length).reshape(lanes, length).T)
    registers = np.zeros(lanes, np.uint32)
    for column in columns:
        registers = table[(registers ^ column) & 0xFF] ^ registers >> 8
    one = np.array([table[(1 << bit) & 0xFF] ^ (1 << bit) >> 8 for bit in range(32)], np.uint32)
    zeros, rest = np.uint32(1) << np.arange(32, dtype=np.uint32), length  # columns of the identity
    while rest:
        zeros = _applied(one, zeros) if rest & 1 else zeros
        one, rest = _applied(one, one), rest >> 1
    while len(registers) > 1:
        registers = _applied(zeros, registers[::2]) ^ registers[1::2]
        zeros = _applied(zeros, zeros)
    begun = int(registers[0] ^ _applied(zeros, np.array([0xFFFFFFFF], np.uint32))[0])
    return slow_crc32c(memoryview(data)[lanes * length :], begun)


def _applied(matrix: NDArray[np.uint32], values: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """A linear function of 32 bits, whose columns are given, of each value."""
    result = np.zeros_like(values)
    for bit in range(32):
        result ^= np.where(values >> np.uint32(bit) & 1, matrix[bit], 0).astype(np.uint32)
    return result


def masked(checksum: int) -> int:
    """As it stands in a file: turned right by 15 bits, plus a constant (format of TensorFlow's records)."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
