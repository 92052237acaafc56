"""The course in which a shift of a latent space is found, and what it does to a detector (Chai et al. 2020, Eq. 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from detectors.transfers import Numbers, told
from pipeline.errors import StageError
from pipeline.stage import Artifact
from stages.evaluation.score_shifts import mean_interval
from stages.generators.latent_shifts import Shift, Space

SCALES = (-2.0, -1.0, 0.0, 1.0, 2.0)
"""At which a card tells what the detector says."""

FRESH = 1 << 24
"""First seed of the latents that a card is about; trainings draw theirs in another way."""

BLOCK = 32

LEAST = 1e-6
"""Distance of a probability to 0 and 1 from which on its log-odds grow no further."""

Generate = Callable[[Tensor, Shift | None], Tensor]
Judge = Callable[[Tensor], Tensor]
"""Images to logits of fake (N, cells)."""


class Vector(nn.Module):
    """The shift that is learned."""

    def __init__(self, size: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(size, dtype=dtype))


class Shifting:
    """A shift in training (`stages.training.course.Game`).

    generate  latents (N, z_dim) to images, moved by a shift or not; distance: of images to others, (N,)
    falling   steps over which the rate falls to 0 along a cosine; none: it stays
    """

    advice = "lower learning_rate"

    def __init__(
        self,
        generate: Any,
        judge: Judge,
        distance: Callable[[Tensor, Tensor], Tensor],
        *,
        space: Space,
        size: int,
        weight: float,
        rate: float,
        batch: int,
        random: torch.Generator,
        falling: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.generate, self.judge, self.distance = generate, judge, distance
        self.space, self.size, self.weight, self.batch = space, size, weight, batch
        self.random: torch.Generator | None = random
        self.device = random.device
        self.shift = Vector(size, dtype).to(random.device)
        self.rate, self.falling = rate, falling
        self.optimizer = torch.optim.Adam(self.shift.parameters(), lr=rate)
        self.steps = 0
        self.numbers: dict[str, float] = {}

    def networks(self) -> dict[str, nn.Module]:
        return {"shift": self.shift}

    def all_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"shift": self.optimizer}

    def more(self) -> dict[str, Any]:
        return {}

    def take_back(self, plain: Mapping[str, Any]) -> None:
        """There is nothing more."""

    def moved(self, scale: float) -> Shift:
        """The shift as it is now, times `scale`."""
        return Shift(self.shift.shift * scale, self.space)

    def drawn(self) -> Tensor:
        """Latents of a step, (batch, z_dim)."""
        return torch.randn((self.batch, self.generate.z_dim), generator=self.random, device=self.device)

    def loss(self, z: Tensor) -> tuple[Tensor, Numbers]:
        """Equation 3 for some latents, and its parts."""
        with torch.no_grad():
            plain = self.generate(z, None)
        moved = self.generate(z, self.moved(1.0))
        logits = self.judge(moved)
        fake, apart = F.softplus(-logits).mean(), self.distance(plain, moved).mean()
        shares = logits.detach().sigmoid().mean(dim=1)
        numbers = {"probability_of_fake": shares.mean(), "called_fake": (shares > 0.5).float().mean()}
        parts = {"classifier": fake, "distance": apart, **numbers}
        return fake + self.weight * apart, {name: value.detach() for name, value in parts.items()}

    def step(self, seen: int, train_generator: bool = True) -> tuple[int, dict[str, float]]:
        """One step of Adam."""
        if self.falling is not None:
            part = min(self.steps / self.falling, 1.0)
            self.optimizer.param_groups[0]["lr"] = self.rate * (1 + math.cos(math.pi * part)) / 2
        loss, numbers = self.loss(self.drawn())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.steps += 1
        return self.batch, told({"loss": loss, **numbers})

    def finish(self, seen: int) -> None:
        """Nothing changes at the end."""

    @torch.no_grad()
    def sample(self, seeds: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Lines of one latent each, moved by -3 to 3 times the shift: image k has latent k // 7 and scale k % 7 - 3."""
        found = []
        for seed in seeds.tolist():
            z = self.generate.latents(np.array([FRESH + seed // 7]))
            found.append(self.generate.pixels(self.generate(z, self.moved(float(seed % 7 - 3)))))
        return np.concatenate(found)


@torch.no_grad()
def measured(game: Shifting, model: Artifact, count: int, device: str) -> dict[str, Any]:
    """What a detector says, by its own way from a picture to a score, of fresh latents moved by several scales.

    by_scale  scale -> mean probability of fake and its 95 % interval, share that is called fake, mean distance to the
              images as they are, mean log-odds of fake
    rises     mean change of the probability from one scale to the next, -1 to 0 and 0 to 1, with its interval
    rises_in_log_odds  the same of the log-odds, which change where a detector is sure already
    relative_size  length of the shift over that of a latent of its dimension on average

    Raises StageError where the detector has no way from a picture to its score.
    """
    from stages.predict import load

    asked = load(model.path, device=device, as_class="fake")
    seeds = np.arange(FRESH, FRESH + count)
    blocks = [seeds[start : start + BLOCK] for start in range(0, count, BLOCK)]
    scores: dict[float, Any] = {scale: [] for scale in SCALES}
    apart: dict[float, Any] = {scale: [] for scale in SCALES}
    for block in blocks:
        z = game.generate.latents(block)
        plain = game.generate(z, None)
        for scale in SCALES:
            images = game.generate(z, game.moved(scale))
            apart[scale].append(game.distance(plain, images).cpu().numpy())
            said = list(asked.scored(list(game.generate.pixels(images))))
            if wrong := [one.error for one in said if one.error]:
                raise StageError(f"images of the generator cannot be scored by '{model.node}': {wrong[0]}")
            scores[scale] += [one.scores[0] for one in said]
    scores = {scale: np.array(values, np.float64) for scale, values in scores.items()}
    apart = {scale: float(np.concatenate(values).mean()) for scale, values in apart.items()}
    groups, threshold = np.arange(count), asked.threshold()
    odds = {scale: log_odds(values) for scale, values in scores.items()}
    by_scale = {}
    for scale, values in scores.items():
        mean, low, high = mean_interval(values, groups, (0.0, 1.0))
        by_scale[f"{scale:g}"] = {
            "probability_of_fake": mean, "interval": [low, high], "called_fake": float((values >= threshold).mean()),
            "distance": apart[scale], "log_odds": float(odds[scale].mean()),
        }  # fmt: skip

    def rises(found: Mapping[float, NDArray[np.float64]], most: float) -> dict[str, list[float]]:
        return {
            f"{before:g} to {after:g}": list(mean_interval(found[after] - found[before], groups, (-most, most)))
            for before, after in ((-1.0, 0.0), (0.0, 1.0))
        }

    length = float(game.shift.shift.double().norm())
    return {
        "images": count, "by_scale": by_scale, "rises": rises(scores, 1.0),
        "rises_in_log_odds": rises(odds, 2 * float(log_odds(np.ones(1))[0])), "relative_size": length / game.size**0.5,
    }  # fmt: skip


def log_odds(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """ln (p / (1 - p)), of p at least LEAST away from 0 and 1."""
    inside = probabilities.clip(LEAST, 1 - LEAST)
    return np.log(inside) - np.log1p(-inside)  # type: ignore[no-any-return]
