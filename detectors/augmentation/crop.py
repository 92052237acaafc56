"""A part of each image is cut out at random; where one is scored, preprocessing cuts out the middle."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from detectors import parts

if TYPE_CHECKING:
    from torch import Tensor


class Crop(parts.Augmentation):
    """How large the part is; all places are equally likely."""

    acts_on: ClassVar[tuple[str, ...]] = ("image",)

    augmentation: Literal["crop"] = Field(default="crop", description="a part at a random place")
    size: int = Field(ge=1, description="width and height, pixels; that of `preprocessing.crop`")

    def sides(self, channels: int, height: int, width: int) -> tuple[int, int]:
        """Those of the part, which is not larger than the rows."""
        del channels
        if min(height, width) < self.size:
            raise ValueError(
                f"rows of {height} x {width} are smaller than the random crop of {self.size}; take a smaller crop, or "
                "store larger rows"
            )
        return self.size, self.size


def apply(settings: Crop, rows: Tensor, draw: Callable[..., NDArray[Any]]) -> Tensor:
    """Rows (n, H, W, C) to (n, size, size, C)."""
    import torch

    from detectors.transfers import sent

    size = settings.size
    spare = np.array([rows.shape[1] - size + 1, rows.shape[2] - size + 1])
    corners = sent((draw("corner", 2) * spare).astype(np.int64), rows.device)
    along = torch.arange(size, device=rows.device)
    top, left = (corners[:, axis, None] + along for axis in (0, 1))
    number = torch.arange(len(rows), device=rows.device)
    return rows[number[:, None, None], top[:, :, None], left[:, None, :]]
