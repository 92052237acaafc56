"""Training of generators that make images from noise: ProGAN, StyleGAN and StyleGAN2.

A game holds both players, their optimizers and the averaged generator, and knows one step; `stages.training.course`
repeats it, saves and logs. Everything random comes from one torch generator, whose state is saved with the rest.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from detectors.transfers import Numbers, elsewhere, told
from stages.generators.augmentation import augment
from stages.generators.backward import backward, gradients
from stages.generators.training_images import TrainingImages
from stages.generators.training_recipes import Growing, Recipe, by_size

W_AVERAGE = 0.995  # share of the running average of w that each step keeps
PATH_DECAY = 0.01
SEED_FACTOR = 1_000_003  # a prime: no two steps of two seeds near each other draw the same


class SpectralTerm(Protocol):
    """What finetuning adds to a game (see `stages.generators.spectral_training`)."""

    networks: Mapping[str, nn.Module]
    optimizers: Mapping[str, torch.optim.Optimizer]
    numbers: dict[str, float]

    def generator(self, adversarial: Tensor, fakes: Tensor, parameters: list[nn.Parameter]) -> Tensor:
        """The generator's whole loss, from its adversarial loss and the images that this was computed from."""
        ...

    def discriminator(self, reals: Tensor, fakes: Tensor, step: int, random: torch.Generator) -> Numbers:
        """One step of the term's own discriminator, if it has one; numbers for the log."""
        ...


