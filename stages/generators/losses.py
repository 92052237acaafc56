"""Adversarial losses. A discriminator is here any function from images (N, C, H, W) to scores (N, 1), higher = real."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

Scores = Callable[[Tensor], Tensor]


class Loss(Protocol):
    """What both players minimize."""

    def discriminator(
        self, scores: Scores, reals: Tensor, fakes: Tensor, step: int, random: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """Loss (scalar) of one step, penalties included, and numbers for the log; `fakes` carry no gradient."""
        ...

    def generator(self, scores: Tensor) -> Tensor:
        """Loss (scalar) for scores (N, 1) of generated images."""
        ...


def _input_gradient(scores: Tensor, images: Tensor) -> Tensor:
    """d(sum of scores)/d(images), through which gradients flow."""
    (gradient,) = torch.autograd.grad(scores.float().sum(), images, create_graph=True)
    return gradient.float()


@dataclass(frozen=True)
class Logistic:
    """Non-saturating logistic loss (Goodfellow et al. 2014) with R1 on real images (Mescheder et al. 2018, eq. 9).

    gamma     the penalty is gamma / 2 * mean of the squared gradient norm
    interval  it is taken every `interval` steps with `interval` times its weight (Karras et al. 2020, appendix B)
    """

    gamma: float
    interval: int = 1

    def discriminator(
        self, scores: Scores, reals: Tensor, fakes: Tensor, step: int, random: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        penalize = self.gamma > 0 and step % self.interval == 0
        reals = reals.detach().requires_grad_(penalize)
        real_scores = scores(reals).float()
        loss = F.softplus(scores(fakes).float()).mean() + F.softplus(-real_scores).mean()
        log = {"discriminator": loss.item()}
        if penalize:
            norms = _input_gradient(real_scores, reals).square().sum(dim=(1, 2, 3))
            loss = loss + self.gamma / 2 * self.interval * norms.mean()
            log["r1"] = norms.mean().item()
        return loss, log

    def generator(self, scores: Tensor) -> Tensor:
        return F.softplus(-scores.float()).mean()


@dataclass(frozen=True)
class Wasserstein:
    """WGAN-GP (Gulrajani et al. 2017, eq. 3) with ProGAN's drift term (Karras et al. 2018, appendix A.1)."""

    penalty: float = 10.0
    drift: float = 0.001

    def discriminator(
        self, scores: Scores, reals: Tensor, fakes: Tensor, step: int, random: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        real_scores, fake_scores = scores(reals).float(), scores(fakes).float()
        share = torch.rand((len(reals), 1, 1, 1), generator=random, device=reals.device)
        mixed = (reals + (fakes - reals) * share).detach().requires_grad_(True)
        norms = (_input_gradient(scores(mixed), mixed).square().sum(dim=(1, 2, 3)) + 1e-12).sqrt()
        loss = (fake_scores - real_scores).mean()
        log = {"discriminator": loss.item(), "gradient_norm": norms.mean().item()}
        loss = loss + self.penalty * (norms - 1).square().mean() + self.drift * real_scores.square().mean()
        return loss, log

    def generator(self, scores: Tensor) -> Tensor:
        return -scores.float().mean()
