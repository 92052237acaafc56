"""Give images of all classes the same last steps, so that as little as possible but the generator differs.

Decode, color mode, crop, Lanczos, uint8: one chain for real and generated images, without profiles and metadata. Codec,
size and resampling differences alone let a detector reach perfect scores on published corpora (Durall et al. 2019 use
178 x 218 reals against 128 x 128 fakes). What this stage cannot make equal is recorded: `reduction` is the factor by
which a row was reduced; an image that already has the wanted size is not resampled (1.0), which is true of the native
output of a generator and must be declared beside reals that were reduced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

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
    row_setting,
    setting,
)

LOSSY = {"jpeg": "jpg", "webp": "webp", "avif": "avif"}
"""Lossy codecs and their names in `PIL.features`."""


class Box(StageConfig):
    """A square of the image, in pixels after EXIF rotation."""

    left: int = setting(description="first column", ge=0)
    top: int = setting(description="first row", ge=0)
    side: int = setting(description="width and height", ge=1)


class EqualizeConfig(StageConfig):
    """How a photograph becomes a picture of the common size."""

    size: int = setting(description="width and height of the result, pixels", ge=8, le=4096)
    color: Literal["rgb", "gray"] = setting("rgb", description="gray: luma, repeated in three channels")
    crop: Literal["center", "none"] | Box = setting(
        "center", description="center: the largest centered square; none: the image must be square; or a box"
    )
    resample: Literal["lanczos"] = setting("lanczos", description="Pillow's antialiased Lanczos filter")
    upsample: bool = setting(False, description="allow squares smaller than `size`; they fail otherwise")
    exif_rotate: bool = setting(True, description="put files upright as their EXIF orientation says")
    max_pixels: int = row_setting(
        100_000_000, description="files whose header claims more fail before anything is allocated", ge=1
    )


class Equalize(Stage):
    """Image files or arrays in; `image` (size, size, 3) uint8 RGB and `reduction` float32 out."""

    name: ClassVar[str] = "equalize"
    kind: ClassVar[Kind] = Kind.MAP
    Config: ClassVar[type[StageConfig]] = EqualizeConfig
    inputs: ClassVar[Mapping[str, Input]] = {"of": Input("rows", description="image files, or rows with an `image`")}
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pillow")

    def schema(self, config: EqualizeConfig, inputs: Mapping[str, Schema]) -> Schema:
        """Raises ValueError where the input has neither files nor images, or its images cannot be cropped so."""
        parent = inputs["of"]
        if "image" in parent:
            _check_native(config, parent["image"])
        elif CONTENT not in parent:
            found = ", ".join(sorted(parent)) or "nothing"
            raise ValueError(f"equalize needs image files or an `image` field, found {found}")
        return {
            "image": Field("uint8", (config.size, config.size, 3), "RGB, 0 to 255", PICTURE),
            "reduction": Field("float32", (), "side of the square before resampling / size"),
        }

    def environment(self, config: EqualizeConfig) -> Mapping[str, str]:
        """The decoders of lossy codecs; PNG is exact everywhere."""
        from PIL import features

        return {f"lib{name}": str(features.version(key)) for name, key in LOSSY.items()}

    def compute(self, config: EqualizeConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        """A row that cannot be read, decoded or cropped fails with one sentence."""
        from stages.images.decoding import decode

        images = np.zeros((len(batch), config.size, config.size, 3), np.uint8)
        reduction = np.zeros(len(batch), np.float32)
        native = batch.inputs[0].get("image") if batch.inputs else None
        for row in range(len(batch)):
            try:
                if native is not None:
                    pixels = native[row]
                else:
                    pixels = decode(batch.read(row), config.max_pixels, config.exif_rotate)
                images[row], reduction[row] = equalize(pixels, config)
            except (RowError, ValueError) as error:
                ctx.fail(row, str(error))
        return {"image": images, "reduction": reduction}


def equalize(pixels: NDArray[np.uint8], config: EqualizeConfig) -> tuple[NDArray[np.uint8], float]:
    """Color mode, crop and Lanczos of one image, (H, W, 3) uint8 RGB; raises ValueError if the crop does not fit."""
    from stages.images.decoding import gray, lanczos

    left, top, side = _square(config, pixels.shape[1], pixels.shape[0])
    pixels = pixels[top : top + side, left : left + side]
    if config.color == "gray":
        pixels = gray(np.ascontiguousarray(pixels))
    return lanczos(pixels, config.size), side / config.size


def _square(config: EqualizeConfig, width: int, height: int) -> tuple[int, int, int]:
    """(left, top, side) of the square that is kept."""
    if isinstance(config.crop, Box):
        left, top, side = config.crop.left, config.crop.top, config.crop.side
        if left + side > width or top + side > height:
            raise ValueError(
                f"is {width} x {height} pixels, too small for the crop {left}, {top}, {side} (left, top, side)"
            )
    elif config.crop == "none":
        if width != height:
            raise ValueError(f"is {width} x {height} pixels, expected a square; use crop: center or a box")
        left, top, side = 0, 0, width
    else:
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
    if side < config.size and not config.upsample:
        found = f"a square of {side} pixels, expected at least {config.size}"
        raise ValueError(f"has {found}; use a smaller size, leave it out, or declare it with upsample: true")
    return left, top, side


def _check_native(config: EqualizeConfig, image: Field) -> None:
    if image.dtype not in ("uint8", "|u1", "u1") or len(image.shape) != 3 or image.shape[2] != 3:
        raise ValueError(f"equalize needs `image` as (H, W, 3) uint8, found {image.shape} {image.dtype}")
    try:
        _square(config, image.shape[1], image.shape[0])
    except ValueError as error:
        raise ValueError(f"`image` of the input {error}") from error
