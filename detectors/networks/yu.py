"""The image classifier of Yu et al. 2019 (GAN fingerprints): the discriminator of ProGAN with a label's logits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from detectors.networks import layers
from detectors.networks.initial_weights import normal

BASE, WIDEST = 1024, 512
"""A map of side s has min(WIDEST, 2 BASE / s) channels before it is halved."""


class Scaled(nn.Module):
    """Weights that are scaled when used, and a bias."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(normal(*shape)), nn.Parameter(torch.zeros(shape[0]))


class ImageClassifier(nn.Module):
    """(N, channels, side, side) values -1..1, side a power of two from 8 on, to logits (N, outputs).

    Weights are multiplied by gain / sqrt(inputs) when used (equalized learning rate), so they are drawn from N(0, 1).
    """

    def __init__(self, side: int, outputs: int = 2, channels: int = 3) -> None:
        super().__init__()
        self.gains: dict[str, float] = {}
        inputs = channels
        self.sides = [side >> step for step in range(side.bit_length() - 3)]
        for one in self.sides:
            narrow, wide = (min(WIDEST, count * BASE // one) for count in (2, 4))
            self._add(f"{one}x{one}/Conv0", (narrow, inputs, 3, 3))
            self._add(f"{one}x{one}/Conv1", (wide, narrow, 3, 3))
            inputs = wide
        self._add("4x4/Conv0", (WIDEST, inputs, 3, 3))
        self._add("4x4/Dense1", (WIDEST, WIDEST * 16))
        self._add("4x4/Dense2", (outputs, WIDEST), gain=1.0)

    def _add(self, name: str, shape: tuple[int, ...], gain: float = math.sqrt(2)) -> None:
        self.add_module(name, Scaled(shape))
        self.gains[name] = gain / math.sqrt(math.prod(shape[1:]))

    def forward(self, x: Tensor) -> Tensor:
        for side in self.sides:
            x = self._convolved(x, f"{side}x{side}/Conv0")
            x = F.avg_pool2d(self._convolved(x, f"{side}x{side}/Conv1"), 2)
        x = self._convolved(x, "4x4/Conv0").contiguous().flatten(1)  # channel, row, column
        x = F.leaky_relu(layers.linear(x, *self._scaled("4x4/Dense1"), self.training), 0.2)
        return layers.linear(x, *self._scaled("4x4/Dense2"), self.training)

    def _convolved(self, x: Tensor, name: str) -> Tensor:
        """3 x 3 with the picture mirrored at its border, and leaky ReLU."""
        for axis in (2, 3):
            last = x.shape[axis] - 1
            x = torch.cat([x.narrow(axis, 1, 1), x, x.narrow(axis, last - 1, 1)], axis)
        return F.leaky_relu(F.conv2d(x, *self._scaled(name)), 0.2)

    def _scaled(self, name: str) -> tuple[Tensor, Tensor]:
        layer = self.get_submodule(name)
        assert isinstance(layer, Scaled)
        return layer.weight * self.gains[name], layer.bias


def of_tensorflow(weights: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """`<side>/<layer>/<part>` to the names here; kernels (H, W, in, out) to (out, in, H, W), (in, out) to (out, in)."""
    found = {}
    for name, value in weights.items():
        layer, _, part = name.rpartition("/")
        value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
        found[f"{layer}.{part}"] = np.ascontiguousarray(value)
    return found


def build(settings: Any, channels: int, sides: tuple[int, int], outputs: int) -> nn.Module:
    """A new network. Raises ValueError unless rows are squares of a power of two from 8 on."""
    del settings
    side = sides[0]
    if sides != (side, side) or side < 8 or side & (side - 1):
        raise ValueError(
            "the classifier of Yu et al. needs squares whose side is a power of two from 8 on, not "
            f"{side} x {sides[1]}; resize both sides, or crop"
        )
    return ImageClassifier(side, outputs, channels)
