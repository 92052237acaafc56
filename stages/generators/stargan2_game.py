"""Training of StarGAN v2 (Choi et al. 2020, arXiv:1912.01865, section 2.2 and appendix B).

One step is: the discriminator on images with a style from a latent, then on images with a style from a reference;
generator, mapping network and style encoder on the former, the generator alone on the latter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detectors.transfers import Numbers, elsewhere, sent
from stages.generators import stargan2
from stages.generators.backward import backward
from stages.generators.games import Game
from stages.generators.stargan2_recipe import Stargan2Recipe
from stages.generators.training_images import TrainingImages
from stages.generators.training_recipes import by_size

PARTS = ("generator", "mapping_network", "style_encoder")


class TranslationGame(Game):
    """The four networks of StarGAN v2; the player "generator" is the bundle of the first three."""

    recipe: Stargan2Recipe

    def __init__(
        self, recipe: Stargan2Recipe, players: Mapping[str, nn.Module], images: TrainingImages, *rest: Any, **more: Any
    ):
        super().__init__(recipe, players, images, *rest, **more)
        self.loss = recipe.adversarial()
        self.parts: dict[str, nn.Module] = {name: self.generator.get_submodule(name) for name in PARTS}
        for name, network in {**self.parts, "discriminator": self.discriminator}.items():
            self.adam(name, network, weight_decay=recipe.weight_decay)
        self.rates["mapping_network"] = 1.0
        numbers = {name: number for number, name in enumerate(images.domains)}
        self.domains = np.array([numbers[str(name)] for name in images.rows.column("domain")])  # of all rows
        self.changed: Tensor | slice = slice(None)  # translations of a step that spectral terms see

    def set_rates(self, side: int, warm_up: bool = False) -> None:
        super().set_rates(side, warm_up)
        for group in self.optimizers["mapping_network"].param_groups:
            group["lr"] = self.recipe.mapping_rate

    def step(self, seen: int, train_generator: bool = True) -> tuple[int, dict[str, float]]:
        recipe = self.recipe
        side = self.generator.resolution
        batch = int(by_size(recipe.batch, side))  # type: ignore[arg-type]
        self.set_rates(side, not train_generator)
        diversity = recipe.diversity_weight * max(1 - seen / (recipe.diversity_kimg * 1000), 0)
        with self.precision():
            reals, domains, before = self._drawn(batch)
            references, targets, after = self._drawn(batch)
            others, _ = self.images.draw(batch, targets)
            self.changed = changed(before, after, self.device)
            latents = self.normal(2, batch, self.generator.z_dim)
            masks = self.generator.masks(reals) if self.generator.w_hpf > 0 else None
            log = self._discriminator_step(reals, domains, targets, latents[0], None, masks)
            self._discriminator_step(reals, domains, targets, None, references, masks)
            if train_generator:
                log |= self._generator_step(reals, domains, targets, latents, None, masks, diversity)
                self._generator_step(reals, domains, targets, None, (references, others), masks, diversity)
        if train_generator:
            self.update_average(seen, batch)
        self.steps += 1
        return batch, self.told(log)

    def _drawn(self, batch: int) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
        """Images and their domains, on the device and on the host: what this must know of a draw it draws itself."""
        if not elsewhere(self.device):
            images, domains = self.images.draw(batch)
            return images, domains, domains.numpy()
        known = self.domains[self.below(0, len(self.images), batch)]
        return *self.images.draw(batch, sent(known, self.device)), known

    def _style(self, latent: Tensor | None, reference: Tensor | None, domain: Tensor) -> Tensor:
        if latent is not None:
            return self.generator.style_of_latent(latent, domain)  # type: ignore[no-any-return]
        return self.generator.style_of_reference(reference, domain)  # type: ignore[no-any-return]

    def _discriminator_step(
        self,
        reals: Tensor,
        domains: Tensor,
        targets: Tensor,
        latent: Tensor | None,
        reference: Tensor | None,
        masks: Any,
    ) -> Numbers:
        with torch.no_grad():
            fakes = self.generator.translate(reals, self._style(latent, reference, targets), masks)
        kinds = iter((domains, targets))  # the loss scores real images first, then fakes

        def scores(images: Tensor) -> Tensor:
            return self.discriminator(self.augmented(images), next(kinds))  # type: ignore[no-any-return]

        loss, log = self.loss.discriminator(scores, reals, fakes, self.steps, self.random)
        self.update("discriminator", loss)
        if self.spectral is not None:
            log |= self.spectral.discriminator(reals, fakes[self.changed], self.steps, self.random)
        return log

    def _generator_step(
        self,
        reals: Tensor,
        domains: Tensor,
        targets: Tensor,
        latents: Tensor | None,
        references: tuple[Tensor, Tensor] | None,
        masks: Any,
        diversity: float,
    ) -> Numbers:
        """With latents all three parts learn, with references the generator only."""
        recipe, bundle = self.recipe, self.generator
        learning = PARTS if latents is not None else PARTS[:1]
        self.discriminator.requires_grad_(False)
        pairs: list[tuple[Tensor | None, Tensor | None]]
        pairs = [(latent, None) for latent in latents] if latents is not None else []
        pairs += [(None, reference) for reference in references] if references is not None else []
        style = self._style(*pairs[0], targets)
        fakes = bundle.translate(reals, style, masks)
        adversarial = self.loss.generator(self.discriminator(self.augmented(fakes), targets))
        loss = adversarial
        if self.spectral is not None:
            parameters = [one for name in learning for one in self.parts[name].parameters()]
            loss = self.spectral.generator(adversarial, fakes[self.changed], parameters)
        style_error = (bundle.style_of_reference(fakes, targets) - style).abs().mean()
        with torch.no_grad():
            other = bundle.translate(reals, self._style(*pairs[1], targets), masks)
        distance = (fakes - other).abs().mean()
        fake_masks = bundle.masks(fakes) if masks is not None else None
        back = bundle.translate(fakes, bundle.style_of_reference(reals, domains), fake_masks)
        cycle = (back - reals).abs().mean()
        loss = loss + recipe.style_weight * style_error - diversity * distance + recipe.cycle_weight * cycle
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        backward(loss)
        for name in learning:
            self.optimizers[name].step()
        self.discriminator.requires_grad_(True)
        return {
            "generator": adversarial.detach(),
            "style": style_error.detach(),
            "diversity": distance.detach(),
            "cycle": cycle.detach(),
        }

    @torch.no_grad()
    def sample(self, seeds: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Image k is row k of the training set in the style of latent k, in the next domain."""
        rows = seeds % len(self.images)
        sources = self.images.floats(self.images.pixels(rows))
        domains = (self.images.class_of(rows) + 1) % self.images.count_of_classes
        drawn = [stargan2.draw({"z_dim": self.generator.z_dim}, int(seed), "none")["z"] for seed in seeds]
        latents = torch.from_numpy(np.stack(drawn)).to(self.device)
        average: Any = self.average
        made = stargan2.render(
            average, {"source": sources, "domain": domains, "z": latents}, psi=1.0, cutoff=None, noise="none"
        )
        return stargan2.to_uint8(made).cpu().numpy()


def changed(before: NDArray[np.int64], after: NDArray[np.int64], device: torch.device | str) -> Tensor | slice:
    """The translations to another domain, which is what the generator is used for; all of them if there is none.

    A reconstruction in its own domain has almost the spectrum of the photograph, and a mean over both would hide that
    the translations have not. before, after: domains (n,).
    """
    places = np.flatnonzero(before != after)
    return sent(places, device) if len(places) else slice(None)
