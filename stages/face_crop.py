"""Stage `face_crop`: the square around a face as published data sets cut it out, from its landmarks.

`celebahq` and `ffhq` are the turned squares of Karras et al. 2018 and 2019, `chai2020` the first one as the released
program of Chai et al. 2020 draws it, and `faceforensics` the upright square of Roessler et al. 2019 around the
detector's box. Both classes must be cut out in one way. The input pairs pictures with their landmarks: `of: {of:
frames, pair: points}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from pipeline.stage import (
    CONTENT,
    PICTURE,
    Batch,
    Context,
    Field,
    Input,
    Kind,
    RowError,
    Schema,
    Stage,
    StageConfig,
    setting,
)
from stages.faces import boxes, oriented_square
from stages.images.decoding import resized
from stages.landmarks import pixels_of


class FaceCropConfig(StageConfig):
    """How faces are cut out."""

    form: Literal["celebahq", "ffhq", "chai2020", "faceforensics"] = setting(description="whose crop")
    size: int = setting(description="side of the result in pixels", ge=8, le=4096)
    pad: Literal["reflect_blur", "none"] = setting(
        "reflect_blur", description="what lies outside of the picture: reflected, blurred and faded; none: black"
    )
    scale: float = setting(1.3, description="of faceforensics: side of the square by that of the box", ge=1, le=4)
    max_pixels: int = setting(2**26, description="of a picture that is decoded here", ge=1)

    @model_validator(mode="after")
    def _no_idle_key(self) -> FaceCropConfig:
        idle = "pad" if self.form == "faceforensics" else "scale"
        if idle in self.chosen():
            raise ValueError(f"{idle} has no effect on the form {self.form}; remove it")
        return self


class FaceCrop(Stage):
    """Pictures and landmarks in; `image` (size, size, 3) uint8 RGB and `square` (4, 2) float32 out."""

    name: ClassVar[str] = "face_crop"
    kind: ClassVar[Kind] = Kind.MAP
    Config: ClassVar[type[StageConfig]] = FaceCropConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "of": Input("rows", description="pictures paired with their landmarks: {of: frames, pair: points}")
    }
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pillow", "scipy")
    block_rows: ClassVar[int] = 32

    def schema(self, config: FaceCropConfig, inputs: Mapping[str, Schema]) -> Schema:
        """Raises ValueError where the input is no pair of pictures and landmarks."""
        pictures, landmarks = inputs["of"], inputs.get("pair", {})
        if ("image" not in pictures and CONTENT not in pictures) or "points" not in landmarks:
            raise ValueError("face_crop needs pictures paired with landmarks; write of: {of: frames, pair: points}")
        return {
            "image": Field("uint8", (config.size, config.size, 3), "RGB, 0 to 255", PICTURE),
            "square": Field("float32", (4, 2), "pixels: x, y of its corners in the picture"),
        }

    def compute(self, config: FaceCropConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        """A picture without a face, or whose face cannot be cut out, fails."""
        images = np.zeros((len(batch), config.size, config.size, 3), np.uint8)
        squares = np.zeros((len(batch), 4, 2), np.float32)
        landmarks = batch.inputs[1]
        for row in range(len(batch)):
            try:
                if not np.isfinite(landmarks["points"][row]).all():
                    raise ValueError("has no face, so that nothing can be cut out")
                pixels = pixels_of(batch, row, config.max_pixels)
                if config.form == "faceforensics":
                    images[row], squares[row] = _upright(pixels, landmarks["box"][row], config)
                else:
                    form = oriented_square.FORMS[config.form]
                    square = oriented_square.square_of(landmarks["points"][row], form)
                    squares[row] = square
                    images[row] = oriented_square.crop(pixels, square, form, config.size, config.pad == "reflect_blur")
            except (RowError, ValueError) as error:
                ctx.fail(row, str(error))
        return {"image": images, "square": squares}


def _upright(
    pixels: NDArray[np.uint8], box: NDArray[np.float32], config: FaceCropConfig
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Pixels and corners of the upright square around a box."""
    height, width, _ = pixels.shape
    left, top, right, bottom = (int(value) for value in box)
    x, y, side = boxes.square_box((left, top, right, bottom), width, height, config.scale)
    if side < 1:
        raise ValueError("has its face outside of the picture")
    corners = np.array([[x, y], [x, y + side], [x + side, y + side], [x + side, y]], np.float32)
    return resized(pixels[y : y + side, x : x + side], config.size), corners
