"""Adversarial losses. A discriminator is here any function from images (N, C, H, W) to scores (N, 1), higher = real."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from detectors.transfers import Numbers
from stages.generators.backward import gradients

Scores = Callable[[Tensor], Tensor]

Kind = Literal["gan", "lsgan", "wgan", "hinge"]
Place = Literal["between", "around"]


class Loss(Protocol):
    """What both players minimize."""

    def discriminator(
        self, scores: Scores, reals: Tensor, fakes: Tensor, step: int, random: torch.Generator
    ) -> tuple[Tensor, Numbers]:
        """Loss (scalar) of one step, penalties included, and numbers for the log; `fakes` carry no gradient."""
        ...

    def generator(self, scores: Tensor) -> Tensor:
        """Loss (scalar) for scores (N, 1) of generated images."""
        ...


def _full(x: Tensor) -> Tensor:
    """At least float32."""
    return x if x.dtype == torch.float64 else x.float()


def _input_gradient(scores: Tensor, images: Tensor) -> Tensor:
    """d(sum of scores)/d(images), through which gradients flow."""
    (gradient,) = gradients(_full(scores).sum(), images, create_graph=True)
    return _full(gradient)


def gradient_norms(scores: Scores, places: Tensor) -> Tensor:
    """(N,) length of d(score)/d(image) at `places` (N, ...), through which gradients flow."""
    places = places.detach().requires_grad_(True)
    squares = _input_gradient(scores(places), places).square()
    return (squares.sum(dim=tuple(range(1, squares.ndim))) + 1e-12).sqrt()


def between(reals: Tensor, fakes: Tensor, share: Tensor) -> Tensor:
    """Places on the way from each real image to a generated one (Gulrajani et al. 2017): `share` of it."""
    return reals + (fakes - reals) * share


def around(reals: Tensor, share: Tensor, noise: Tensor) -> Tensor:
    """Places near the real images (Kodali et al. 2017): plus share * noise, in units of half the batch's deviation.

    share  one number per image; noise: like the images, 0..1
    """
    return reals + share * (0.5 * reals.std()) * noise


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
    ) -> tuple[Tensor, Numbers]:
        penalize = self.gamma > 0 and step % self.interval == 0
        reals = reals.detach().requires_grad_(penalize)
        real_scores = scores(reals).float()
        loss = F.softplus(scores(fakes).float()).mean() + F.softplus(-real_scores).mean()
        log = {"discriminator": loss.detach()}
        if penalize:
            norms = _input_gradient(real_scores, reals).square().sum(dim=(1, 2, 3))
            loss = loss + self.gamma / 2 * self.interval * norms.mean()
            log["r1"] = norms.detach().mean()
        return loss, log

    def generator(self, scores: Tensor) -> Tensor:
        return F.softplus(-_full(scores)).mean()


@dataclass(frozen=True)
class Wasserstein:
    """WGAN-GP (Gulrajani et al. 2017, eq. 3) with ProGAN's drift term (Karras et al. 2018, appendix A.1)."""

    penalty: float = 10.0
    drift: float = 0.001

    def discriminator(
        self, scores: Scores, reals: Tensor, fakes: Tensor, step: int, random: torch.Generator
    ) -> tuple[Tensor, Numbers]:
        real_scores, fake_scores = scores(reals).float(), scores(fakes).float()
        share = torch.rand((len(reals), 1, 1, 1), generator=random, device=reals.device)
        norms = gradient_norms(scores, between(reals, fakes, share))
        loss = (fake_scores - real_scores).mean()
        log = {"discriminator": loss.detach(), "gradient_norm": norms.detach().mean()}
        loss = loss + self.penalty * (norms - 1).square().mean() + self.drift * real_scores.square().mean()
        return loss, log

    def generator(self, scores: Tensor) -> Tensor:
        return -_full(scores).mean()


PARTS: Mapping[str, tuple[Scores, Scores, Scores]] = {
    "gan": (lambda real: F.softplus(-real), F.softplus, lambda fake: F.softplus(-fake)),
    "lsgan": (lambda real: (real - 1).square(), torch.square, lambda fake: (fake - 1).square()),
    "wgan": (torch.neg, lambda fake: fake, torch.neg),
    "hinge": (lambda real: F.relu(1 - real), lambda fake: F.relu(1 + fake), torch.neg),
}
"""Per score: the discriminator's loss of real and of generated images, and the generator's."""


@dataclass(frozen=True)
class Plain:
    """One of PARTS as means, with or without a penalty that keeps the lengths of gradients near 1.

    kind     gan: non-saturating logistic (Goodfellow et al. 2014); lsgan: squares without halves (Mao et al. 2017);
             wgan: Arjovsky et al. 2017; hinge: Lim and Ye 2017, Miyato et al. 2018
    penalty  its weight; 0: none
    place    where it is taken: `between` real and generated images, or `around` the real ones
    """

    kind: Kind
    penalty: float = 0.0
    place: Place = "between"

    def discriminator(
        self, scores: Scores, reals: Tensor, fakes: Tensor, step: int, random: torch.Generator
    ) -> tuple[Tensor, Numbers]:
        of_real, of_fake, _ = PARTS[self.kind]
        loss = of_real(_full(scores(reals))).mean() + of_fake(_full(scores(fakes))).mean()
        log = {"discriminator": loss.detach()}
        if self.penalty:
            share = torch.rand((len(reals), 1, 1, 1), generator=random, device=reals.device)
            if self.place == "between":
                places = between(reals, fakes, share)
            else:
                places = around(reals, share, torch.rand(reals.shape, generator=random, device=reals.device))
            norms = gradient_norms(scores, places)
            loss = loss + self.penalty * (norms - 1).square().mean()
            log["gradient_norm"] = norms.detach().mean()
        return loss, log

    def generator(self, scores: Tensor) -> Tensor:
        return PARTS[self.kind][2](_full(scores)).mean()
