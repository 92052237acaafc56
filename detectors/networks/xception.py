"""Xception (Chollet 2017) as patch-forensics has it, whole or cut behind a block (Chai et al. 2020).

Keys are those of the published `_net_D.pth`. Cut networks have a 1 x 1 convolution `convout` on the sum of the last
block's branches, without an activation between.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from detectors.networks import layers
from detectors.networks.initial_weights import xavier

BLOCKS = (
    # inputs, outputs, separable convolutions, stride, whether ReLU comes first; outputs grow in the first convolution
    (64, 128, 2, 2, False),
    (128, 256, 2, 2, True),
    (256, 728, 2, 2, True),
    *[(728, 728, 3, 1, True)] * 8,
    (728, 1024, 2, 2, True),  # the only one whose outputs grow in the last convolution
)


SMALLEST = 7
"""Side of which the two convolutions without padding leave one place."""


class SeparableConvolution(nn.Module):
    """3 x 3 in each channel, then 1 x 1 across them, both without bias."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.pointwise(self.conv1(x))
        return y


class Block(nn.Module):
    """Separable convolutions and, where the stride is 2, the largest of 3 x 3; the input, brought to shape, added."""

    def __init__(self, inputs: int, outputs: int, count: int, stride: int, relu_first: bool, grow_last: bool) -> None:
        super().__init__()
        widths = [inputs] * count + [outputs] if grow_last else [inputs] + [outputs] * count
        layers: list[nn.Module] = []
        for wide, next_wide in itertools.pairwise(widths):
            layers += [nn.ReLU(), SeparableConvolution(wide, next_wide), nn.BatchNorm2d(next_wide)]
        if stride > 1:
            layers.append(nn.MaxPool2d(3, stride, padding=1))
        self.rep = nn.Sequential(*layers[0 if relu_first else 1 :])
        self.skip: nn.Module = nn.Identity()
        self.skipbn: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.skip = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.skipbn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.rep(x) + self.skipbn(self.skip(x))
        return y


class Xception(nn.Module):
    """(N, channels, H, W) floats to logits (N, outputs), or, cut behind block 1 to 12, to (N, outputs, h, w)."""

    def __init__(self, outputs: int = 2, last_block: int | None = None, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 32, 3, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.stages = [f"block{number + 1}" for number in range(last_block or len(BLOCKS))]
        for name, block in zip(self.stages, BLOCKS, strict=False):
            self.add_module(name, Block(*block, grow_last=block is BLOCKS[-1]))
        self.whole = last_block is None
        if self.whole:
            self.conv3 = SeparableConvolution(1024, 1536)
            self.bn3 = nn.BatchNorm2d(1536)
            self.conv4 = SeparableConvolution(1536, 2048)
            self.bn4 = nn.BatchNorm2d(2048)
            self.last_linear = layers.Linear(2048, outputs)
        else:
            self.convout = nn.Conv2d(BLOCKS[len(self.stages) - 1][1], outputs, 1)

    def maps(self, x: Tensor) -> Tensor:
        """(N, width, h, w) before the head."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        for name in self.stages:
            x = self.get_submodule(name)(x)
        if self.whole:
            x = torch.relu(self.bn3(self.conv3(x)))
            x = torch.relu(self.bn4(self.conv4(x)))
        return x

    def forward(self, x: Tensor) -> Tensor:
        maps = self.maps(x)
        logits: Tensor = self.last_linear(maps.mean(dim=(2, 3))) if self.whole else self.convout(maps)
        return logits


def build(settings: Any, channels: int, sides: tuple[int, int], outputs: int) -> nn.Module:
    """A new network, its weights drawn as patch-forensics does. Raises ValueError where rows are too small."""
    if min(sides) < SMALLEST:
        raise ValueError(f"Xception needs rows of {SMALLEST} x {SMALLEST} or more, not {sides[0]} x {sides[1]}; resize")
    network = Xception(outputs, settings.last_block, channels)
    xavier(network)
    return network
