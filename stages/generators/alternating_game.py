"""Training in steps of several of the discriminator to one of the generator: SNGAN and the DCGAN family."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from detectors.transfers import Numbers
from stages.generators.games import NoiseGame
from stages.generators.training_recipes import by_size


class AlternatingGame(NoiseGame):
    """The recipe says how many steps, whether the generator's comes first, and of how many batches it is."""

    def step(self, seen: int, train_generator: bool = True) -> tuple[int, dict[str, float]]:
        recipe: Any = self.recipe
        side = self.generator.resolution
        batch, steps = int(by_size(recipe.batch, side)), recipe.discriminator_steps
        self.set_fall(seen)
        self.set_rates(side, not train_generator)
        latents = batch * int(by_size(recipe.generator_batches, side))
        log: Numbers = {}
        found: dict[str, list[float]] = {}
        with self.precision():
            if recipe.generator_first and train_generator:
                log |= self._generator_step(latents, 0.0)
            for number in range(steps):
                made = self._discriminator_step(batch, 0.0, side)
                log |= {f"{number} {name}": value for name, value in made.items()}
            if not recipe.generator_first and train_generator:
                log |= self._generator_step(latents, 0.0)
        log = self.told(log)
        for name in [name for name in log if name[0].isdigit()]:
            found.setdefault(name.partition(" ")[2], []).append(log.pop(name))
        log |= {name: sum(numbers) / len(numbers) for name, numbers in found.items()}
        if train_generator:
            self.update_average(seen, batch * steps)
        self.steps += 1
        return batch * steps, log

    def photographs(self, batch: int) -> tuple[Tensor, Tensor]:
        """Real images and their classes; in some families noise below one level of gray is added to them."""
        reals, classes = self.images.draw(batch)
        levels = getattr(self.recipe, "levels", None)
        if levels is not None:
            noise = torch.rand(reals.shape, generator=self.random, device=self.device)
            reals = ((reals + 1) * 127.5 + noise) / levels - 1
        return reals, classes
