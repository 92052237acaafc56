"""Networks of Frank et al. 2020 on DCT coefficients; layers have the names of Keras, see `keras_tensors`.

`Perceptron` without a hidden layer is their ridge or logistic regression; it takes curves as well, as maps of one row.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectors.networks import layers
from detectors.networks.initial_weights import glorot
from detectors.networks.meso import EPSILON

BLOCKS = 10
SMALLEST = 15
"""Side of which `ResidualNetwork` has a place left."""


class SmallNetwork(nn.Module):
    """(N, channels, H, W) standardized coefficients to logits (N, outputs): 3 x 3 convolutions 3, 8, 16 and 32."""

    def __init__(self, shape: tuple[int, int, int], outputs: int = 1) -> None:
        super().__init__()
        channels, height, width = shape
        self.conv2d = nn.Conv2d(channels, 3, 3, padding=1)
        self.conv2d_1 = nn.Conv2d(3, 8, 3, padding=1)
        self.conv2d_2 = nn.Conv2d(8, 16, 3, padding=1)
        self.conv2d_3 = nn.Conv2d(16, 32, 3, padding=1)
        self.dense = layers.Linear(32 * (height // 4) * (width // 4), outputs)

    def maps(self, x: Tensor) -> Tensor:
        """(N, 32, h, w) before the head."""
        x = torch.relu(self.conv2d_1(torch.relu(self.conv2d(x))))
        x = torch.relu(self.conv2d_2(F.avg_pool2d(x, 2)))
        return torch.relu(self.conv2d_3(F.avg_pool2d(x, 2)))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.dense(_flat(self.maps(x)))
        return logits


class ResidualNetwork(nn.Module):
    """(N, channels, H, W) standardized coefficients to logits (N, outputs).

    3 x 3 convolutions 32 and 64 without padding, the largest of 3 x 3, ten blocks of two convolutions 64 (the first
    with ReLU before its batch normalization) and the input added, one more without padding, the mean over places, 256
    hidden values.
    """

    def __init__(self, channels: int, outputs: int = 1) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(channels, 32, 3)
        self.conv2d_1 = nn.Conv2d(32, 64, 3)
        for number in range(2 * BLOCKS):
            self.add_module(f"conv2d_{number + 2}", nn.Conv2d(64, 64, 3, padding=1))
            self.add_module(_keras("batch_normalization", number), nn.BatchNorm2d(64, eps=EPSILON, momentum=0.01))
        self.last = f"conv2d_{2 * BLOCKS + 2}"
        self.add_module(self.last, nn.Conv2d(64, 64, 3))
        self.dense = layers.Linear(64, 256)
        self.dropout = layers.Dropout(0.5)
        self.dense_1 = layers.Linear(256, outputs)

    def maps(self, x: Tensor) -> Tensor:
        """(N, 64, h, w) before the head."""
        x = F.max_pool2d(torch.relu(self.conv2d_1(torch.relu(self.conv2d(x)))), 3)
        for number in range(0, 2 * BLOCKS, 2):
            y = self._normalized(number, torch.relu(self._convolved(number, x)))
            x = torch.relu(self._normalized(number + 1, self._convolved(number + 1, y)) + x)
        return torch.relu(self.get_submodule(self.last)(x))

    def _convolved(self, number: int, x: Tensor) -> Tensor:
        found: Tensor = self.get_submodule(f"conv2d_{number + 2}")(x)
        return found

    def _normalized(self, number: int, x: Tensor) -> Tensor:
        found: Tensor = self.get_submodule(_keras("batch_normalization", number))(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.dense(self.maps(x).mean(dim=(2, 3))))
        logits: Tensor = self.dense_1(self.dropout(hidden))
        return logits


class Perceptron(nn.Module):
    """(N, channels, H, W) standardized coefficients to logits (N, outputs), by hidden layers with ReLU.

    widths  of the hidden layers
    l1, l2  factors of absolute values and squares of weights in the loss: of the first layers, or of the only one
    """

    def __init__(
        self, shape: tuple[int, int, int], widths: tuple[int, ...], outputs: int = 1, l1: float = 0.0, l2: float = 0.0
    ) -> None:
        super().__init__()
        self.l1, self.l2 = l1, l2
        sizes = (shape[0] * shape[1] * shape[2], *widths, outputs)
        self.names = [_keras("dense", number) for number in range(len(sizes) - 1)]
        for name, (inputs, wide) in zip(self.names, itertools.pairwise(sizes), strict=True):
            self.add_module(name, layers.Linear(inputs, wide))

    def forward(self, x: Tensor) -> Tensor:
        x = _flat(x)
        for name in self.names[:-1]:
            x = torch.relu(self.get_submodule(name)(x))
        logits: Tensor = self.get_submodule(self.names[-1])(x)
        return logits

    def penalty(self) -> Tensor | float:
        """What a training adds to its loss."""
        weights = [self.get_submodule(name).weight for name in self.names[:-1] or self.names]
        total: Tensor | float = 0.0
        for weight in weights:
            assert isinstance(weight, Tensor)
            if self.l1:
                total = total + self.l1 * weight.abs().sum()
            if self.l2:
                total = total + self.l2 * weight.square().sum()
        return total


def _keras(kind: str, number: int) -> str:
    return f"{kind}_{number}" if number else kind


def _flat(x: Tensor) -> Tensor:
    """Row, column, channel."""
    return x.permute(0, 2, 3, 1).flatten(1)


def build(settings: Any, channels: int, sides: tuple[int, int], outputs: int) -> nn.Module:
    """A new network, its weights drawn as Keras does. Raises ValueError where rows are too small."""
    smallest = {"frank_cnn": 4, "frank_resnet": SMALLEST}.get(settings.architecture, 1)
    if min(sides) < smallest:
        raise ValueError(
            f"'{settings.architecture}' needs rows of {smallest} x {smallest} or more, not {sides[0]} x {sides[1]}"
        )
    shape = (channels, *sides)
    network: nn.Module
    if settings.architecture == "frank_cnn":
        network = SmallNetwork(shape, outputs)
    elif settings.architecture == "frank_resnet":
        network = ResidualNetwork(channels, outputs)
    else:
        network = Perceptron(shape, settings.widths, outputs, settings.l1, settings.l2)
    glorot(network)
    return network
