"""Gaussian noise of random strength (Yu et al. 2019), made on the device from one number of each row.

Each value of a row gets one of 65,536 equally likely quantiles of the normal distribution, chosen by 16 bits of
SplitMix64 (Steele et al. 2014). Whole numbers and a table give the same noise on every device and in every batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from detectors import parts

if TYPE_CHECKING:
    import torch
    from torch import Tensor

QUANTILES = 1 << 16
OF_A_NUMBER = 4
"""Values that one number of 64 bits gives."""

STEP, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""Constants of SplitMix64."""


class Noise(parts.Augmentation):
    """How often, and how strong: a row's variance is drawn uniformly from low to high."""

    acts_on: ClassVar[tuple[str, ...]] = ("image", "residual")

    augmentation: Literal["noise"] = Field(default="noise", description="Gaussian noise on each value")
    probability: float = Field(default=0.5, ge=0, le=1, description="share of the rows")
    low: float = Field(default=5.0, ge=0, description="least variance, in squares of the stored values' unit")
    high: float = Field(default=20.0, ge=0, description="greatest variance")

    @model_validator(mode="after")
    def _ordered(self) -> Noise:
        if self.low > self.high:
            raise ValueError(f"low is {self.low} and high is {self.high}, expected low <= high")
        return self


def apply(settings: Noise, rows: Tensor, draw: Callable[..., NDArray[Any]]) -> Tensor:
    """Rows (n, *shape) with noise; those of whole numbers are rounded to the nearest, 0 to 255."""
    import torch

    from detectors.transfers import sent

    variance = settings.low + (settings.high - settings.low) * draw("variance")[:, 0]
    strength = np.where(draw("on")[:, 0] < settings.probability, np.sqrt(variance), 0.0).astype(np.float32)
    halves = (draw("values", 2) * 2.0**32).astype(np.uint64)
    keys = sent((halves[:, 0] << np.uint64(32) | halves[:, 1]).view(np.int64), rows.device)
    normal = normals(keys, math.prod(rows.shape[1:])).reshape(rows.shape)
    scale = sent(strength, rows.device).reshape(-1, *[1] * (rows.ndim - 1))
    noisy = rows.float() + scale * normal
    if rows.dtype.is_floating_point:
        return torch.where(scale > 0, noisy.to(rows.dtype), rows)
    return (noisy + 0.5).floor().clamp(0, 255).to(rows.dtype)


def normals(keys: Tensor, count: int) -> Tensor:
    """Standard normal values (n, count) float32; keys: (n,) int64, where the row's numbers begin."""
    import torch

    places = torch.arange(1, -(-count // OF_A_NUMBER) + 1, device=keys.device)
    words = split_mix(keys[:, None] + places * _signed(STEP))
    bits = torch.stack([words >> shift & QUANTILES - 1 for shift in range(0, 64, 16)], dim=2)
    return table(keys.device)[bits.flatten(1)[:, :count]]


def split_mix(words: Tensor) -> Tensor:
    """The output function of SplitMix64 on bits that int64 holds, whose products wrap around."""
    words = (words ^ _shifted(words, 30)) * _signed(FIRST)
    words = (words ^ _shifted(words, 27)) * _signed(SECOND)
    return words ^ _shifted(words, 31)


def _shifted(words: Tensor, by: int) -> Tensor:
    """To the right, zeros coming in."""
    return words >> by & (1 << 64 - by) - 1


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


@cache
def table(device: torch.device) -> Tensor:
    """The quantiles on a device, copied once."""
    import torch

    with torch.inference_mode(False):
        return torch.from_numpy(quantiles()).to(device)


@cache
def quantiles() -> NDArray[np.float32]:
    """(QUANTILES,) float32: the normal distribution at the middles of equally likely parts."""
    inverse = NormalDist().inv_cdf
    upper = [inverse((QUANTILES / 2 + number + 0.5) / QUANTILES) for number in range(QUANTILES // 2)]
    half = np.array(upper, np.float64)
    return np.concatenate([-half[::-1], half]).astype(np.float32)
