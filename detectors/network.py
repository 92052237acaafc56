"""The network of `detectors.cnn` and its training steps; the only detector module that needs torch when imported.

Preprocessing is the network's first layer: what was learned about it (coefficient statistics) is saved with the
weights. It repeats `detectors.normalization` in torch, so that batches that lie in GPU memory stay there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detectors.cnn import Config
from detectors.normalization import band_mask


class Network(nn.Module):
    """Rows as stored (n, *shape) -> logits (n,), higher = more fake."""

    mean: Tensor
    scale: Tensor
    kept: Tensor | None  # (H, W) bool: frequencies of the band

    def __init__(self, config: Config, shape: tuple[int, ...], axes: tuple[str, ...]) -> None:
        super().__init__()
        self.normalization = config.normalization
        self.head = config.head
        self.layout = layout(shape, axes)
        if config.normalization == "standardize":
            self.register_buffer("mean", torch.empty(shape))
            self.register_buffer("scale", torch.empty(shape))
        channels, height, width = self.layout[1]
        self.kept = None
        stages: list[nn.Module] = []
        for number, wide in enumerate(config.widths):
            if number:
                stages.append(nn.AvgPool2d(2))
                height, width = height // 2, width // 2
            stages += [nn.Conv2d(channels, wide, 3, padding=1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
            channels = wide
        if min(height, width) < 1:
            raise ValueError(f"rows of shape {shape} are too small for {len(config.widths)} widths; give fewer")
        self.features = nn.Sequential(*stages)
        self.weight = nn.Parameter(torch.empty(channels * (height * width if config.head == "flatten" else 1)))
        self.bias = nn.Parameter(torch.empty(()))

    def forward(self, rows: Tensor) -> Tensor:
        values = rows.float()
        if self.normalization == "standardize":
            values = (values - self.mean) * self.scale
        elif self.normalization == "pixels":
            values = values / 127.5 - 1
        order, shape = self.layout
        images = values.reshape(-1, *shape) if order == "first" else values.movedim(-1, 1)
        if self.normalization == "percentile":
            images = percentile_scaled(images)
        if self.kept is not None:
            images = torch.where(self.kept, images, 0)
        maps = self.features(images.contiguous(memory_format=torch.channels_last))
        flat = maps.mean(dim=(2, 3)) if self.head == "pool" else maps.contiguous().flatten(1)
        # a sum per row, not a matrix product, whose order of additions may depend on the place in the batch
        return (flat * self.weight).sum(dim=1) + self.bias


def layout(shape: tuple[int, ...], axes: tuple[str, ...]) -> tuple[str, tuple[int, int, int]]:
    """("first" or "last", (C, H, W)): where a row's channels are. Raises ValueError unless it is a map or a picture."""
    if axes == ("row", "column"):
        return "first", (1, shape[0], shape[1])
    if axes == ("channel", "row", "column"):
        return "first", (shape[0], shape[1], shape[2])
    if axes == ("row", "column", "channel"):
        return "last", (shape[2], shape[0], shape[1])
    named = f"the axes ({', '.join(axes)})" if axes else "axes that nobody named"
    raise ValueError(
        f"a CNN reads maps with the axes (row, column), (channel, row, column) or (row, column, channel), not rows of "
        f"shape {shape} with {named}; choose another "
        "feature, or name the axes in the `Field` of its stage"
    )


def percentile_scaled(images: Tensor) -> Tensor:
    """(n, C, H, W) to [-1, 1] by the 5th and 95th percentile of each image and channel, clipped; a flat map is 0."""
    flat = images.flatten(2)
    ranked = flat.sort(dim=2).values
    low, high = (_percentile(ranked, share) for share in (0.05, 0.95))
    spread = high - low
    scaled = 2 * ((flat - low) / torch.where(spread > 0, spread, 1) - 0.5)
    return torch.where(spread > 0, scaled.clamp(-1, 1), 0).reshape(images.shape)


def _percentile(ranked: Tensor, share: float) -> Tensor:
    """Linear interpolation between neighbors of sorted values, as numpy's default; keeps the last axis."""
    place = share * (ranked.shape[-1] - 1)
    below = int(place)
    above = min(below + 1, ranked.shape[-1] - 1)
    return torch.lerp(ranked[..., below : below + 1], ranked[..., above : above + 1], place - below)


