"""Images are mirrored sideways at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from numpy.typing import NDArray
from pydantic import Field

from detectors import parts

if TYPE_CHECKING:
    from torch import Tensor


class Flip(parts.Augmentation):
    """How often; a map of frequencies has no sides.

    A residual is that of its image alone: reduction commutes with mirroring, a re-synthesizer does not, so that the
    mirrored residual is not that of the mirrored image (docs/features.md says how far). The stage `flip` before
    `residual` gives both.
    """

    acts_on: ClassVar[tuple[str, ...]] = ("image",)

    augmentation: Literal["flip"] = Field(default="flip", description="mirrored sideways")
    probability: float = Field(default=0.5, ge=0, le=1, description="share of the rows")


def apply(settings: Flip, rows: Tensor, draw: Callable[..., NDArray[Any]]) -> Tensor:
    """Rows (n, H, W, C) of which some are mirrored along W."""
    import torch

    from detectors.transfers import sent

    mirrored = sent(draw("mirrored")[:, 0] < settings.probability, rows.device)
    return torch.where(mirrored[:, None, None, None], rows.flip(2), rows)
