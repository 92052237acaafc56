"""Pictures of several sizes in the upper left of one canvas: of frames, `native_size` says how far each reaches.

The rest of a canvas is empty. Whoever takes it for a part of the picture measures the size of the video.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from pipeline.stage import Field, Schema

NATIVE = "native_size"
CANVAS = Field("int32", (2,), "pixels: width, height of the video")


def on_canvas(fields: Schema) -> bool:
    """Whether the `image` of these rows may be empty below and to the right."""
    return "image" in fields and fields.get(NATIVE) == CANVAS


def check(fields: Schema, stage: str) -> None:
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
