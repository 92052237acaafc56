"""A term of a generator's loss that leads its images away from what a detector knows (Chai et al. 2020, Eq. 4).

The discriminator and its loss stay; beside them the generator gets the loss of a frozen classifier towards "real". The
way back from the classifier to the image is a stand-in without rounding (`detectors.gradients`), so what is said of the
classifier is measured by its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectors.transfers import Numbers
from pipeline.errors import StageError

FRESH = 1 << 24
"""First seed of the images that the classifier is asked about; figures of cards use seeds from 0 on."""

BLOCK = 32


class Evasion:
    """What is added to a game (`stages.generators.games.SpectralTerm`).

    judge: images (N, 3, H, W), -1..1, to logits of fake (N, cells), through which gradients flow
    """

    def __init__(self, judge: Callable[[Tensor], Tensor], weight: float) -> None:
        self.judge, self.weight = judge, weight
        self.networks: Mapping[str, nn.Module] = {}
        self.optimizers: Mapping[str, torch.optim.Optimizer] = {}
        self.numbers: dict[str, float] = {"weight": weight}
        self.log: Numbers = {}

    def generator(self, adversarial: Tensor, fakes: Tensor, parameters: list[nn.Parameter]) -> Tensor:
        """Adversarial loss plus weight times the cross-entropy towards real, the mean over images and cells."""
        with torch.autocast(fakes.device.type, enabled=False):
            logits = self.judge(fakes if fakes.dtype == torch.float64 else fakes.float())
            real = F.softplus(logits).mean()
        self.log = {"classifier": real.detach(), "probability_of_fake": logits.detach().sigmoid().mean()}
        return adversarial + self.weight * real

    def discriminator(self, reals: Tensor, fakes: Tensor, step: int, random: torch.Generator) -> Numbers:
        """Nothing to learn; the numbers of the last generator step."""
        log, self.log = self.log, {}
        return log


class Watched:
    """How many of a game's images a detector calls fake, by its own way from a picture to its score.

    Raises StageError where the detector has no such way.
    """

    def __init__(self, folder: Path, count: int, device: str) -> None:
        from stages.predict import load

        self.asked, self.count = load(folder, device=device, as_class="fake"), count
        self.threshold = self.asked.threshold()

    def called_fake(self, game: Any) -> float:
        """Share of `count` images of the averaged generator."""
        right = 0
        for start in range(0, self.count, BLOCK):
            pictures = game.sample(np.arange(FRESH + start, FRESH + min(start + BLOCK, self.count)))
            for one in self.asked.scored(list(pictures)):
                if one.error:
                    raise StageError(f"an image of the generator cannot be scored by the classifier: {one.error}")
                right += one.scores[0] >= self.threshold
        return right / self.count
