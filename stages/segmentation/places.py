"""Classes by place alone: a grid, or ellipses around the five landmarks of a face; both are stand-ins for a parser."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GRID = tuple(f"{row} {column}" for row in ("top", "middle", "bottom") for column in ("left", "center", "right"))

REGIONS = ("background", "skin", "brows", "eye", "nose", "mouth")

ELLIPSES: tuple[tuple[str, str, float, float, float, float], ...] = (
    ("skin", "face", 0.0, 0.0, 1.25, 1.7),
    ("brows", "left eye", 0.0, -0.4, 0.4, 0.12),
    ("brows", "right eye", 0.0, -0.4, 0.4, 0.12),
    ("eye", "left eye", 0.0, 0.0, 0.32, 0.18),
    ("eye", "right eye", 0.0, 0.0, 0.32, 0.18),
    ("nose", "nose", 0.0, -0.15, 0.27, 0.42),
    ("mouth", "mouth", 0.0, 0.0, 0.5, 0.22),
)
"""Class, what its middle is measured from, its distance along the eyes and down, half its width and height, all in
distances of the eyes; later ones lie over earlier ones."""


def grid(height: int, width: int) -> NDArray[np.uint8]:
    """(height, width) numbers in `GRID`: three by three parts, as equal as whole pixels allow."""
    rows, columns = (np.arange(side) * 3 // side for side in (height, width))
    return (3 * rows[:, None] + columns).astype(np.uint8)


def regions(points: NDArray[np.floating], height: int, width: int) -> NDArray[np.uint8]:  # type: ignore[type-arg]
    """(height, width) numbers in `REGIONS`; points (5, 2): x, y of eyes, nose and corners of the mouth, in pixels.

    Raises ValueError where there is no face, or its eyes are in one place.
    """
    five = np.asarray(points, np.float64)
    if not np.isfinite(five).all():
        raise ValueError("has no face, so that nothing of it can be told apart")
    left, right, nose, mouth = five[0], five[1], five[2], five[3:5].mean(axis=0)
    across = right - left
    distance = float(np.hypot(*across))
    if not distance:
        raise ValueError("has both eyes of its face in one place")
    along = across / distance
    down = np.array([-along[1], along[0]])
    anchors = {"left eye": left, "right eye": right, "nose": nose, "mouth": mouth, "face": (left + right + mouth) / 3}
    places = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1)
    found = np.zeros((height, width), np.uint8)
    for name, anchor, aside, below, wide, high in ELLIPSES:
        offset = (places - anchors[anchor]) / distance - aside * along - below * down
        inside = ((offset @ along) / wide) ** 2 + ((offset @ down) / high) ** 2 <= 1
        found[inside] = REGIONS.index(name)
    return found


def resampled(parts: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """(height, width): of each new pixel the class at its middle."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in ((height, parts.shape[0]), (width, parts.shape[1]))
    )
    return parts[rows[:, None], columns]
