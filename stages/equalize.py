"""Give images of all classes the same last steps, so that as little as possible but the generator differs.

Decode, color mode, crop, resampling, uint8: one chain for real and generated images, without profiles and metadata.
Codec, size and resampling differences alone let a detector reach perfect scores on published corpora (Durall et al.
2019 use 178 x 218 reals against 128 x 128 fakes). What this stage cannot make equal is recorded: `reduction` is the
factor by which a row was reduced; an image that already has the wanted size is not resampled (1.0), which is true of
the native output of a generator and must be declared beside reals that were reduced.

JPEG stays in the pixels. Either both classes are decoded and left so (`prefer: decode`), or both are recompressed alike
(`prefer: recompress`); a window of sides and qualities makes the histories alike instead (`PROTOCOLS`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from detectors.jpeg_codecs import jpeg
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
from stages.images.containers import Container
from stages.images.image_field import NATIVE, check_canvas, filled, on_canvas
from stages.images.jpeg_quality import nearest_quality

PROTOCOLS: Mapping[str, Mapping[str, Any]] = {
    "jpeg96": {"prefer": "recompress", "quality": 96},
    "native_crop": {"crop": "native"},
    "window": {"sides": ..., "qualities": ...},
}
"""Named sets of settings; `...` has to be given.

jpeg96       both classes at the quality of most of ImageNet: Grommelt et al. 2024 (arXiv 2403.17608), who find that
             detectors of GenImage have learned quality 96 against PNG
native_crop  no class is resampled: crops in place of resizing, as Gragnaniello et al. 2021 and SAFE (Li et al. 2024)
window       reals of like size and quality alone, and fakes compressed once by the qualities of these reals:
             the unbiased GenImage of Grommelt et al. 2024 (there sides 450 to 550 and quality 96)
