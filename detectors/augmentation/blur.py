"""Gaussian blur of random width, with the rounding of Wang et al. 2020."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from detectors import parts
from detectors.gaussian_filter import gaussian_filter

if TYPE_CHECKING:
    from torch import Tensor


class Blur(parts.Augmentation):
    """How often, and how wide: a row's sigma is drawn uniformly from low to high."""

    acts_on: ClassVar[tuple[str, ...]] = ("image",)
    beside: ClassVar[bool] = True

    augmentation: Literal["blur"] = Field(default="blur", description="Gaussian blur, as CNNDetection rounds it")
    probability: float = Field(default=0.5, ge=0, le=1, description="share of the rows")
    low: float = Field(default=0.0, ge=0, description="smallest sigma, pixels")
    high: float = Field(default=3.0, ge=0, le=10, description="largest sigma, pixels")

    @model_validator(mode="after")
    def _ordered(self) -> Blur:
        if self.low > self.high:
            raise ValueError(f"low is {self.low} and high is {self.high}, expected low <= high")
        return self


def apply(settings: Blur, rows: Tensor, draw: Callable[..., NDArray[Any]]) -> Tensor:
    """Rows (n, H, W, C) uint8, some of them blurred, each channel for itself."""
    import torch

    sigmas = settings.low + (settings.high - settings.low) * draw("sigma")[:, 0]
    images = np.array(rows.numpy())
    for row in np.flatnonzero(draw("on")[:, 0] < settings.probability):
        images[row] = gaussian_filter(images[row], float(sigmas[row]))
    return torch.from_numpy(images)
