"""A learning rate that falls in steps: after named epochs (He et al. 2021: to a tenth), or after equal stretches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from detectors import parts


class Steps(parts.Settings):
    """When it falls, and how deep."""

    rule: Literal["steps"] = Field(default="steps", description="the learning rate falls after some epochs")
    after: tuple[int, ...] = Field(min_length=1, description="numbers of epochs, each of which lowers the rate once")
    by: float = Field(default=0.1, gt=0, lt=1, description="factor of each step")


def factor(settings: Steps, history: Sequence[float]) -> float:
    """Product of the steps that lie behind."""
    return float(settings.by ** sum(len(history) >= epoch for epoch in settings.after))


def halved(done: int, every: float) -> float:
    """Half for each whole stretch of `every` images that lies behind; none below 0 images."""
    return float(0.5 ** (max(done, 0) // every))
