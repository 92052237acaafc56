"""Raw pixels as the bytes of an image file, so that they have an id as files have."""

from __future__ import annotations


def netpbm(pixels: bytes, width: int, height: int, gray: bool) -> bytes:
    """Binary PPM, or PGM where it is gray; `pixels` row by row, RGB or one byte each."""
    return f"{'P5' if gray else 'P6'}\n{width} {height}\n255\n".encode() + pixels
