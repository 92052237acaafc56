"""The field `image`, which every stage that reads pixels expects of its input."""

from __future__ import annotations

from pipeline.stage import Schema
from stages.images.canvas import on_canvas
from stages.training.alike import check_alike

SMALLEST = 8
"""Pixels per side that a spectrum needs; below, the Durall conventions leave almost no ring."""


def image_size(fields: Schema, stage: str, smallest: int = 1) -> tuple[int, int]:
    """Height and width of the field `image`, (H, W, 3) uint8; ValueError if there is none or it is too small."""
    check_alike(fields, "image")
    image = fields.get("image")
    if image is None or image.dtype != "uint8" or len(image.shape) != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {image.shape}" if image else ", ".join(sorted(fields)) or "nothing"
        raise ValueError(
            f"{stage} needs a field 'image', uint8 (H, W, 3), of one size in all rows, found {found}; put equalize "
            "before it"
        )
    if on_canvas(fields):
        raise ValueError(f"{stage} would take the empty part of a canvas for a picture; put equalize before it")
    height, width, _ = image.shape
    if min(height, width) < smallest:
        raise ValueError(f"{stage} needs images of {smallest} px per side or more, found {height} x {width}")
    return height, width
