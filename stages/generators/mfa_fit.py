"""Fit of a mixture of factor analyzers: a step is one pass of expectation and maximization over all photographs.

As published, components begin as the principal axes of a few random photographs each, and a random share of the values
tells which component an image belongs to. A component that no photograph belongs to any more begins anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.errors import StageError
from stages.generators import mfa
from stages.generators.games import Game
from stages.generators.mfa_densities import Mixture, Moments, log_joint, maximized, moments, principal
from stages.generators.mfa_recipe import MfaRecipe
from stages.generators.training_images import TrainingImages

LEAST_SHARE = 0.01  # of 1 / K: the published program stops below
NOISE = (1e-5, 1.0)
MOST_LOADING, MOST_MEAN = 10.0, 1.0


class Fit(Game):
    """One player, whose numbers are float64 until they are published, and no optimizer."""

    recipe: MfaRecipe  # type: ignore[assignment]
    advice = "look for images of one color among the training rows"

    def __init__(
        self, recipe: Any, players: Mapping[str, nn.Module], images: TrainingImages, *rest: Any, **more: Any
    ) -> None:
        super().__init__(recipe, players, images, *rest, **more)
        self.players["generator"] = self.average = self.generator.double()
        self.group = 2 * (self.generator.z_dim + 1)
        if len(images) < self.generator.z_dim + 2:
            raise StageError(
                f"a mixture of {self.generator.z_dim} factors needs {self.generator.z_dim + 2} training rows or more, "
                f"found {len(images)}; lower network.z_dim, or give it more photographs"
            )
        self.generator.take(self._begin())

    def networks(self) -> dict[str, nn.Module]:
        return dict(self.players)

    def _vectors(self, pixels: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 to (N, d) float64 in 0..1, channels first."""
        return pixels.permute(0, 3, 1, 2).flatten(1).double() / 255

    def _some(self) -> tuple[Tensor, Tensor, Tensor]:
        """Principal axes of random photographs."""
        order = torch.randperm(len(self.images), generator=self.random, device=self.device)[: self.group]
        return principal(self._vectors(self.images.kept.of(order)), self.generator.z_dim)

    def _begin(self) -> Mixture:
        found = [self._some() for _ in range(len(self.generator.logits))]
        weights = torch.full((len(found),), 1 / len(found), dtype=torch.float64, device=self.device)
        return Mixture(weights, *map(torch.stack, zip(*found, strict=True)))

    def _features(self) -> Tensor | None:
        """Coordinates, drawn with replacement; None: all."""
        values = self.generator.means.shape[1]
        if self.recipe.feature_share == 1:
            return None
        count = max(int(values * self.recipe.feature_share), 1)
        return torch.randint(values, (count,), generator=self.random, device=self.device)

    @torch.no_grad()
    def step(self, seen: int, train_generator: bool = True) -> tuple[int, dict[str, float]]:
        """A pass over all images; the log has the mean log-likelihood of the mixture before, in nats per value."""
        mixture, likelihood = self.generator.mixture(), 0.0
        found: Moments | None = None
        for pixels in self.images.blocks(self.recipe.batch):
            x, chosen = self._vectors(pixels), self._features()
            some = (mixture, x) if chosen is None else (mixture.of_features(chosen), x[:, chosen])
            joint = log_joint(*some, self.recipe.weights)
            likelihood += joint.logsumexp(dim=1).sum().item() / some[1].shape[1]
            part = moments(mixture, x, joint.softmax(dim=1))
            found = part if found is None else found + part
        assert found is not None  # there are photographs
        self.generator.take(self._without_empty(maximized(mixture, found), found.r))
        self.steps += 1
        return len(self.images), {"log_likelihood": likelihood / len(self.images)}

    def _without_empty(self, mixture: Mixture, r: Tensor) -> Mixture:
        """Components to which less than half a photograph belongs begin anew, with an equal share."""
        empty = torch.nonzero(r < 0.5)[:, 0].tolist()
        if not empty:
            return mixture
        weights, parts = (
            mixture.weights.clone(),
            [one.clone() for one in (mixture.means, mixture.loadings, mixture.noise)],
        )
        for number in empty:
            weights[number] = 1 / len(weights)
            for one, new in zip(parts, self._some(), strict=True):
                one[number] = new
        return Mixture(weights / weights.sum(), *parts)

    def remarks(self) -> list[str]:
        """Components beyond what the published program allows."""
        mixture = self.generator.mixture()
        least = LEAST_SHARE / len(mixture.weights)
        found = []
        for number in range(len(mixture.weights)):
            weight, noise = mixture.weights[number].item(), mixture.noise[number].item()
            loading, mean = (one[number].abs().max().item() for one in (mixture.loadings, mixture.means))
            facts = [f"a weight of {weight:.2g}"] * (weight <= least)
            facts += [f"a noise variance of {noise:.2g}"] * (not NOISE[0] < noise < NOISE[1])
            facts += [f"a loading of {loading:.2g}"] * (loading >= MOST_LOADING)
            facts += [f"a mean of {mean:.2g}"] * (mean > MOST_MEAN)
            found += [f"component {number} has {' and '.join(facts)}"] * bool(facts)
        return found

    @torch.no_grad()
    def sample(self, seeds: NDArray[np.int64]) -> NDArray[np.uint8]:
        architecture = {"z_dim": self.generator.z_dim, "resolution": self.generator.resolution}
        drawn = [mfa.draw(architecture, int(seed)) for seed in seeds]
        rows = {name: torch.from_numpy(np.stack([row[name] for row in drawn])).to(self.device) for name in drawn[0]}
        return mfa.to_uint8(mfa.render(self.generator, rows)).cpu().numpy()
