"""How far a re-synthesized image is from the original: pixels, and stages of a perceptual network.

He et al. 2021, section 3.2: the sum over the stages i = 0 (pixels) to 5 of alpha_i times the mean absolute difference
(weights from section 4.5). The released code takes mean squares of the stages and 0.2 times their sum.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

STAGE_WEIGHTS = {1: 1 / 32, 2: 1 / 16, 3: 1 / 8, 4: 1 / 4, 5: 1.0}
FACTORS = {"paper": 1.0, "released": 0.2}
"""Of the perceptual sum; the pixel term has weight 1."""


class Stages(Protocol):
    """A frozen perceptual network (`stages.resynthesis.perceptual`)."""

    def stages(self, images: Tensor, wanted: list[int]) -> dict[int, Tensor]:
        """Features of RGB images (N, 3, H, W) in [0, 1]."""
        ...


class ReconstructionLoss:
    """Pixel and perceptual distance of two batches of images (N, 3, H, W) float32.

    kind    "paper": absolute differences of the stages; "released": their squares
    factor  of the perceptual sum; without a network there is none
    """

    def __init__(self, network: Stages | None = None, kind: str = "paper", factor: float = 1.0) -> None:
        self.network, self.factor = network, factor
        self.distance = F.l1_loss if kind == "paper" else F.mse_loss

    def __call__(self, made: Tensor, originals: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, which has a gradient by `made` only, and its terms without their weights, for the log."""
        total = F.l1_loss(made, originals)
        terms = {"pixel": total}
        if self.network is not None:
            wanted = list(STAGE_WEIGHTS)
            with torch.no_grad():
                targets = self.network.stages(originals, wanted)
            found = self.network.stages(made, wanted)
            for stage, weight in STAGE_WEIGHTS.items():
                terms[f"stage{stage}"] = self.distance(found[stage], targets[stage])
                total = total + self.factor * weight * terms[f"stage{stage}"]
        return total, {"loss": total.detach(), **{name: term.detach() for name, term in terms.items()}}