"""

Filter = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]

EXAMPLES = {"sides": "[450, 550]", "qualities": "[96]"}

REVERSED = {2: (True, False), 3: (True, True), 4: (False, True), 6: (True, False), 7: (True, True), 8: (False, True)}
"""EXIF orientation -> whether columns, and rows, of the upright picture were stored in the other direction."""

BLOCK = 8
"""Pixels of a JPEG block along one side."""

STORED_LUMA = "stored_luma"

STEPPED = frozenset({"reduction", "square", NATIVE})
"""Fields of images that an earlier stage has made of files: equalize, face_crop, frames."""

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
    color: Literal["rgb", "gray", "stored_luma"] = setting(
        "rgb",
        description="gray: luma, repeated in three channels; stored_luma: of a JPEG file its Y plane as the decoder "
        "gives it, of all else 8-bit gray as OpenCV rounds it, which is how Durall et al. 2019 read theirs: classes of "
        "unlike codecs are treated unlike, so the report wants it declared as equalize.color",
    )
    protocol: Literal["jpeg96", "native_crop", "window"] | None = setting(
        None,
        description="a named set of settings. jpeg96: prefer recompress at quality 96; native_crop: crop native; "
        "window: needs sides and qualities",
    )
    crop: Literal["center", "native", "none"] | Box = setting(
        "center",
        description="center: the largest centered square; native: the square of `size` in the middle, moved up "
        "and left to a multiple of 8 pixels as JPEG blocks lie, never resampled; "
        "none: the image must be square; or a box",
    )
    resample: Filter = setting("lanczos", description="one of Pillow's filters, antialiased where it reduces")
    prefer: Literal["decode", "recompress"] = setting(
        "decode", description="recompress: JPEG of both classes as the last step, by `quality`; decode: pixels as read"
    )
    quality: int | None = setting(None, description="JPEG quality of `prefer: recompress`", ge=1, le=100)
    sides: tuple[int, int] | None = setting(
        None, description="least and most pixels of both sides as stored; other images fail", strict=False
    )
    qualities: tuple[int, ...] | None = setting(
        None,
        description="JPEG qualities of the reals: other JPEG and lossy files fail, and what never was JPEG is coded "
        "once by one of them, drawn by its id",
        strict=False, min_length=1,
    )  # fmt: skip
    upsample: bool = setting(False, description="allow squares smaller than `size`; they fail otherwise")
    exif_rotate: bool = setting(True, description="put files upright as their EXIF orientation says")
    max_pixels: int = row_setting(
        100_000_000, description="files whose header claims more fail before anything is allocated", ge=1
    )

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        """Settings of the protocol beside those that are given."""
        settings = PROTOCOLS.get(given.get("protocol") or "") if isinstance(given, dict) else None
        if settings is None:
            return given
        name = given["protocol"]
        for setting_name, value in settings.items():
            found = given.get(setting_name, value)
            if found is ...:
                raise ValueError(f"protocol '{name}' needs {setting_name}; give them, e.g. {EXAMPLES[setting_name]}")
            if value is not ... and found != value:
                raise ValueError(
                    f"{setting_name} is {found!r}, and protocol '{name}' sets {value!r}; leave one of them out"
                )
        return {**{key: value for key, value in settings.items() if value is not ...}, **given}

    @model_validator(mode="after")
    def _whole(self) -> EqualizeConfig:
        """Nothing is given that has no effect."""
        if (self.prefer == "recompress") != (self.quality is not None):
            lacking = "needs a quality, e.g. 96" if self.quality is None else "is decode, so quality has no effect"
            raise ValueError(f"prefer {lacking}")
        if self.crop == "native" and {"resample", "upsample"} & self.chosen():
            raise ValueError("crop native never resamples, so resample and upsample have no effect; leave them out")
        if self.sides is not None and not 1 <= self.sides[0] <= self.sides[1]:
            raise ValueError(f"sides are {self.sides}, expected least and most, e.g. {EXAMPLES['sides']}")
        if self.qualities is not None and not all(1 <= one <= 100 for one in self.qualities):
            raise ValueError(f"qualities are {self.qualities}, expected numbers from 1 to 100")
        return self


class Equalize(Stage):
    """Image files or arrays in; `image` (size, size, 3) uint8 RGB and `reduction` float32 out."""

    name: ClassVar[str] = "equalize"
    kind: ClassVar[Kind] = Kind.MAP
    Config: ClassVar[type[StageConfig]] = EqualizeConfig
    inputs: ClassVar[Mapping[str, Input]] = {"of": Input("rows", description="image files, or rows with an `image`")}
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pillow")
    moves: ClassVar[tuple[str, ...]] = ("size", "aspect", "history")

    def schema(self, config: EqualizeConfig, inputs: Mapping[str, Schema]) -> Schema:
        """Raises ValueError where the input has neither files nor images, or its images cannot be cropped so."""
        parent = inputs["of"]
        if "image" in parent:
            _check_native(config, parent)
        elif CONTENT not in parent:
            found = ", ".join(sorted(parent)) or "nothing"
            raise ValueError(f"equalize needs image files or an `image` field, found {found}")
        return {
            "image": Field("uint8", (config.size, config.size, 3), "RGB, 0 to 255", PICTURE),
            "reduction": Field("float32", (), "side of the square before resampling / size"),
        }

    def check_branches(self, config: EqualizeConfig, inputs: Sequence[Schema]) -> None:
        """A plane that only files have is not asked of arrays alone."""
        if config.color == STORED_LUMA and not any(CONTENT in parent for parent in inputs):
            raise ValueError(
                "color is stored_luma, but no rows are read from files: arrays have no stored plane; use color: gray"
            )

    def remarks(self, config: EqualizeConfig, files: Mapping[str, Any]) -> Sequence[str]:
        """What has to be declared."""
        if config.color != STORED_LUMA:
            return ()
        return ("color: stored_luma treats JPEG files unlike all others; declare equalize.color in the report",)

    def environment(self, config: EqualizeConfig) -> Mapping[str, str]:
        """The decoders of lossy codecs; PNG is exact everywhere."""
        from PIL import features

        return {f"lib{name}": str(features.version(key)) for name, key in LOSSY.items()}

    def compute(self, config: EqualizeConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        """A row that cannot be read, decoded or cropped fails with one sentence."""
        from stages.images.containers import inspect
        from stages.images.decoding import decode

        windowed = config.sides is not None or config.qualities is not None
        images = np.zeros((len(batch), config.size, config.size, 3), np.uint8)
        reduction = np.zeros(len(batch), np.float32)
        native, sizes = (batch.inputs[0].get(name) if batch.inputs else None for name in ("image", NATIVE))
        for row in range(len(batch)):
            try:
                content = batch.read(row) if native is None else None
                container = inspect(content) if content is not None and windowed else None
                reversed_axes = (False, False)
                if content is not None:
                    if config.crop == "native" and config.exif_rotate:
                        reversed_axes = REVERSED.get(inspect(content).orientation, reversed_axes)
                    pixels = decode(content, config.max_pixels, config.exif_rotate, config.color == STORED_LUMA)
                elif native is not None:
                    pixels = native[row] if sizes is None else filled(native[row], sizes[row])
                pixels = in_window(pixels, container, config, bytes(batch.ids[row]))
                images[row], reduction[row] = equalize(pixels, config, reversed_axes)
            except (RowError, ValueError) as error:
                ctx.fail(row, str(error))
        return {"image": images, "reduction": reduction}


def equalize(
    pixels: NDArray[np.uint8], config: EqualizeConfig, reversed_axes: tuple[bool, bool] = (False, False)
) -> tuple[NDArray[np.uint8], float]:
    """Color mode, crop and Lanczos of one image, (H, W, 3) uint8 RGB; raises ValueError if the crop does not fit.

    reversed_axes: whether its columns, and its rows, were stored in the other direction.
    """
    from stages.images.decoding import gray, resized, stored_gray

    left, top, side = _square(config, pixels.shape[1], pixels.shape[0], reversed_axes)
    pixels = pixels[top : top + side, left : left + side]
    if config.color == "gray":
        pixels = gray(np.ascontiguousarray(pixels))
    elif config.color == STORED_LUMA:
        pixels = stored_gray(pixels)
    pixels = resized(pixels, config.size, config.resample)
    if config.quality is not None:
        pixels = jpeg(pixels, config.quality)
    return pixels, side / config.size


def in_window(
    pixels: NDArray[np.uint8], container: Container | None, config: EqualizeConfig, row_id: bytes
) -> NDArray[np.uint8]:
    """An image whose sides and JPEG quality are those that the config allows; what never was lossy is coded once.

    container: of its file; None: an array. Raises ValueError with one sentence for an image outside the window.
    """
    if config.sides is not None:
        low, high = config.sides
        height, width = pixels.shape[:2]
        if not low <= min(height, width) <= max(height, width) <= high:
            raise ValueError(f"is {width} x {height} pixels, expected sides from {low} to {high} (sides)")
    if config.qualities is None:
        return pixels
    if container is not None and container.codec == "jpeg":
        found = nearest_quality(container.quantization[0])
        if found not in config.qualities:
            wanted = ", ".join(map(str, config.qualities))
            raise ValueError(f"is a JPEG file of quality {found}, expected {wanted} (qualities)")
        return pixels
    if container is not None and container.codec in LOSSY:
        raise ValueError(f"is a {container.codec} file, expected JPEG or one that loses nothing (qualities)")
    chosen = int.from_bytes(hashlib.sha256(b"quality" + row_id).digest()[:8], "little") % len(config.qualities)
    return jpeg(pixels, config.qualities[chosen])


def _on_grid(length: int, side: int, backward: bool) -> int:
    """Where a crop begins: in the middle, moved to the edge of a block of 8 pixels that were counted from one end."""
    middle, first = max(0, length - side) // 2, length % BLOCK if backward else 0
    begin = middle - (middle - first) % BLOCK
    return begin if begin >= 0 else min(first, max(0, length - side))


def _square(
    config: EqualizeConfig, width: int, height: int, reversed_axes: tuple[bool, bool] = (False, False)
) -> tuple[int, int, int]:
    """(left, top, side) of the square that is kept."""
    if isinstance(config.crop, Box):
        left, top, side = config.crop.left, config.crop.top, config.crop.side
        if left + side > width or top + side > height:
            raise ValueError(
                f"is {width} x {height} pixels, too small for the crop {left}, {top}, {side} (left, top, side)"
            )
    elif config.crop == "native":
        side = config.size
        left, top = (_on_grid(*one) for one in zip((width, height), (side, side), reversed_axes, strict=True))
        if left + side > width or top + side > height:
            raise ValueError(f"is {width} x {height} pixels, expected at least {side} per side; use a smaller size")
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


def _check_native(config: EqualizeConfig, parent: Schema) -> None:
    image = parent["image"]
    check_canvas(parent, "equalize")
    if config.qualities is not None and STEPPED & parent.keys():
        raise ValueError(
            "qualities need to know how each picture was stored, and these come from files by another stage; give them "
            "to the first `equalize`, which reads the files"
        )
    if image.dtype not in ("uint8", "|u1", "u1") or len(image.shape) != 3 or image.shape[2] != 3:
        raise ValueError(f"equalize needs `image` as (H, W, 3) uint8, found {image.shape} {image.dtype}")
    if on_canvas(parent):
        return  # each picture has a size of its own
    try:
        _square(config, image.shape[1], image.shape[0])
    except ValueError as error:
        raise ValueError(f"`image` of the input {error}") from error
