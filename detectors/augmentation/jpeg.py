"""JPEG at random quality, encoded and decoded in memory (Wang et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from detectors import jpeg_codecs, parts

if TYPE_CHECKING:
    from torch import Tensor


class Jpeg(parts.Augmentation):
    """How often, and how well: a row's quality is a whole number, drawn from low to high, both included."""

    acts_on: ClassVar[tuple[str, ...]] = ("image",)
    beside: ClassVar[bool] = True

    augmentation: Literal["jpeg"] = Field(default="jpeg", description="JPEG, chroma subsampled 4:2:0")
    probability: float = Field(default=0.5, ge=0, le=1, description="share of the rows")
    low: int = Field(default=30, ge=1, le=100, description="lowest quality, as libjpeg counts")
    high: int = Field(default=100, ge=1, le=100, description="highest quality")
    codecs: tuple[Literal["pillow", "opencv"], ...] = Field(
        default=("pillow",), min_length=1, max_length=2, description="one is drawn per row; published: both"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Jpeg:
        if self.low > self.high:
            raise ValueError(f"low is {self.low} and high is {self.high}, expected low <= high")
        if len(set(self.codecs)) < len(self.codecs):
            raise ValueError(f"codecs {', '.join(self.codecs)} name one twice; name each once")
        return self

    def sides(self, channels: int, height: int, width: int) -> tuple[int, int]:
        """As they are; of colors, and with codecs that are installed."""
        if channels != 3:
            raise ValueError(
                f"the augmentation 'jpeg' compresses colors, but the rows have {channels} channels, not 3; remove it"
            )
        for codec in self.codecs:
            jpeg_codecs.check(codec)
        return height, width

    def environment(self) -> Mapping[str, str]:
        """The codecs'."""
        return {name: version for codec in self.codecs for name, version in jpeg_codecs.versions(codec).items()}


def apply(settings: Jpeg, rows: Tensor, draw: Callable[..., NDArray[Any]]) -> Tensor:
    """Rows (n, H, W, 3) uint8, some of them compressed."""
    import torch

    qualities = settings.low + (draw("quality")[:, 0] * (settings.high - settings.low + 1)).astype(np.int64)
    codecs = (draw("codec")[:, 0] * len(settings.codecs)).astype(np.int64)
    images = np.array(rows.numpy())
    for row in np.flatnonzero(draw("on")[:, 0] < settings.probability):
        images[row] = jpeg_codecs.jpeg(images[row], int(qualities[row]), settings.codecs[codecs[row]])
    return torch.from_numpy(images)
