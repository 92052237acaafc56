"""GramNet (Liu et al. 2020): a ResNet-18 whose maps are also described by their channel correlations."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectors.networks import layers
from detectors.networks.resnet import ResNet

TEXTURES = {
    # name of the convolution, and of the two that read its correlations
    "conv_interi_0": ("gi_fc1", "gi_fc2"),
    "conv_inter0_0": ("g0_fc1", "g0_fc2"),
    "conv_inter1_0": ("g_fc1r", "g_fc2r"),
    "conv_inter2_0": ("g2_fc1", "g2_fc2"),
    "conv_inter3_0": ("g3_fc1", "g3_fc2"),
    "conv_inter4_0": ("g4_fc1", "g4_fc2"),
}
"""Of the input, behind the first convolution, behind the pooling, and behind stages 1 to 3."""


class Scale(nn.Module):
    """One number that all texture values are multiplied with."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class GramNet(ResNet):
    """(N, channels, H, W) floats to (N, outputs).

    outputs 2  the authors': logarithms of the probabilities of fake and real, of blue, green, red 0..255
    outputs 1  AIGCDetectBenchmark's: the logit of fake, of normalized red, green, blue
    width      channels of the first stage, and eight times that of the hidden layer; published: 64

    There are no `maps`: what it decides by are textures of all stages, which have no places.
    """

    maps = None  # type: ignore[assignment]

    def __init__(self, outputs: int = 2, channels: int = 3, width: int = 64) -> None:
        super().__init__(18, outputs, channels, width=width)
        del self.fc
        self.scale = Scale()
        self.fcnewr = nn.Sequential(
            layers.Linear(8 * width + 32 * len(TEXTURES), 8 * width),
            nn.ReLU(),
            layers.Dropout(0.5),
            layers.Linear(8 * width, outputs),
        )
        inputs = (channels, width, width, width, 2 * width, 4 * width)
        for (name, (first, second)), taken in zip(TEXTURES.items(), inputs, strict=True):
            self.add_module(name, _convolution(taken, 32, 1))
            self.add_module(first, _convolution(1, 16, 2))
            self.add_module(second, _convolution(16, 32, 2))

    def forward(self, x: Tensor) -> Tensor:
        maps = [x, torch.relu(self.bn1(self.conv1(x)))]
        maps.append(self.maxpool(maps[-1]))
        for name in self.stages:
            maps.append(self.get_submodule(name)(maps[-1]))
        parts = [self.avgpool(maps[-1]).flatten(1)]
        for name, one in zip(TEXTURES, maps, strict=False):
            parts.append(self.scale(self._texture(name, one)))
        logits: Tensor = self.fcnewr(torch.cat(parts, dim=1))
        return F.log_softmax(logits, dim=1) if logits.shape[1] > 1 else logits

    def _texture(self, name: str, maps: Tensor) -> Tensor:
        """(N, 32) of the 32 x 32 products of channels, each the mean over all values of the maps."""
        first, second = TEXTURES[name]
        flat = self.get_submodule(name)(maps).flatten(2)
        products = torch.bmm(flat, flat.transpose(1, 2)) / flat[0].numel()
        small: Tensor = self.get_submodule(second)(self.get_submodule(first)(products.unsqueeze(1)))
        return self.avgpool(small).flatten(1)


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def build(settings: Any, channels: int, sides: tuple[int, int], outputs: int) -> nn.Module:
    """A new network."""
    del sides
    return GramNet(outputs, channels, settings.width)
