"""Clips of photographs, plain or manipulated, for the twins of experiments on videos: a stage of the twins' own.

A clip is a window that pans over one photograph. A manipulated one differs in a square near the middle, of 40 pixels of
128 or 20 of 64, which stays where it is in the photograph: a pasted patch, a blended warp, a blur, or pixels that were
reduced and enlarged again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pipeline.stage import (
    FAKE,
    PICTURE,
    Batch,
    Children,
    Context,
    Field,
    Input,
    Kind,
    Stage,
    StageConfig,
    row_setting,
    setting,
)

SIDES = (64, 128)
"""Pixels of the side of a photograph."""
SQUARE = 40
"""Pixels of the side of what is manipulated, in a photograph of 128; lengths in one of 64 are half of those."""
STEP = 4
"""Pixels between two frames."""


class ClipsConfig(StageConfig):
    """What is done to the photograph, and how the window pans."""

    method: Literal["none", "paste", "warp", "blur", "resynthesis"] = setting(description="none: a real clip")
    size: int = setting(64, ge=16, le=128, description="side of the window, pixels")
    frames: int = row_setting(4, ge=1, le=8, description="frames of a clip")


class Clips(Stage):
    """Photographs of 64 or 128 pixels in, frames (size, size, 3) uint8 out, in the photograph's group and split."""

    name: ClassVar[str] = "clips"
    kind: ClassVar[Kind] = Kind.EXPAND
    Config: ClassVar[type[StageConfig]] = ClipsConfig
    inputs: ClassVar[Mapping[str, Input]] = {"of": Input("rows", description="images of 64 x 64 or 128 x 128 pixels")}
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pillow", "scipy")
    random: ClassVar[bool] = True

    def schema(self, config: ClipsConfig, inputs: Mapping[str, Any]) -> Mapping[str, Field]:
        """Raises ValueError where images have another size, or the window is larger than they are."""
        shape = inputs["of"]["image"].shape
        if shape not in [(side, side, 3) for side in SIDES]:
            raise ValueError(f"clips wants images of 64 x 64 x 3 or 128 x 128 x 3, found {shape}; equalize them")
        if config.size > shape[0]:
            raise ValueError(f"clips: size is {config.size}, but images have {shape[0]} pixels; equalize them larger")
        return {"image": Field("uint8", (config.size, config.size, 3), "RGB, 0 to 255", PICTURE)}

    def fan_out(self, config: ClipsConfig) -> int:
        """Frames of a clip."""
        return config.frames

    def children(self, config: ClipsConfig, files: Any, parents: Any, partners: Any, seed: int) -> Children:
        """Frames are numbered from 0; those of manipulated clips are fakes."""
        count = len(parents)
        numbers = np.tile(np.arange(config.frames), count)
        label = None if config.method == "none" else FAKE
        return Children(np.repeat(np.arange(count), config.frames), numbers, label=label)

    def compute(self, config: ClipsConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        """All frames of a clip show one manipulated photograph."""
        assert batch.index is not None
        frames = np.empty((len(batch), config.size, config.size, 3), np.uint8)
        room = batch.inputs[0]["image"].shape[1] - config.size
        first = room // 2
        for row, (photo, number) in enumerate(zip(batch.inputs[0]["image"], batch.index.tolist(), strict=True)):
            random = ctx.rng(batch.parents[0][row], config.method)
            shown = manipulated(photo, config.method, random)
            left = min(room, max(0, first + STEP * number - STEP))
            frames[row] = shown[first : first + config.size, left : left + config.size]
        return {"image": frames}


def manipulated(photo: NDArray[np.uint8], method: str, random: np.random.Generator) -> NDArray[np.uint8]:
    """The photograph (N, N, 3), N one of `SIDES`, with another square."""
    if method == "none":
        return photo
    parts = 128 // len(photo)
    side = SQUARE // parts
    top, left = 44 // parts + random.integers(-8 // parts, 8 // parts + 1, 2)
    inside = (slice(top, top + side), slice(left, left + side))
    square = photo[inside]
    if method == "paste":
        changed = photo[:side, :side].astype(np.float64)
    elif method == "warp":
        changed = _warped(square, random)
    elif method == "blur":
        changed = ndimage.gaussian_filter(square.astype(np.float64), (1.2, 1.2, 0))
    else:
        small = Image.fromarray(square).resize((side // 2, side // 2), Image.Resampling.LANCZOS)
        changed = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC), np.float64)
    edge = np.minimum(np.arange(side), np.arange(side)[::-1])
    width = 1 if method == "paste" else 6 // parts
    share = np.clip((np.minimum(edge[:, None], edge[None]) + 1) / width, 0, 1)[..., None]
    result = photo.copy()
    result[inside] = np.clip(share * changed + (1 - share) * square + 0.5, 0, 255).astype(np.uint8)
    return result


def _warped(square: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.float64]:
    """Shifted along waves of a twentieth of its side, two pixels of 40."""
    side = len(square)
    rows, columns = np.mgrid[:side, :side].astype(np.float64)
    phases = random.uniform(0, 2 * np.pi, 2)
    wave, reach = 2 * np.pi / side, side // 20
    places = [
        rows + reach * np.sin(2 * wave * columns + phases[0]),
        columns + reach * np.sin(2 * wave * rows + phases[1]),
    ]
    planes = [
        ndimage.map_coordinates(square[..., c].astype(np.float64), places, order=1, mode="nearest") for c in range(3)
    ]
    return np.stack(planes, axis=-1)
