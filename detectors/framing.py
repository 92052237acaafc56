"""Sides of pictures after resizing, and where a crop lies: whole numbers as torchvision rounds them.

`preprocessing` applies them to stored rows on the device, `published_preprocessing` to pictures of files by Pillow or
OpenCV, as the published programs do.
"""

from __future__ import annotations

from typing import Literal


def resized_sides(height: int, width: int, size: int, which: Literal["shorter", "both"]) -> tuple[int, int]:
    """(height, width) where both sides are `size`, or the shorter one and the other in proportion, rounded down."""
    if which == "both":
        return size, size
    return (size, int(size * width / height)) if height <= width else (int(size * height / width), size)


def middle(side: int, size: int) -> tuple[tuple[int, int], int]:
    """(what is added before and behind `side` so that it is not below `size`, where the middle of `size` begins)."""
    missing = max(0, size - side)
    return (missing // 2, -(-missing // 2)), round((side + missing - size) / 2)
