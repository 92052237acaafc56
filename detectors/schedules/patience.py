"""A training ends when validation has not been better for some epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from detectors import parts


class Patience(parts.Settings):
    """How many epochs."""

    rule: Literal["patience"] = Field(
        default="patience", description="ends after some epochs without a better validation"
    )
    epochs: int = Field(default=5, ge=1, description="so many in a row; the first of equally good ones counts")


def finished(settings: Patience, history: Sequence[float]) -> bool:
    """Whether the best epoch lies that far behind."""
    return len(history) > 0 and len(history) - 1 - list(history).index(max(history)) >= settings.epochs
