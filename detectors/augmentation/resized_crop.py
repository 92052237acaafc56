"""A part of random area and shape is cut out and brought to one size, as torchvision's RandomResizedCrop draws it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from detectors import parts

if TYPE_CHECKING:
    from torch import Tensor

TRIES = 10
"""Shapes that are drawn before the middle is taken."""


class ResizedCrop(parts.Augmentation):
    """How large the parts are, and what becomes of them."""

    acts_on: ClassVar[tuple[str, ...]] = ("image",)
    beside: ClassVar[bool] = True

    augmentation: Literal["resized_crop"] = Field(
        default="resized_crop", description="a part of random place, area and shape, resized"
    )
    size: int = Field(ge=1, description="width and height that it is resized to, pixels; that of `preprocessing.crop`")
    least: float = Field(default=0.08, gt=0, le=1, description="least area of the part, of that of the image")
    most: float = Field(default=1.0, gt=0, le=1, description="largest one")
    stretch: float = Field(default=4 / 3, ge=1, description="width by height is drawn between 1 / stretch and stretch")
    filter: Literal["bilinear", "bicubic", "lanczos"] = Field(
        default="lanczos", description="of the resizing, antialiased; Chai et al. 2020: lanczos"
    )

    @model_validator(mode="after")
    def _ordered(self) -> ResizedCrop:
        if self.least > self.most:
            raise ValueError(f"least is {self.least} and most is {self.most}, expected least <= most")
        return self

    def sides(self, channels: int, height: int, width: int) -> tuple[int, int]:
        """Those that parts are brought to; of colors."""
        if channels != 3:
            raise ValueError(
                f"the augmentation 'resized_crop' resizes colors, but rows have {channels} channels, not 3; remove it"
            )
        return self.size, self.size

    def environment(self) -> Mapping[str, str]:
        """Whose filters."""
        return {"pillow": version("pillow")}


def apply(settings: ResizedCrop, rows: Tensor, draw: Callable[..., NDArray[Any]]) -> Tensor:
    """Rows (n, H, W, 3) uint8 to (n, size, size, 3)."""
    import torch
    from PIL import Image

    kind = Image.Resampling[settings.filter.upper()]
    areas, shapes, corners = draw("area", TRIES), draw("shape", TRIES), draw("corner", 2)
    images = rows.numpy()
    found = np.empty((len(images), settings.size, settings.size, 3), np.uint8)
    for row, image in enumerate(images):
        sides = height, width = image.shape[:2]
        drawn = part_of(settings, height, width, areas[row], shapes[row])
        if drawn is None:  # the largest part of an allowed shape, in the middle
            part = min(sides[0], round(sides[1] * settings.stretch)), min(sides[1], round(sides[0] * settings.stretch))
            top, left = ((side - one) // 2 for side, one in zip(sides, part, strict=True))
        else:
            part = drawn
            top, left = (
                int(place * (side - one + 1)) for place, side, one in zip(corners[row], sides, part, strict=True)
            )
        cut = np.ascontiguousarray(image[top : top + part[0], left : left + part[1]])
        found[row] = np.asarray(Image.fromarray(cut).resize((settings.size, settings.size), kind))
    return torch.from_numpy(found)


def part_of(
    settings: ResizedCrop, height: int, width: int, areas: NDArray[np.float64], shapes: NDArray[np.float64]
) -> tuple[int, int] | None:
    """Height and width of the first drawn part that lies within the image; None where no one does.

    areas, shapes: numbers from 0 to below 1, one per try; areas are uniform, shapes uniform in their logarithm
    """
    for area, shape in zip(areas.tolist(), shapes.tolist(), strict=True):
        wanted = height * width * (settings.least + (settings.most - settings.least) * area)
        ratio = math.exp((2 * shape - 1) * math.log(settings.stretch))
        wide, high = round(math.sqrt(wanted * ratio)), round(math.sqrt(wanted / ratio))
        if 0 < wide <= width and 0 < high <= height:
            return high, wide
    return None
