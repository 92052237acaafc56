"""LaDeDa and Tiny-LaDeDa (Cavia et al. 2024): logits of small patches, averaged over the picture.

LaDeDa is a ResNet-50 whose 3 x 3 convolutions are mostly 1 x 1 and never padded, so that a cell sees 9 x 9 pixels of
the filtered picture. Both filter their input first; the published files do not say how.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from detectors.networks import layers
from detectors.networks.initial_weights import kaiming
from detectors.networks.input_filters import GRADIENTS, check_even, gradient, nearest_residual

Filter = Literal["NPR", "raw", "x_grad", "y_grad", "left_diag", "right_diag"]
FILTERS = {"NPR": nearest_residual, "raw": lambda x: x} | {
    direction: partial(gradient, direction=direction) for direction in GRADIENTS
}
BLOCKS = (3, 4, 6, 3)
STRIDES = (2, 2, 2, 1)


class Bottleneck(nn.Module):
    """1 x 1, k x k without padding (with the stride), 1 x 1; the input added, cut at the bottom and the right."""

    def __init__(self, inputs: int, width: int, kernel: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width, momentum=0.001)
        self.conv2 = nn.Conv2d(width, width, kernel, stride, bias=False)
        self.bn2 = nn.BatchNorm2d(width, momentum=0.001)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs, momentum=0.001)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs, momentum=0.001)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu(y + self.downsample(x)[..., : y.shape[-2], : y.shape[-1]])


class TinyBlock(nn.Module):
    """1 x 1 and 3 x 3 without padding, stride 2; nothing is added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 2, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)))


class LaDeDa(nn.Module):
    """(N, channels, H, W) normalized pictures to logits (N, outputs); (H, W) even with the filter NPR.

    kernels  of the first block of each stage: (3, 3, 1, 1) is LaDeDa-9
    """

    def __init__(
        self,
        input_filter: Filter = "NPR",
        kernels: tuple[int, ...] = (3, 3, 1, 1),
        outputs: int = 1,
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.input_filter = FILTERS[input_filter]
        self.conv1 = nn.Conv2d(channels, 64, 1, bias=False)
        self.conv2 = nn.Conv2d(64, 64, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64, momentum=0.001)
        inputs = 64
        self.stages = [f"layer{number + 1}" for number in range(len(kernels))]
        for number, (name, kernel) in enumerate(zip(self.stages, kernels, strict=True)):
            blocks = []
            for place in range(BLOCKS[number]):
                first = place == 0
                blocks.append(Bottleneck(inputs, 64 << number, kernel if first else 1, STRIDES[number] if first else 1))
                inputs = 256 << number
            self.add_module(name, nn.Sequential(*blocks))
        self.fc = layers.Linear(inputs, outputs)
        kaiming(self)

    def maps(self, x: Tensor) -> Tensor:
        """(N, width, h, w) before the head."""
        x = torch.relu(self.bn1(self.conv2(self.conv1(self.input_filter(x)))))
        for name in self.stages:
            x = self.get_submodule(name)(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.maps(x).mean(dim=(2, 3)))
        return logits


class TinyLaDeDa(LaDeDa):
    """(N, channels, H, W) normalized pictures to logits (N, outputs): 1,297 parameters from 3 channels to 1 logit."""

    def __init__(self, input_filter: Filter = "NPR", outputs: int = 1, channels: int = 3) -> None:
        nn.Module.__init__(self)
        self.input_filter = FILTERS[input_filter]
        self.conv1 = nn.Conv2d(channels, 8, 1, bias=False)
        self.conv2 = nn.Conv2d(8, 8, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8, momentum=0.001)
        self.stages = ["layer1"]
        self.layer1 = nn.Sequential(TinyBlock(8))
        self.fc = layers.Linear(8, outputs)
        kaiming(self)


def build(settings: Any, channels: int, sides: tuple[int, int], outputs: int) -> nn.Module:
    """A new network. Raises ValueError where rows are too small, or odd for the filter NPR."""
    tiny = settings.architecture == "tiny_ladeda"
    kernels = (3,) if tiny else settings.kernels
    if settings.input_filter == "NPR":
        check_even(sides)
    if min(sides) < smallest(kernels):
        raise ValueError(
            f"'{settings.architecture}' needs rows of {smallest(kernels)} pixels or more, not {sides[0]} x {sides[1]}"
        )
    if tiny:
        return TinyLaDeDa(settings.input_filter, outputs, channels)
    return LaDeDa(settings.input_filter, settings.kernels, outputs, channels)


def smallest(kernels: tuple[int, ...]) -> int:
    """Side of which no convolution without padding leaves nothing."""
    side = 1
    for kernel, stride in reversed(list(zip(kernels, STRIDES, strict=False))):
        side = (side - 1) * stride + kernel
    return side + 2
