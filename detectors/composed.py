"""The network of `detectors.deep` and its training; imported where torch is at hand.

Preprocessing is the network's first layer: what was learned about it (statistics of
coefficients) is a part of its state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detectors import preprocessing
from detectors.augmenting import augmented, place
from detectors.captured import Captured, recording
from detectors.composition import Config
from detectors.contract import Batches, Control, Examples
from detectors.framing import resized_sides
from detectors.networks.layers import draw_from
from detectors.networks.receptive_field import fields_of
from detectors.normalization import band_mask
from detectors.optimization import optimizer_of
from detectors.seeding import seeded
from detectors.training import Course
from detectors.transfers import Fetched, padded

BLOCK_ROWS = 512


class Composed(nn.Module):
    """Rows as stored (n, *shape) -> what the head reads, (n, outputs) or (n, outputs, h, w) float32."""

    mean: Tensor
    scale: Tensor

    def __init__(self, config: Config, shape: tuple[int, ...], axes: tuple[str, ...]) -> None:
        super().__init__()
        self.preprocessing = config.preprocessing
        self.in_half = config.training.precision == "bfloat16"
        self.order, (channels, height, width) = preprocessing.layout(shape, axes)
        self.standardizes = config.standardizes
        if self.standardizes:
            self.register_buffer("mean", torch.empty(shape))
            self.register_buffer("scale", torch.empty(shape))
        sides = preprocessing.sides_of(config.preprocessing, channels, height, width)
        band = config.preprocessing.band
        self.mask = None if band is None else band_mask(*sides, band)
        self.kept: Tensor | None = None  # the mask on the device
        module = import_module(config.network.code())
        self.network: nn.Module = module.build(config.network, channels, sides, config.head.outputs)

    def forward(self, rows: Tensor) -> Tensor:
        if self.mask is not None and (self.kept is None or self.kept.device != rows.device):
            self.kept = torch.from_numpy(self.mask).to(rows.device)
        learned = (self.mean, self.scale) if self.standardizes else None
        images = preprocessing.apply(self.preprocessing, rows, self.order, learned, self.kept)
        with self._precision(rows.device.type):
            outputs: Tensor = self.network(images.contiguous(memory_format=torch.channels_last))
        return outputs.float()

    def _precision(self, device: str) -> AbstractContextManager[Any]:
        return torch.autocast(device, dtype=torch.bfloat16) if self.in_half else nullcontext()


def without_values(config: Config, shape: tuple[int, ...], axes: tuple[str, ...]) -> Composed:
    """The network on torch's meta device; nothing is drawn."""
    with torch.device("meta"):
        return Composed(config, shape, axes)


def field_of_a_cell(config: Config, shape: tuple[int, ...], axes: tuple[str, ...]) -> dict[str, Any] | None:
    """What of a row one cell of the last map sees, (along rows, along columns): sizes, distances, and the first place.

    In places of the network's input, and of the row as stored; a filter that resizes adds its own width to the latter.
    None: a cell sees all.
    """
    network = without_values(config, shape, axes).network
    mapped = getattr(network, "maps", None) is not None or config.network.has_cells
    if config.preprocessing.spectrum is not None or not mapped:
        return None
    _, (channels, height, width) = preprocessing.layout(shape, axes)
    fields = fields_of(network, channels)
    seen = {name: [getattr(one, name) for one in fields] for name in ("size", "stride", "first")}
    resize = config.preprocessing.resize
    sides = (height, width) if resize is None else resized_sides(height, width, resize.size, resize.sides)
    scales = [stored / side for stored, side in zip((height, width), sides, strict=True)]
    stored = {
        name: [scale * number for scale, number in zip(scales, seen[name], strict=True)] for name in ("size", "stride")
    }
    return {"input": seen, "stored": stored}


def new(
    config: Config, shape: tuple[int, ...], axes: tuple[str, ...], learned: Mapping[str, NDArray[Any]], control: Control
) -> Composed:
    """The network with the weights of `control.seed`, on its device. learned: statistics to standardize with."""
    with seeded(control.seed):
        network = Composed(config, shape, axes)
    for name, values in learned.items():
        getattr(network, name).copy_(torch.from_numpy(values))
    return network.to(control.device)


def loaded(
    config: Config, shape: tuple[int, ...], axes: tuple[str, ...], tensors: Mapping[str, NDArray[Any]], device: str
) -> Composed:
    """The network of a state, ready to score."""
    network = without_values(config, shape, axes)
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}, assign=True)
    return network.to(device).eval()


