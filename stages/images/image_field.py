"""The field `image`, which every stage that reads pixels expects of its input.

Pictures of several sizes lie in the upper left of one canvas; `native_size` beside them says how far each reaches. The
rest is empty, and whoever takes it for a part of the picture measures the size of the video.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from pipeline.stage import Field, Schema
from stages.training.alike import check_alike

NATIVE = "native_size"
CANVAS = Field("int32", (2,), "pixels: width, height of the video")

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


def on_canvas(fields: Schema) -> bool:
    """Whether the `image` of these rows may be empty below and to the right."""
    return "image" in fields and fields.get(NATIVE) == CANVAS


def check_canvas(fields: Schema, stage: str) -> None:
    """Raise ValueError where a `native_size` beside the images is not that of a canvas, but of files."""
    if "image" in fields and NATIVE in fields and not on_canvas(fields):
        raise ValueError(
            f"{stage} takes {NATIVE} beside `image` for the filled part of a canvas, here it is the size of a file; "
            "leave the node of the files out of the view"
        )


def filled(image: NDArray[Any], size: NDArray[Any]) -> NDArray[Any]:
    """The picture on its canvas, (H, W, 3); size: its width and height."""
    width, height = size.tolist()
    return image[:height, :width]
