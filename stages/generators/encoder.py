"""A network that tells from an image of a generator the latent that it was made from, and the course of its training.

After Bau et al. 2019 (released program, for ProGAN at 256 px): a ResNet-18 without pooling down to 8 x 8, then
inverters of single layers, and a head on 4 x 4; it learns from samples of the generator alone. There its parts are
trained one by one; here all of it is, on the latent and on the image that the told latent gives back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from detectors.networks.resnet import ResNet
from detectors.transfers import told
from pipeline.errors import StageError
from stages.evaluation.json_file import read_json
from stages.generators.layers import normalize

FILE, CARD = "encoder.safetensors", "card.json"

SMALLEST, LARGEST = 8, 256
"""Sides of what the network sees; larger images are reduced to the largest one by means."""

FRESH = 1 << 24
"""First seed of the latents that a card is about; trainings draw theirs in another way."""

BLOCK = 16

FALLS = (0.2, 0.6)
"""Parts of a course at which its rate falls to a tenth (Bau et al. 2019)."""


class Inverter(nn.Module):
    """(N, width, h, w) to the same shape: values scaled over channels, two 3 x 3 convolutions, one 1 x 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.bn1(self.conv1(normalize(x))), 0.2)
        x = F.leaky_relu(self.bn2(self.conv2(x)), 0.2)
        found: Tensor = self.conv3(x)
        return found


class Encoder(nn.Module):
    """(N, 3, side, side) float32 RGB, about -1..1, to latents (N, z_dim) whose mean square is 1.

    side   of the images: 8 times a power of two
    width  channels of the first stage of the ResNet-18
    """

    def __init__(self, side: int, z_dim: int, width: int = 64) -> None:
        super().__init__()
        halvings = int(math.log2(min(side, LARGEST) // SMALLEST))
        strides = [2 if halvings > place else 1 for place in (4, 2, 1, 0)]
        early = 2 if halvings > 3 else 1
        self.trunk = ResNet(
            18, 8 * width, kernel=7 if early == 2 else 3, early_strides=(early, 0), strides=tuple(strides),
            patches=True, width=width,
        )  # fmt: skip
        self.inverters = nn.ModuleList(Inverter(8 * width) for _ in range(3))
        self.head = nn.Conv2d(8 * width, z_dim, SMALLEST // 2)

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[2] > LARGEST:
            images = F.avg_pool2d(images, images.shape[2] // LARGEST)
        x = self.trunk(images)
        for number, inverter in enumerate(self.inverters):
            x = inverter(x)
            x = F.avg_pool2d(x, 2) if number == 1 else x
        return normalize(self.head(x).flatten(1))


class Encoding:
    """An encoder in training on samples of a frozen generator (`stages.training.course.Game`).

    generate  latents (N, z_dim) to images; weight: of the images' mean absolute difference
    falling   steps of the course, in parts of which the rate falls; none: it stays
    """

    advice = "lower learning_rate"

    def __init__(
        self,
        generate: Any,
        encoder: nn.Module,
        *,
        weight: float,
        rate: float,
        batch: int,
        random: torch.Generator,
        falling: int | None = None,
    ) -> None:
        self.generate, self.weight, self.batch = generate, weight, batch
        self.random: torch.Generator | None = random
        self.device = random.device
        self.encoder = encoder.to(random.device)
        self.rate, self.falling = rate, falling
        self.optimizer = torch.optim.Adam(self.encoder.parameters(), lr=rate)
        self.steps = 0
        self.numbers: dict[str, float] = {}

    def networks(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder}

    def all_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"encoder": self.optimizer}

    def more(self) -> dict[str, Any]:
        return {}

    def take_back(self, plain: Mapping[str, Any]) -> None:
        """There is nothing more."""

    def step(self, seen: int, train_generator: bool = True) -> tuple[int, dict[str, float]]:
        """One step of Adam on fresh latents."""
        if self.falling is not None:
            fallen = sum(self.steps >= part * self.falling for part in FALLS)
            self.optimizer.param_groups[0]["lr"] = self.rate * 0.1**fallen
        self.encoder.train()
        z = torch.randn((self.batch, self.generate.z_dim), generator=self.random, device=self.device)
        with torch.no_grad():
            images = self.generate(z)
        found = self.encoder(images)
        latent = (found - normalize(z)).square().mean()
        image = (self.generate(found) - images).abs().mean() if self.weight else latent.new_zeros(())
        self.optimizer.zero_grad(set_to_none=True)
        (latent + self.weight * image).backward()
        self.optimizer.step()
        self.steps += 1
        return self.batch, told({"latent": latent.detach(), "image": image.detach()})

    def finish(self, seen: int) -> None:
        """Nothing changes at the end."""

    @torch.no_grad()
    def sample(self, seeds: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Images in pairs: of a fresh latent, and of what the encoder tells of it."""
        found = []
        for seed in seeds.tolist():
            images = self.generate(self.generate.latents(np.array([FRESH + seed // 2])))
            images = self.generate(told_latents(self.encoder, images)) if seed % 2 else images
            found.append(self.generate.pixels(images))
        return np.concatenate(found)


@torch.no_grad()
def told_latents(encoder: nn.Module, images: Tensor) -> Tensor:
    """(N, z_dim) of images (N, 3, side, side), each of its own image alone."""
    encoder.eval()
    found: Tensor = encoder(images)
    return found


@torch.no_grad()
def measured(game: Encoding, count: int) -> dict[str, float]:
    """Of `count` fresh samples: mean squares and differences of what is told, and of other samples in its place.

    latent    mean square of the difference of latents, whose mean square is 1; of two random ones it is 2
    image     mean absolute difference of images (-1 to 1) that are given back; other: of two samples
    """
    sums = dict.fromkeys(("latent", "image", "other"), 0.0)
    for start in range(0, count, BLOCK):
        z = game.generate.latents(np.arange(FRESH + start, FRESH + min(start + BLOCK, count)))
        images = game.generate(z)
        found = told_latents(game.encoder, images)
        pairs = {"latent": (found - normalize(z)).square(), "image": (game.generate(found) - images).abs(),
                 "other": (images.roll(1, dims=0) - images).abs()}  # fmt: skip
        for name, values in pairs.items():
            sums[name] += float(values.flatten(1).mean(dim=1).double().sum())
    return {name: value / count for name, value in sums.items()}


def read(folder: Path, device: str) -> Encoder:
    """The encoder in the artifact of `train_encoder`. Raises StageError where it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    card = read_json(folder / CARD)
    encoder = Encoder(card["side"], card["z_dim"], card["width"])
    try:
        encoder.load_state_dict(load_file(folder / FILE))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise StageError(f"{folder / FILE} is no encoder ({str(error)[:80]}); run its node again") from None
    return encoder.to(device).eval()