@torch.inference_mode()
def read(
    network: Composed, blocks: Iterable[NDArray[Any]], micro_batch: int, reading: Callable[[Tensor], Tensor]
) -> NDArray[np.float64]:
    """Numbers (n,) that `reading` makes of outputs for rows as stored, in micro-batches padded with zeros."""
    device = next(network.parameters()).device
    waiting: list[Fetched] = []
    parts: list[NDArray[np.float64]] = []
    for rows in blocks:
        made = [reading(network(some)) for some in padded(rows, micro_batch, device)]
        if made:
            waiting.append(Fetched(torch.cat(made)[: len(rows)].double()))
        parts += [one.array() for one in waiting[:-1]]  # read after the next block has been queued: a GPU never waits
        del waiting[:-1]
    parts += [one.array() for one in waiting]
    return np.concatenate(parts) if parts else np.empty(0)


class Learning:
    """A detector in training (`detectors.training.Learner`); a step is an epoch."""

    advice = "lower learning_rate"

    def __init__(self, config: Config, train: Examples, val: Examples, control: Control) -> None:
        self.config, self.val, self.control, self.device = config, val, control, control.device
        settings = config.training
        learned = preprocessing.statistics(train, control) if config.standardizes else {}
        wanted = place(config.augmentation, control.device)
        self.batches: Batches = train.batches(settings.batch, control.seed, settings.balance, wanted)
        self.network = new(config, train.shape, train.axes, learned, control)
        if control.weights is not None:
            started = {name: torch.from_numpy(np.array(value)) for name, value in control.weights.items()}
            self.network.network.load_state_dict(started)
        self.random = draw_from(self.network, control.seed)
        self.penalty = getattr(self.network.network, "penalty", lambda: 0.0)
        self.optimizer = optimizer_of(settings, self.network.parameters())
        self.step = Captured(lambda *given: self._step(*given), recording(self.device, self.random))
        self.steps = 0
        self.numbers: dict[str, float] = {}

    def networks(self) -> dict[str, nn.Module]:
        return {"detector": self.network}

    def all_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"detector": self.optimizer}

    def more(self) -> dict[str, Any]:
        return {"batches": dict(self.batches.state())}

    def take_back(self, plain: Mapping[str, Any]) -> None:
        self.batches.load_state(plain["batches"])

    def epoch(self, course: Course) -> tuple[int, dict[str, float]]:
        """One pass over the training rows, and what validation says after it."""
        rate = self.config.training.learning_rate * self.config.rate_factor(course.log)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        losses: list[Tensor] = []
        counts: list[int] = []
        seed, number = self.control.seed, len(course.log)
        for rows, labels in augmented(self.batches, self.config.augmentation, seed, number, self.device):
            if len(labels) == 1 and losses:  # what is left over of an epoch; batch normalization has no spread of one
                continue
            losses.append(self.step(rate, rows, labels))
            counts.append(len(labels))
            self.steps += 1
        weights = torch.tensor(counts, dtype=torch.float64)
        loss = float((torch.stack(losses).double().cpu() * weights).sum() / weights.sum())
        return sum(counts), {"loss": loss, **self.validation()}

    def _step(self, rows: Tensor, labels: Tensor) -> Tensor:
        """One update of the weights by a batch; its loss."""
        loss = self.config.head.loss(self.network(rows), labels.float())
        self.optimizer.zero_grad(set_to_none=True)
        (loss + self.penalty()).backward()
        self.optimizer.step()
        return loss.detach()

    def validation(self) -> dict[str, float]:
        """Loss and accuracies on validation rows, both classes with equal weight."""
        self.network.eval()
        head, fake = self.config.head, self.val.labels == 1
        decisions = self._read(head.decision)
        with np.errstate(invalid="ignore"):  # numbers that are not finite end the training
            losses = np.logaddexp(0, np.where(fake, -decisions, decisions))
        found = {
            "validation_loss": balanced(losses, fake),
            "validation_accuracy": balanced((decisions > 0) == fake, fake),
        }
        if self.config.training.select == "cell_accuracy":
            shares = self._read(head.fake_share)
            found["validation_cell_accuracy"] = balanced(np.where(fake, shares, 1 - shares), fake)
        return found

    def _read(self, reading: Callable[[Tensor], Tensor]) -> NDArray[np.float64]:
        """Numbers (n,) of all validation rows."""
        return read(self.network, self.val.blocks(BLOCK_ROWS), self.config.micro_batch, reading)


def balanced(values: NDArray[Any], fake: NDArray[np.bool_]) -> float:
    """Mean over the classes of the mean of each class, so that class counts do not choose the epoch."""
    return float((values[fake].mean() + values[~fake].mean()) / 2)