class Game:
    """What all families share: players, optimizers, averages, learning rates (`stages.training.course.Game`)."""

    advice = "lower learning_rate, or raise the weight of the gradient penalty"
    level: float | None = None  # of a growth, for which the optimizers were made

    def __init__(
        self,
        recipe: Recipe,
        players: Mapping[str, nn.Module],
        images: TrainingImages,
        random: torch.Generator,
        *,
        mixed_precision: bool = False,
        spectral: SpectralTerm | None = None,
    ) -> None:
        self.recipe, self.images, self.random, self.spectral = recipe, images, random, spectral
        self.device, self.mixed_precision = images.device, mixed_precision
        self.players = dict(players)
        self.average = copy.deepcopy(players["generator"]).eval().requires_grad_(False)
        self.numbers: Numbers = {}  # further state
        self._host, self._drawing = torch.Generator(), -1  # step for which it was seeded
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.rates: dict[str, float] = {}  # factor of each optimizer on the learning rate
        self.steps = 0
        self.warm_up_rate: float | None = None  # learning rate while the discriminator learns alone; none: the recipe's
        self.warm_up_images = 0  # by which a training is longer than its recipe says
        self.fall = 1.0  # factor on all learning rates, see `set_fall`

    @property
    def generator(self) -> Any:
        return self.players["generator"]

    @property
    def discriminator(self) -> Any:
        return self.players["discriminator"]

    def networks(self) -> dict[str, nn.Module]:
        """All networks that are part of the state."""
        extra = dict(self.spectral.networks) if self.spectral else {}
        return {**self.players, "average": self.average, **extra}

    def all_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {**self.optimizers, **(self.spectral.optimizers if self.spectral else {})}

    def more(self) -> dict[str, Any]:
        """Plain data beside `numbers`, for the progress of the training."""
        return {"level": self.level, "spectral": dict(self.spectral.numbers) if self.spectral else {}}

    def take_back(self, plain: Mapping[str, Any]) -> None:
        """What `more` gave."""
        self.level = plain["level"]
        if self.spectral is not None:
            self.spectral.numbers.update(plain["spectral"])

    def step(self, seen: int, train_generator: bool = True) -> tuple[int, dict[str, float]]:
        """One step of each player after `seen` images; returns real images used and numbers for the log."""
        raise NotImplementedError

    def finish(self, seen: int) -> None:
        """What the end of the training changes in the networks, after `seen` images."""

    def remarks(self) -> list[str]:
        """Sentences about the finished generator, for its card."""
        return []

    def sample(self, seeds: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Images (N, side, side, 3) of the averaged generator, one per seed."""
        raise NotImplementedError

    def precision(self) -> AbstractContextManager[Any]:
        """Half precision (bfloat16) in the networks, if that is wanted.

        Weights are converted at each use: a cache of them would outlive the optimizer steps of one game step.
        """
        enabled = self.mixed_precision
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=False)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.random, device=self.device)

    def host(self) -> torch.Generator:
        """What the host draws by that it decides by: on a GPU, for which it would wait, of the seed and the step."""
        if not elsewhere(self.device):
            return self.random
        if self._drawing != self.steps:
            self._drawing = self.steps
            self._host.manual_seed((self.random.initial_seed() * SEED_FACTOR + self.steps) % (1 << 63))
        return self._host

    def chance(self) -> float:
        return torch.rand((), generator=self.host()).item()

    def below(self, first: int, end: int, count: int) -> list[int]:
        """`count` integers from `first` to `end` - 1."""
        return torch.randint(first, end, (count,), generator=self.host()).tolist()

    def told(self, log: Numbers) -> dict[str, float]:
        """Numbers of a step for the log; they and further state are fetched from the device together."""
        found = told({**{f"numbers/{name}": value for name, value in self.numbers.items()}, **log})
        self.numbers = {name: found.pop(f"numbers/{name}") for name in self.numbers}
        return found

    def augmented(self, x: Tensor) -> Tensor:
        return x if self.recipe.augment is None else augment(x, self.recipe.augment, self.random)

    def set_fall(self, seen: int) -> None:
        """Rates fall to 0 over the last part of the training, if the recipe says which: `decay`."""
        share: Any = getattr(self.recipe, "decay", None)
        if share is not None:
            side = self.generator.resolution
            left = 1 - max(seen - self.warm_up_images, 0) / (self.recipe.length(side, len(self.images)) * 1000)
            self.fall = min(max(left, 0.0) / by_size(share, side), 1.0)

    def set_rates(self, side: int, warm_up: bool = False) -> None:
        """Learning rates for the resolution that is being trained."""
        rate = self.warm_up_rate if warm_up else None
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = (rate or float(by_size(self.recipe.learning_rate, side))) * self.rates[name] * self.fall

    def adam(self, name: str, network: nn.Module, interval: int = 1, **more: Any) -> None:
        """An optimizer; one that includes a lazy penalty is slowed down by it (Karras et al. 2020, appendix B)."""
        lazy = interval / (interval + 1) if interval > 1 else 1.0
        betas = (self.recipe.betas[0] ** lazy, self.recipe.betas[1] ** lazy)
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimizers[name] = torch.optim.Adam(trained, lr=1.0, betas=betas, eps=1e-8, **more)
        self.rates[name] = lazy

    def update(self, name: str, loss: Tensor) -> None:
        """One optimizer step on a loss."""
        self.optimizers[name].zero_grad(set_to_none=True)
        backward(loss)
        self.optimizers[name].step()

    @torch.no_grad()
    def update_average(self, seen: int, batch: int) -> None:
        """Move the averaged generator toward the trained one; buffers are copied."""
        recipe = self.recipe
        if recipe.average_kimg is not None:
            half_life = recipe.average_kimg * 1000
            if recipe.average_ramp is not None:
                half_life = min(half_life, max(seen * recipe.average_ramp, 1.0))
            keep = 0.5 ** (batch / half_life)
        else:
            keep = float(recipe.average_beta or 0)
        torch._foreach_lerp_([*self.average.parameters()], [*self.generator.parameters()], 1 - keep)
        kept = [*self.average.buffers()]
        if kept:
            torch._foreach_copy_(kept, [*self.generator.buffers()])


class NoiseGame(Game):
    """ProGAN, StyleGAN, StyleGAN2: latents and, where the family has them, noise maps to images."""

    def __init__(
        self, recipe: Recipe, players: Mapping[str, nn.Module], images: TrainingImages, *rest: Any, **more: Any
    ):
        super().__init__(recipe, players, images, *rest, **more)
        self.loss = recipe.adversarial()
        self.level = -1.0
        self.path_weight: float = getattr(recipe, "path_weight", 0.0)
        self.path_interval: int = getattr(recipe, "path_interval", 1) if self.path_weight else 1
        self.styled = hasattr(self.generator, "mapping")
        if self.path_weight:
            self.numbers["path_length"] = 0.0
        self._make_optimizers()

    def _make_optimizers(self) -> None:
        self.adam("discriminator", self.discriminator, getattr(self.recipe, "r1_interval", 1))
        self.adam("generator", self.generator, self.path_interval)

    def lod(self, seen: int) -> float:
        """Level of detail after `seen` images: k means that images are computed at resolution / 2^k."""
        recipe = self.recipe
        if not isinstance(recipe, Growing):
            return 0.0
        phase_images = (recipe.grow_kimg + recipe.fade_kimg) * 1000
        levels = math.log2(self.generator.resolution / recipe.grow_from)
        if levels <= 0 or phase_images == 0:
            return 0.0
        phase, into = divmod(seen, phase_images)
        faded = max(into - recipe.grow_kimg * 1000, 0) / (recipe.fade_kimg * 1000) if recipe.fade_kimg else 0.0
        return max(levels - phase - faded, 0.0)

    def _grow(self, seen: int, warm_up: bool) -> tuple[float, int]:
        """Set the level of detail of all networks and the rates; returns the level and the side of images there."""
        lod = self.lod(seen)
        if isinstance(self.recipe, Growing):
            for network in (self.generator, self.discriminator):
                network.lod.fill_(lod)
            level = math.floor(lod) + math.ceil(lod)  # another one at the beginning and at the end of each fade
            if self.level not in (-1.0, level):
                self._make_optimizers()  # moments of the layers of another resolution mean nothing
            self.level = level
        side = self.generator.resolution >> math.floor(lod)
        self.set_rates(side, warm_up)
        return lod, side

    def finish(self, seen: int) -> None:
        """The level of detail is that after the last step, not that at its beginning."""
        if isinstance(self.recipe, Growing):
            networks: tuple[Any, ...] = (self.generator, self.discriminator, self.average)
            for network in networks:
                network.lod.fill_(self.lod(seen))

    def step(self, seen: int, train_generator: bool = True) -> tuple[int, dict[str, float]]:
        lod, side = self._grow(seen, not train_generator)
        batch = int(by_size(self.recipe.batch, side))  # type: ignore[arg-type]
        with self.precision():
            log = self._discriminator_step(batch, lod, side)
            if train_generator:
                log |= self._generator_step(batch, lod)
        if train_generator:
            self.update_average(seen, batch)
        self.steps += 1
        found = self.told(log)
        return batch, {**found, "lod": lod} if isinstance(self.recipe, Growing) else found

    def _scores(self, label: Tensor | None, lod: float) -> Callable[[Tensor], Tensor]:
        more = {"lod": lod} if isinstance(self.recipe, Growing) else {}
        return lambda images: self.discriminator(self.augmented(images), label, **more)

    def photographs(self, batch: int) -> tuple[Tensor, Tensor]:
        """Real images and their classes."""
        return self.images.draw(batch)

    def _discriminator_step(self, batch: int, lod: float, side: int) -> Numbers:
        reals, classes = self.photographs(batch)
        label = self.images.one_hot(classes)
        with torch.no_grad():
            fakes = self.fakes(batch, label, lod)
        reals = faded(reals, side, lod - math.floor(lod))
        scores = self._scores(label, lod)
        larger = 1 << math.floor(lod)  # the authors' gradients are those of images enlarged to the full side
        loss, log = self.loss.discriminator(
            lambda images: scores(images / larger), reals * larger, fakes * larger, self.steps, self.random
        )
        loss = loss + self._class_loss(reals, classes, lod) + self._class_loss(fakes, classes, lod)
        self.update("discriminator", loss)
        if self.spectral is not None:
            log |= self.spectral.discriminator(reals, fakes, self.steps, self.random)
        return log

    def _generator_step(self, batch: int, lod: float) -> Numbers:
        classes = self.images.classes(batch)
        label = self.images.one_hot(classes)
        self.discriminator.requires_grad_(False)
        fakes = self.fakes(batch, label, lod)
        adversarial = self.loss.generator(self._scores(label, lod)(fakes)) + self._class_loss(fakes, classes, lod)
        loss = adversarial
        if self.spectral is not None:
            loss = self.spectral.generator(adversarial, fakes, list(self.generator.parameters()))
        if self.path_weight and self.steps % self.path_interval == 0:
            loss = loss + self.path_penalty(max(batch // 2, 1)) * (self.path_weight * self.path_interval)
        self.update("generator", loss)
        self.discriminator.requires_grad_(True)
        return {"generator": adversarial.detach()}

    def _class_loss(self, images: Tensor, classes: Tensor, lod: float) -> Tensor | float:
        """Conditional ProGAN's discriminator also names the class (Odena et al. 2017)."""
        if not (self.recipe.names_classes and self.recipe.conditional):
            return 0.0
        logits = self.discriminator.scores(self.augmented(images), lod=lod)[1]
        return F.cross_entropy(logits.float(), classes)

    def fakes(self, batch: int, label: Tensor | None, lod: float = 0.0) -> Tensor:
        """Images (batch, 3, side, side) at the level of detail; follows the running average of w on the way."""
        growth = {"lod": lod, "native": True} if isinstance(self.recipe, Growing) else {}
        z = self.normal(batch, self.generator.z_dim)
        if not self.styled:
            images: Tensor = self.generator(z, label, **growth)
            return images
        w = self.generator.mapping(z, label)
        with torch.no_grad():
            average = self.generator.mapping.w_avg
            average.copy_(w.detach().float().mean(dim=0).lerp(average, W_AVERAGE))
        return self.generator.synthesis(self._mixed(w, label, lod), self._noise(batch), **growth)  # type: ignore[no-any-return]

    def _mixed(self, w: Tensor, label: Tensor | None, lod: float = 0.0) -> Tensor:
        """Styles of all layers (N, styles, w_dim): with the recipe's probability from one layer on of a second w."""
        styles = w[:, None].repeat(1, self.generator.styles, 1)
        if self.chance() < self.recipe.mixing:  # type: ignore[attr-defined]
            (cut,) = self.below(1, self.generator.styles - 2 * math.floor(lod), 1)  # among the layers that are run
            other = self.generator.mapping(self.normal(len(w), self.generator.z_dim), label)
            styles = torch.cat([styles[:, :cut], other[:, None].repeat(1, self.generator.styles - cut, 1)], dim=1)
        return styles

    def _noise(self, batch: int) -> list[Tensor]:
        return [self.normal(batch, *shape) for shape in self.generator.noise_shapes()]

    def path_penalty(self, batch: int) -> Tensor:
        """Squared distance of path lengths to their running mean (Karras et al. 2020, equation 4)."""
        label = self.images.one_hot(self.images.classes(batch))
        styles = self._mixed(self.generator.mapping(self.normal(batch, self.generator.z_dim), label), label)
        images = self.generator.synthesis(styles, self._noise(batch))
        direction = self.normal(*images.shape) / math.sqrt(images.shape[2] * images.shape[3])
        (slopes,) = gradients((images * direction).sum(), styles, create_graph=True)
        lengths = slopes.float().square().sum(dim=2).mean(dim=1).sqrt()
        mean = self.numbers["path_length"] + PATH_DECAY * (lengths.mean() - self.numbers["path_length"])
        self.numbers["path_length"] = mean.detach()
        return (lengths - mean).square().mean()

    @torch.no_grad()
    def sample(self, seeds: NDArray[np.int64]) -> NDArray[np.uint8]:
        from importlib import import_module

        family: Any = import_module(f"stages.generators.{self.recipe.family}")
        facts = ("z_dim", "resolution", "shared_noise")  # all that drawing depends on, in any of the families
        architecture = {name: getattr(self.generator, name) for name in facts if hasattr(self.generator, name)}
        noise = family.NOISES[0] if family.NOISES else "none"
        drawn = [family.draw(architecture, int(seed), noise) for seed in seeds]
        rows = {name: torch.from_numpy(np.stack([row[name] for row in drawn])).to(self.device) for name in drawn[0]}
        classes = torch.arange(len(seeds), device=self.device) % max(self.images.count_of_classes, 1)
        label = self.images.one_hot(classes)
        if label is not None:
            rows["label"] = label
        made = family.render(self.average, rows, psi=1.0, cutoff=None, noise=noise)
        return family.to_uint8(made).cpu().numpy()  # type: ignore[no-any-return]


def faded(images: Tensor, side: int, share: float) -> Tensor:
    """Real images as the generator's are at this level: 2x2 means down to `side`, `share` of them once more."""
    while images.shape[-1] > side:
        images = F.avg_pool2d(images, 2)
    if share:
        coarse = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2, mode="nearest")
        images = images.lerp(coarse, share)
    return images
