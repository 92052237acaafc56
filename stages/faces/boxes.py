"""Boxes around faces: the square that FaceForensics cuts out, squares of a detector, and which of them overlap."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]
"""(n, 4): left, top, right, bottom in pixels."""


def square_box(rect: tuple[int, int, int, int], width: int, height: int, scale: float = 1.3) -> tuple[int, int, int]:
    """(left, top, side) around a detector's rectangle (Roessler et al. 2019, their released program).

    The side is `scale` times the longer one; the square is cut off at the left and top, then shrunk to fit the picture.
    """
    left, top, right, bottom = rect
    side = int(max(right - left, bottom - top) * scale)
    x, y = max((left + right) // 2 - side // 2, 0), max((top + bottom) // 2 - side // 2, 0)
    return x, y, min(width - x, height - y, side)


def squared(boxes: Boxes) -> Boxes:
    """Boxes made square about their centers, as long as their longer sides."""
    sides = boxes[:, 2:] - boxes[:, :2]
    longer = sides.max(axis=1, keepdims=True)
    corner = boxes[:, :2] + sides * 0.5 - longer * 0.5
    return np.concatenate([corner, corner + longer], axis=1)


def suppressed(boxes: Boxes, scores: NDArray[Any], most: float, smaller: bool = False) -> NDArray[np.int64]:
    """Positions of boxes that overlap no better one, best first.

    most: overlap that is still kept, as a part of the union; with `smaller` as a part of the smaller box, where pixels
    at both ends count.
    """
    end = 1.0 if smaller else 0.0
    areas = (boxes[:, 2] - boxes[:, 0] + end) * (boxes[:, 3] - boxes[:, 1] + end)
    waiting, kept = np.argsort(-scores, kind="stable"), []
    while len(waiting):
        one, rest = waiting[0], waiting[1:]
        kept.append(int(one))
        low, high = np.maximum(boxes[one, :2], boxes[rest, :2]), np.minimum(boxes[one, 2:], boxes[rest, 2:])
        common = np.maximum(high - low + end, 0).prod(axis=1)
        whole = np.minimum(areas[one], areas[rest]) if smaller else areas[one] + areas[rest] - common
        waiting = rest[common <= most * whole]
    return np.array(kept, np.int64)
