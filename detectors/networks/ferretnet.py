"""FerretNet (Liang et al. 2025): few convolutions in each channel on what differs from the median around a pixel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from detectors.networks import layers
from detectors.networks.input_filters import median_around


class MedianAround(nn.Module):
    """`median_around` with a name."""

    def forward(self, x: Tensor) -> Tensor:
        return median_around(x)


class SeparableConvolution(nn.Module):
    """3 x 3 in each channel, then 1 x 1 across them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depth_wise = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.point_wise = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.point_wise(self.depth_wise(x))
        return y


class DilatedConvolution(nn.Module):
    """The sum of two 3 x 3 in each channel, at distances 1 and 2; then 1 x 1 across channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, groups=inputs, bias=False)
        self.conv2 = nn.Conv2d(inputs, outputs, 3, stride, padding=2, dilation=2, groups=inputs, bias=False)
        self.conv3 = nn.Conv2d(outputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv3(self.conv1(x) + self.conv2(x))
        return y


class Block(nn.Module):
    """A dilated and a separable convolution with batch normalization, the input added."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            DilatedConvolution(inputs, outputs, stride),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            SeparableConvolution(outputs),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.layers(x) + self.shortcut(x))


class FerretNet(nn.Module):
    """(N, channels, H, W) normalized pictures to logits (N, outputs).

    width, depths  32 and (2, 2): FerretNet-S
    """

    def __init__(self, width: int = 32, depths: tuple[int, ...] = (2, 2), outputs: int = 1, channels: int = 3) -> None:
        super().__init__()
        self.lpd = MedianAround()
        self.cbr1 = nn.Sequential(
            nn.Conv2d(channels, width // 2, 3, padding=1, bias=False), nn.BatchNorm2d(width // 2), nn.ReLU()
        )
        self.cbr2 = nn.Sequential(
            nn.Conv2d(width // 2, width, 3, 2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.feature = nn.Sequential()
        for depth in depths:
            blocks = [Block(width, 2 * width, 2), *(Block(2 * width, 2 * width, 1) for _ in range(depth - 1))]
            self.feature.append(nn.Sequential(*blocks))
            width *= 2
        self.feature.append(nn.Conv2d(width, width, 1, bias=False))
        self.logit = nn.Sequential(layers.Dropout(0.2), layers.Linear(width, outputs))

    def maps(self, x: Tensor) -> Tensor:
        """(N, width, h, w) before the head."""
        found: Tensor = self.feature(self.cbr2(self.cbr1(x - self.lpd(x))))
        return found

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.logit(self.maps(x).mean(dim=(2, 3)))
        return logits


def build(settings: Any, channels: int, sides: tuple[int, int], outputs: int) -> nn.Module:
    """A new network."""
    del sides
    return FerretNet(settings.width, settings.depths, outputs, channels)
