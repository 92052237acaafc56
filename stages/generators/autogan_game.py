"""Training of AutoGAN's simulator: images that a generator makes of photographs, against these photographs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detectors.transfers import Numbers
from stages.generators import autogan
from stages.generators.autogan_recipe import AutoganRecipe
from stages.generators.games import Game
from stages.generators.training_images import TrainingImages
from stages.generators.training_recipes import by_size


class Pool(nn.Module):
    """Images of earlier steps (size, 3, side, side), saved with the progress."""

    images: Tensor

    def __init__(self, size: int, side: int) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros(size, 3, side, side))


class ReconstructionGame(Game):
    """The generator's step, then the discriminator's, which sees earlier images in half of the cases."""

    recipe: AutoganRecipe

    def __init__(
        self, recipe: AutoganRecipe, players: Mapping[str, nn.Module], images: TrainingImages, *rest: Any, **more: Any
    ):
        super().__init__(recipe, players, images, *rest, **more)
        self.loss = recipe.adversarial()
        self.pool = Pool(recipe.pool, self.generator.resolution).to(self.device)
        self.numbers["pooled"] = 0
        for name in ("generator", "discriminator"):
            self.adam(name, self.players[name])

    def networks(self) -> dict[str, nn.Module]:
        return {**super().networks(), "pool": self.pool}

    def step(self, seen: int, train_generator: bool = True) -> tuple[int, dict[str, float]]:
        side = self.generator.resolution
        batch = int(by_size(self.recipe.batch, side))  # type: ignore[arg-type]
        self.set_fall(seen)
        self.set_rates(side, not train_generator)
        with self.precision():
            reals, _ = self.images.draw(batch)
            with torch.set_grad_enabled(train_generator):
                fakes = self.generator(reals)
            log: Numbers = self._generator_step(reals, fakes) if train_generator else {}
            log |= self._discriminator_step(reals, fakes.detach())
        if train_generator:
            self.update_average(seen, batch)
        self.steps += 1
        return batch, self.told(log)

    def _generator_step(self, reals: Tensor, fakes: Tensor) -> Numbers:
        self.discriminator.requires_grad_(False)
        adversarial = self.loss.generator(self.discriminator(self.augmented(fakes)))
        loss = adversarial
        if self.spectral is not None:
            loss = self.spectral.generator(adversarial, fakes, list(self.generator.parameters()))
        difference = (fakes.float() - reals).abs().mean()
        self.update("generator", loss + self.recipe.identity_weight * difference)
        self.discriminator.requires_grad_(True)
        return {"generator": adversarial.detach(), "difference": difference.detach()}

    def _discriminator_step(self, reals: Tensor, fakes: Tensor) -> Numbers:
        """On half of the loss, as the authors slow this player down."""
        shown = self.shown(fakes.float())
        loss, log = self.loss.discriminator(
            lambda images: self.discriminator(self.augmented(images)), reals, shown, self.steps, self.random
        )
        self.update("discriminator", loss / 2)
        if self.spectral is not None:
            log |= self.spectral.discriminator(reals, fakes, self.steps, self.random)
        return log

    def shown(self, fakes: Tensor) -> Tensor:
        """Once the pool is full, half of the images are exchanged for earlier ones (Shrivastava et al. 2017)."""
        size, found = len(self.pool.images), []
        for fake in fakes if size else ():
            count = int(self.numbers["pooled"])
            if count < size:
                self.pool.images[count] = fake
                self.numbers["pooled"] = count + 1
                found.append(fake)
            elif self.chance() < 0.5:
                (place,) = self.below(0, size, 1)
                found.append(self.pool.images[place].clone())
                self.pool.images[place] = fake
            else:
                found.append(fake)
        return torch.stack(found) if found else fakes

    @torch.no_grad()
    def sample(self, seeds: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Image k is made of row k of the training set."""
        pixels = torch.from_numpy(self.images.pixels(seeds % len(self.images))).to(self.device)
        made = autogan.render(self.average, {"source": pixels})
        return autogan.to_uint8(made).cpu().numpy()
