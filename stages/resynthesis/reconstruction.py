"""Training of the re-synthesizer on photographs (He et al. 2021, Eq. 1): enlarge what was reduced, and compare.

The training knows one step and its validation; `stages.training.course` repeats it, saves and logs. Everything
random comes from one torch generator, whose state is saved with the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detectors.schedules.steps import halved
from detectors.transfers import sent, told
from pipeline.stage import Rows
from stages.resynthesis.degradations import degraded
from stages.resynthesis.downsampling import by_255, downsample
from stages.resynthesis.fidelity import bicubic, psnr, to_bytes
from stages.resynthesis.losses import ReconstructionLoss
from stages.resynthesis.patches import Patches

SHOWN = 128  # pixels of an image in a picture, cut from its center
COLUMNS = 7  # images in a picture; rows: original, enlarged by repetition, bicubic, re-synthesized
BLOCK_PIXELS = 1 << 18  # of images that are enlarged at once when they are only looked at


@dataclass(frozen=True)
class Schedule:
    """Lengths in images.

    total        end of the training, the warm-up included
    halve        images between two halvings of the learning rates
    validations  measurements on held-out images, evenly spaced; the last one is at the end
    warm_up      first images, that no halving counts
    """

    total: int
    halve: float
    validations: int
    warm_up: int = 0

    def factor(self, seen: int) -> float:
        """Of the learning rates after `seen` images."""
        return halved(seen - self.warm_up, self.halve)

    def validates(self, before: int, after: int) -> bool:
        """Whether a measurement is due between two steps."""
        return after >= self.total or before * self.validations // self.total < after * self.validations // self.total


class Reconstruction:
    """Network, optimizer and data of a training on real images alone."""

    advice = "lower learning_rate"

    def __init__(
        self,
        network: nn.Module,
        loss: ReconstructionLoss,
        patches: Patches,
        held_out: Rows,
        schedule: Schedule,
        *,
        task: str,
        batch: int,
        learning_rate: float,
        random: torch.Generator,
        half: bool = False,
    ) -> None:
        self.network, self.loss, self.patches, self.held_out = network, loss, patches, held_out
        self.schedule, self.task, self.batch, self.random = schedule, task, batch, random
        self.device, self.half = random.device, half
        self.numbers: dict[str, float] = {}
        self.steps = 0
        self.rates = {"resynthesizer": learning_rate}
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "resynthesizer": torch.optim.Adam(network.parameters(), lr=learning_rate)
        }

    def networks(self) -> dict[str, nn.Module]:
        return {"resynthesizer": self.network}

    def all_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return self.optimizers

    def step(self, seen: int, train_generator: bool = True) -> tuple[int, dict[str, float]]:
        """One step after `seen` images; numbers of the batch, and of the held-out images where they are due."""
        del train_generator  # only the joint training has a warm-up
        self.set_rates(seen)
        images = self.patches.draw(self.batch)
        loss, terms = self.reconstruction(downsample(images), images)
        self.update(loss, ("resynthesizer",))
        numbers = told(terms)
        if self.schedule.validates(seen, seen + self.batch):
            numbers |= self.validate()
        self.steps += 1
        return self.batch, numbers

    def reconstruction(self, reduced: Tensor, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of enlarging a degraded copy of `reduced`; `images` are (N, 3, H, W) uint8."""
        made = self.run(self.network, degraded(reduced, self.task, self.random))
        return self.loss(made, by_255(images.float()))

    def run(self, network: nn.Module, given: Tensor) -> Tensor:
        """float32 output of a network that learns, which itself runs in bfloat16 if that is wanted."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.half):
            made: Tensor = network(given)
        return made.float()

    def set_rates(self, seen: int) -> None:
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = self.rates[name] * self.schedule.factor(seen)

    def update(self, loss: Tensor, names: tuple[str, ...]) -> None:
        """One step of these optimizers."""
        for name in names:
            self.optimizers[name].zero_grad(set_to_none=True)
        loss.backward()
        for name in names:
            self.optimizers[name].step()

    def more(self) -> dict[str, Any]:
        """Nothing beside `numbers`."""
        return {}

    def take_back(self, plain: Mapping[str, Any]) -> None:
        """Nothing."""

    def finish(self, seen: int) -> None:
        """Nothing changes at the end."""

    # Held-out images

    def validate(self) -> dict[str, float]:
        """Mean PSNR of the held-out images in dB, beside that of bicubic enlargement, from clean reduced images."""
        return self.fidelity("SR")

    @torch.no_grad()
    def fidelity(self, task: str) -> dict[str, float]:
        """Mean PSNR over the held-out images, of which, with a task other than SR, every reduced one is degraded."""
        random = torch.Generator(device=self.device).manual_seed(0)
        found: dict[str, list[Tensor]] = {"psnr": [], "psnr_bicubic": []}
        for images in self.blocks(self.held_out):
            reduced = degraded(downsample(images), task, random, chance=1.0)
            found["psnr"].append(psnr(to_bytes(self.network(reduced)), images))
            found["psnr_bicubic"].append(psnr(to_bytes(bicubic(reduced)), images))
        return {name: float(torch.cat(values).mean()) for name, values in found.items()}

    def blocks(self, rows: Rows) -> Iterator[Tensor]:
        """Images (n, 3, H, W) uint8 on the device, in order, few enough for memory."""
        height, width = rows.fields["image"].shape[:2]
        for block in rows.blocks("image", max(BLOCK_PIXELS // (height * width), 1)):
            yield sent(block, self.device).permute(0, 3, 1, 2)

    @torch.no_grad()
    def sample(self, seeds: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Images (N, side, side, 3) of a picture; see `COLUMNS`."""
        places = np.arange(COLUMNS) % len(self.held_out)
        whole = torch.from_numpy(self.held_out.array("image", places)).to(self.device).permute(0, 3, 1, 2)
        images = center(whole, SHOWN)
        reduced = downsample(images)
        repeated = reduced.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
        rows = [images, to_bytes(repeated), to_bytes(bicubic(reduced)), to_bytes(self.network(reduced))]
        shown = torch.cat(rows).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        picture: NDArray[np.uint8] = shown[seeds % len(shown)]
        return picture


def center(images: Tensor, side: int) -> Tensor:
    """The middle (N, C, side, side) at most, beginning at multiples of 4."""
    top, left = (max(length - side, 0) // 8 * 4 for length in images.shape[2:])
    return images[:, :, top : top + side, left : left + side]
