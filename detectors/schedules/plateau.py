"""The learning rate falls when validation stands still, and the training ends below a least rate (Wang et al. 2020).

An epoch counts as stale unless it is better than the best by a margin. After so many stale ones the rate falls. Their
program forgets the best score at each fall, for counting as for keeping weights, so that the first epoch after a fall
is kept even if it is worse (`reference`); `fixed` forgets nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from detectors import parts


class Plateau(parts.Settings):
    """Margins are in the unit of what the training selects by; the defaults are theirs, made for accuracies."""

    rule: Literal["plateau"] = Field(default="plateau", description="the learning rate falls when validation stands")
    protocol: Literal["reference", "fixed"] = Field(
        default="fixed",
        description="reference: each fall forgets the best epoch, as released; fixed: none does",
    )
    patience: int = Field(default=5, ge=1, description="stale epochs in a row that lower the rate")
    margin: float = Field(default=0.001, ge=0, description="by which an epoch has to be better, before the first fall")
    later_margin: float = Field(default=0.002, ge=0, description="the same after it")
    by: float = Field(default=0.1, gt=0, lt=1, description="factor of each fall")
    rates: int = Field(default=3, ge=1, description="learning rates one after another, 1e-4 to 1e-6 in the paper")


def factor(settings: Plateau, history: Sequence[float]) -> float:
    """0 once the last rate has come to a standstill."""
    falls, _ = _course(settings, history)
    return 0.0 if falls >= settings.rates else float(settings.by**falls)


def kept(settings: Plateau, history: Sequence[float]) -> int:
    """Number from 0 of the epoch whose weights stay."""
    return _course(settings, history)[1]


def _course(settings: Plateau, history: Sequence[float]) -> tuple[int, int]:
    """Falls so far, and the epoch that is kept."""
    falls, stale, chosen = 0, 0, 0
    best: float | None = None
    for epoch, value in enumerate(history):
        margin = settings.later_margin if falls else settings.margin
        if best is None or value >= best + margin:
            best, stale = value, 0
            if settings.protocol == "reference":
                chosen = epoch
        else:
            stale += 1
        if settings.protocol == "fixed" and value > history[chosen]:
            chosen = epoch
        if stale == settings.patience:
            falls, stale = falls + 1, 0
            best = None if settings.protocol == "reference" else best
    return falls, chosen
