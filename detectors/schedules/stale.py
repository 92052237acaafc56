"""The stop rule of Chai et al. 2020: long after the best epoch, or at the first epoch after a perfect one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from detectors import parts


class Stale(parts.Settings):
    """An epoch that is strictly better than all before never ends the training, `most` or not."""

    rule: Literal["stale"] = Field(default="stale", description="ends long after the best epoch or after a perfect one")
    patience: int = Field(default=10, ge=1, description="epochs, of which `times` as many may pass after the best one")
    times: int = Field(default=5, ge=1, description="5: as released; 1: as its help text says")
    perfect: float | None = Field(
        default=1.0, description="what validation cannot be better than, a perfect accuracy; null: nothing"
    )
    most: int | None = Field(
        default=None, ge=1, description="epochs after which one that is not better ends it; null: `epochs` ends it"
    )


def finished(settings: Stale, history: Sequence[float]) -> bool:
    """Whether the last epoch, which is not the best, is one too many."""
    if not history:
        return False
    last, best = len(history) - 1, list(history).index(max(history))
    if last == best:
        return False
    too_many = settings.most is not None and last > settings.most
    return last > best + settings.times * settings.patience or history[best] == settings.perfect or too_many
