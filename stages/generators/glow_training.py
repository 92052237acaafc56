"""Training of Glow by the likelihood of its images, in bits per dimension (Kingma and Dhariwal 2018, section 2).

Images get uniform noise of the width of a level (dequantization). Normalizations begin with the statistics of a few
hundred photographs, and the learning rate of Adamax rises over the first passes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.generators import glow
from stages.generators.games import Game
from stages.generators.glow_recipe import GlowRecipe
from stages.generators.training_images import TrainingImages
from stages.generators.training_recipes import by_size


class Likelihood(Game):
    """One player, and its average."""

    recipe: GlowRecipe  # type: ignore[assignment]
    advice = "lower learning_rate, or raise warm_up"

    def __init__(
        self, recipe: Any, players: Mapping[str, nn.Module], images: TrainingImages, *rest: Any, **more: Any
    ) -> None:
        super().__init__(recipe, players, images, *rest, **more)
        first, classes = images.draw(recipe.first_images)
        with torch.no_grad():
            self.generator.encode(self.dequantized(first), images.one_hot(classes), begin=True)
        self.average.load_state_dict(self.generator.state_dict())
        self.optimizers["generator"] = torch.optim.Adamax(
            self.generator.parameters(), lr=1.0, betas=recipe.betas, eps=1e-8
        )

    def dequantized(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) of 256 levels in -1..1 to -0.5..0.5, at a random place in their level of 2^bits."""
        levels = 2.0**self.generator.bits
        shades = ((images + 1) * 127.5).round()
        noise = torch.rand(images.shape, generator=self.random, device=self.device)
        return ((shades * (levels / 256)).floor() + noise) / levels - 0.5

    def rate(self, seen: int, batch: int) -> float:
        """Learning rate of a step that ends after `seen` + `batch` images."""
        whole = self.recipe.warm_up * len(self.images)
        share = min((seen + batch) / whole, 1.0) if whole else 1.0
        return float(by_size(self.recipe.learning_rate, self.images.side)) * share

    def step(self, seen: int, train_generator: bool = True) -> tuple[int, dict[str, float]]:
        """One step on random photographs; the log has the bits per dimension."""
        batch = int(by_size(self.recipe.batch, self.images.side))  # type: ignore[arg-type]
        for group in self.optimizers["generator"].param_groups:
            group["lr"] = self.rate(seen, batch)
        images, classes = self.images.draw(batch)
        x = self.dequantized(images)
        _, likelihood = self.generator.encode(x, self.images.one_hot(classes))
        bits = self.generator.bits - likelihood.mean() / (math.log(2) * x[0].numel())
        self.update("generator", bits)
        self.update_average(seen, batch)
        self.steps += 1
        return batch, {"bits_per_dimension": bits.item()}

    @torch.no_grad()
    def sample(self, seeds: NDArray[np.int64]) -> NDArray[np.uint8]:
        architecture = {"resolution": self.images.side, "bits": self.generator.bits}
        drawn = [glow.draw(architecture, int(seed)) for seed in seeds]
        rows = {name: torch.from_numpy(np.stack([row[name] for row in drawn])).to(self.device) for name in drawn[0]}
        classes = torch.arange(len(seeds), device=self.device) % max(self.images.count_of_classes, 1)
        label = self.images.one_hot(classes)
        if label is not None:
            rows["label"] = label
        average: Any = self.average
        return glow.to_uint8(glow.render(average, rows)).cpu().numpy()