def empty_network(config: Config, shape: tuple[int, ...], axes: tuple[str, ...], device: str) -> Network:
    """A network without values; nothing is drawn from torch's global generator."""
    with torch.device("meta"):
        network = Network(config, shape, axes)
    network = network.to_empty(device=device)
    if config.band is not None:
        _, height, width = network.layout[1]
        network.kept = torch.from_numpy(band_mask(height, width, config.band)).to(device)
    return network


def load_network(
    config: Config, shape: tuple[int, ...], axes: tuple[str, ...], tensors: Mapping[str, NDArray[Any]], device: str
) -> Network:
    """The network of a state, ready to score."""
    network = empty_network(config, shape, axes, device)
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in tensors.items()})
    return network.eval()


@torch.inference_mode()
def decisions(network: Network, rows: NDArray[Any], micro_batch: int, device: str) -> NDArray[np.float64]:
    """Logits (n,) of rows as stored, in micro-batches padded with zeros to one size."""
    result = np.empty(len(rows))
    for start in range(0, len(rows), micro_batch):
        some = rows[start : start + micro_batch]
        padded = np.zeros((micro_batch, *rows.shape[1:]), dtype=rows.dtype)
        padded[: len(some)] = some
        logits = network(torch.from_numpy(padded).to(device))
        result[start : start + len(some)] = logits[: len(some)].double().cpu().numpy()
    return result


class Trainer:
    """Network and optimizer of one fit; `everything` and `load` carry both across a kill."""

    def __init__(
        self,
        config: Config,
        shape: tuple[int, ...],
        axes: tuple[str, ...],
        statistics: Mapping[str, NDArray[Any]],
        seed: int,
        device: str,
    ) -> None:
        self.config, self.device = config, device
        self.fixed = set(statistics)
        self.network = empty_network(config, shape, axes, device)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, tensor in self.network.state_dict().items():
                if name in statistics:
                    tensor.copy_(torch.from_numpy(statistics[name]))
                elif name == "weight" or tensor.ndim == 4:
                    fan_in = tensor.numel() if name == "weight" else tensor[0].numel()
                    drawn = torch.randn(tensor.shape, generator=generator)
                    tensor.copy_(drawn * (1.0 if name == "weight" else 2.0**0.5) / fan_in**0.5)
                else:  # of batch normalization: scale and running variance 1, the rest 0
                    tensor.fill_(1 if name.endswith(("weight", "running_var")) else 0)
        self.parameters = dict(self.network.named_parameters())
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=config.learning_rate, weight_decay=config.weight_decay
        )

    def step(self, features: Tensor, labels: Tensor) -> None:
        """One update of the weights by a batch."""
        self.network.train()
        logits = self.network(features.to(self.device))
        loss = nn.functional.binary_cross_entropy_with_logits(logits, labels.to(self.device).float())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def decisions(self, blocks: Iterable[NDArray[Any]]) -> NDArray[np.float64]:
        self.network.eval()
        return np.concatenate([decisions(self.network, b, self.config.micro_batch, self.device) for b in blocks])

    def weights(self) -> dict[str, NDArray[Any]]:
        """Copies of what was learned; statistics are not repeated."""
        found = self.network.state_dict().items()
        return {name: np.array(tensor.cpu().numpy()) for name, tensor in found if name not in self.fixed}

    def everything(self) -> dict[str, NDArray[Any]]:
        """Weights and the optimizer's memory as named arrays."""
        result = {f"network.{name}": value for name, value in self.weights().items()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state[parameter].items():
                result[f"optimizer.{key}.{name}"] = np.array(value.cpu().numpy())
        return result

    def load(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Go back to what `everything` returned."""
        current = self.network.state_dict()
        with torch.no_grad():
            for name, value in tensors.items():
                kind, _, rest = name.partition(".")
                if kind == "network":
                    current[rest].copy_(torch.from_numpy(np.array(value)))
                    continue
                key, _, parameter = rest.partition(".")
                place = "cpu" if key == "step" else self.device
                self.optimizer.state[self.parameters[parameter]][key] = torch.from_numpy(np.array(value)).to(place)
