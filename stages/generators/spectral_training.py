"""What +R and +A add to a training: a term of the generator's loss that sees the power spectrum of its images.

+R, spectral regularization (Durall et al. 2020, arXiv:2003.01826, section 4): the radial profile of each generated
image is compared with the mean profile of the real ones, by a loss through which gradients flow into the generator.
+A, spectral adversarial training (Jung and Keuper 2021, arXiv:2012.03110, section 3): a second discriminator sees
profiles only. Both look at images of full size before any augmentation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from detectors.transfers import Numbers
from stages.generators.backward import backward
from stages.generators.losses import Loss, Wasserstein
from stages.generators.spectral import (
    CHUNK,
    Profile,
    SpectralDiscriminator,
    SpectralLoss,
    gradient_norm_ratio,
    regularization,
    starting_weight,
    target_profile,
)
from stages.generators.training_images import TrainingImages

MEASURED_STEPS = 8
MEASURE_EVERY = 50
NEW_SHARE = 0.1  # of the present batch in the running mean profile


class RunningMean(nn.Module):
    """A mean profile (V,) that is saved with the progress."""

    mean: Tensor

    def __init__(self, length: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(length))


class Regularization:
    """+R. Without a given weight, the first steps choose it so that its gradient is `ratio` times the adversarial one.

    target    (V,) mean profile of the real images
    of_batch  compare the mean profile of the generated images, not each one's: the cross-entropy of single images is
              least where all have the same profile, so it moves their mean away from the target that it is measured by.
              The mean runs over batches, since that of a few images is partly chance; the present one gets the gradient
    kind      see `regularization`; l1 of the mean is the distance that cards report
    """

    def __init__(
        self,
        target: Tensor,
        side: int,
        weight: float | None,
        ratio: float,
        of_batch: bool = False,
        kind: SpectralLoss = "cross-entropy",
        damping: float = 0.0,
    ) -> None:
        self.of_batch, self.kind = of_batch, kind
        self.target, self.profile, self.ratio = target, Profile(side, damping).to(target.device), ratio
        self.running = RunningMean(len(target)).to(target.device)
        self.networks: Mapping[str, nn.Module] = {"profiles": self.running} if of_batch else {}
        self.optimizers: Mapping[str, torch.optim.Optimizer] = {}
        self.numbers: dict[str, float] = {
            "weight": weight or 0.0,
            "unweighted": 0.0,
            "measured": 0.0,
            "calls": 0.0,
        }
        self.fixed = weight is not None
        self.log: Numbers = {}

    def generator(self, adversarial: Tensor, fakes: Tensor, parameters: list[nn.Parameter]) -> Tensor:
        """Adversarial loss plus weight times the spectral one."""
        numbers = self.numbers
        with torch.autocast(fakes.device.type, enabled=False):
            profiles = self.profile(fakes.float())
            profiles = self._running(profiles.mean(dim=0, keepdim=True)) if self.of_batch else profiles
            spectral = regularization(profiles, self.target, self.kind)
        self.log = {"spectral": spectral.detach()}
        choosing = not self.fixed and numbers["measured"] < MEASURED_STEPS
        if choosing or numbers["calls"] % MEASURE_EVERY == 0:
            unweighted = gradient_norm_ratio(adversarial, spectral, parameters)
            if choosing and 0 < unweighted < math.inf:
                count, mean = numbers["measured"], numbers["unweighted"]
                numbers["unweighted"] = mean + (unweighted - mean) / (count + 1)
                numbers["measured"] = count + 1
                numbers["weight"] = starting_weight(numbers["unweighted"], self.ratio)
            if unweighted < math.inf:
                self.log["gradient_ratio"] = unweighted * numbers["weight"]
        numbers["calls"] += 1
        return adversarial + numbers["weight"] * spectral

    def _running(self, mean: Tensor) -> Tensor:
        """The running mean profile (1, V), whose gradient is that of the present batch's mean."""
        present = mean.detach()
        smooth = self.running.mean.lerp(present[0], NEW_SHARE) if self.numbers["calls"] else present[0].clone()
        self.running.mean.copy_(smooth)
        return smooth + (mean - present)

    def discriminator(self, reals: Tensor, fakes: Tensor, step: int, random: torch.Generator) -> Numbers:
        """Nothing to learn; the numbers of the last generator step."""
        log, self.log = self.log, {}
        return log


class Adversary:
    """+A. The generator's adversarial loss becomes the mean of those against both discriminators."""

    def __init__(
        self,
        loss: Loss,
        side: int,
        rate: float,
        betas: tuple[float, float],
        share: float,
        device: Any,
        damping: float = 0.0,
    ) -> None:
        network = SpectralDiscriminator(side, damping=damping).to(device)
        self.network, self.loss, self.share = network, loss, share
        self.networks: Mapping[str, nn.Module] = {"spectral": network}
        self.optimizer = torch.optim.Adam(network.parameters(), lr=rate, betas=betas, eps=1e-8)
        self.optimizers: Mapping[str, torch.optim.Optimizer] = {"spectral": self.optimizer}
        self.numbers: dict[str, float] = {"calls": 0.0}
        self.log: Numbers = {}

    def generator(self, adversarial: Tensor, fakes: Tensor, parameters: list[nn.Parameter]) -> Tensor:
        """(1 - share) of the adversarial loss plus share of the one against the spectral discriminator."""
        self.network.requires_grad_(False)
        spectral = self.loss.generator(self.network(fakes.float()))
        self.network.requires_grad_(True)
        self.log = {"spectral": spectral.detach()}
        if self.numbers["calls"] % MEASURE_EVERY == 0:
            ratio = gradient_norm_ratio(adversarial, spectral, parameters)
            if ratio < math.inf:
                self.log["gradient_ratio"] = ratio * self.share / (1 - self.share)
        self.numbers["calls"] += 1
        return (1 - self.share) * adversarial + self.share * spectral

    def _of_profiles(self, profiles: Tensor) -> Tensor:
        """Scores of profiles (N, V, 1, 1), shaped like images for the penalty."""
        return self.network.scores(profiles.flatten(1))

    def discriminator(self, reals: Tensor, fakes: Tensor, step: int, random: torch.Generator) -> Numbers:
        """One step on profiles of real and generated images.

        R1 and other penalties are taken with respect to the profiles, that of ProGAN's loss to the images. A log
        spectrum changes by 1 / |F| with the pixels: the penalty on pixels was near 1,000 at 64 pixels, and the
        discriminator learned nothing.
        """
        with torch.autocast(reals.device.type, enabled=False):
            if isinstance(self.loss, Wasserstein):
                loss, log = self.loss.discriminator(self.network, reals.float(), fakes.float(), step, random)
            else:
                seen = [self.network.profile(images.float())[:, :, None, None] for images in (reals, fakes.detach())]
                loss, log = self.loss.discriminator(self._of_profiles, seen[0], seen[1], step, random)
        self.optimizer.zero_grad(set_to_none=True)
        backward(loss)
        self.optimizer.step()
        merged = {**self.log, "spectral_discriminator": log["discriminator"]}
        self.log = {}
        return merged


def mean_profile(images: TrainingImages) -> Tensor:
    """(V,) mean profile of all training images, on their device."""
    return target_profile(images.floats(pixels) for pixels in images.blocks(CHUNK))
