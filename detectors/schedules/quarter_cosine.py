"""A learning rate along a quarter of a cosine, as the program of He et al. 2021 sets it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from detectors import parts

LEAST = 1e-4
"""Part of the first rate that is left at the end."""


class QuarterCosine(parts.Settings):
    """Over how many epochs; afterwards the rate stays at its least."""

    rule: Literal["quarter_cosine"] = Field(default="quarter_cosine", description="a quarter of a cosine")
    epochs: int = Field(ge=2, description="of the whole way, mostly those of the training")


def factor(settings: QuarterCosine, history: Sequence[float]) -> float:
    """They set it after an epoch by that epoch's number from 0, so the first two epochs have the whole rate."""
    done = min(max(len(history) - 1, 0), settings.epochs - 1)
    return (1 - LEAST) * math.cos(math.pi / 2 * done / (settings.epochs - 1)) + LEAST
