"""Residual networks (He et al. 2016) of many detectors; keys of their state dicts are those of the published files.

`ResNet` is torchvision's with the choices that detectors make: strides of the first layers, the number of stages, and
the head. With `patches` it is the one of patch-forensics; "no-down" of GRIP has early strides (1, 1).
`DeepStemResNet50` is the one of He et al. 2021 (section 4.5), for residual features, whose first convolution is three;
`Compact` is a small one for the same features. No weights are ever downloaded.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectors.networks import layers
from detectors.networks.initial_weights import kaiming, xavier

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
"""Depth -> blocks of each stage."""

STRIDES = (1, 2, 2, 2)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions (the first with the stride), and the input added."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 (with the stride) and 1 x 1 convolution, and the input added."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = self.expansion * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        return torch.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    """What brings the input of a block to the shape of its output."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """(N, channels, H, W) floats to logits (N, outputs), or with `patches` to (N, outputs, h, w).

    depth          18 or 34 (two convolutions a block), or 50 (three)
    kernel         side of the first convolution, 7 or 3
    early_strides  of the first convolution and of the pooling behind it; 0: no pooling
    strides        of the stages, as many as stages are kept; torchvision: 1, 2, 2, 2
    head           name of the linear layer in the published file
    patches        a 1 x 1 convolution `convout` in place of mean and linear layer: logits of each cell
    width          channels of the first stage
    """

    def __init__(
        self,
        depth: int,
        outputs: int = 1,
        channels: int = 3,
        *,
        kernel: int = 7,
        early_strides: tuple[int, int] = (2, 2),
        strides: tuple[int, ...] = STRIDES,
        head: str = "fc",
        patches: bool = False,
        width: int = 64,
    ) -> None:
        super().__init__()
        self.conv1, inputs = self.stem(channels, width, kernel, early_strides[0])
        self.bn1 = nn.BatchNorm2d(inputs)
        self.maxpool = nn.MaxPool2d(3, early_strides[1], padding=1) if early_strides[1] else nn.Identity()
        block = Bottleneck if depth >= 50 else BasicBlock
        self.stages = [f"layer{number + 1}" for number in range(len(strides))]
        for number, (name, stride) in enumerate(zip(self.stages, strides, strict=True)):
            blocks: list[nn.Module] = []
            for place in range(BLOCKS[depth][number]):
                blocks.append(block(inputs, width << number, stride if place == 0 else 1))
                inputs = block.expansion * (width << number)
            self.add_module(name, nn.Sequential(*blocks))
        self.head = "convout" if patches else head
        if patches:
            self.convout = nn.Conv2d(inputs, outputs, 1)
        else:
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.add_module(head, layers.Linear(inputs, outputs))
        kaiming(self)

    @staticmethod
    def stem(channels: int, width: int, kernel: int, stride: int) -> tuple[nn.Module, int]:
        """The first convolution, and how many channels it gives."""
        return nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False), width

    def maps(self, x: Tensor) -> Tensor:
        """(N, width, h, w) before the head."""
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        for name in self.stages:
            x = self.get_submodule(name)(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        maps = self.maps(x)
        if self.head != "convout":
            maps = self.avgpool(maps).flatten(1)
        logits: Tensor = self.get_submodule(self.head)(maps)
        return logits


class DeepStemResNet50(ResNet):
    """(N, channels, H, W) to logits (N, 2); the maps before the head have 1/32 of the side, rounded up.

    Takes residual features as they are, without any normalization. In the published files class 1 is real.
    early_strides  False, a deviation for small maps: no stride in the stem and no pooling, 1/4 of the side
    """

    def __init__(self, channels: int, early_strides: bool = True) -> None:
        early = (2, 2) if early_strides else (1, 0)
        super().__init__(50, 2, channels, early_strides=early, strides=(2, 2, 1, 1))

    @staticmethod
    def stem(channels: int, width: int, kernel: int, stride: int) -> tuple[nn.Module, int]:
        """Three convolutions, the first two with a stride."""
        del kernel
        convolutions = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
        )
        return convolutions, 2 * width


class Compact(nn.Module):
    """(N, channels, H, W) to logits (N, 2): 3 x 3 convolutions with batch normalization, each followed by the mean of
    2 x 2 where a map is that large; the mean over the map; one linear layer. 93,730 parameters from 3 channels.
    """

    def __init__(self, channels: int, widths: tuple[int, ...] = (32, 64, 128)) -> None:
        super().__init__()
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        for width in widths:
            self.convolutions.append(nn.Conv2d(channels, width, 3, padding=1, bias=False))
            self.norms.append(nn.BatchNorm2d(width))
            channels = width
        self.fc = layers.Linear(channels, 2)
        kaiming(self)

    def maps(self, x: Tensor) -> Tensor:
        """(N, width, h, w) before the head."""
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = torch.relu(norm(convolution(x)))
            x = F.avg_pool2d(x, 2) if min(x.shape[2:]) > 1 else x
        return x

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.maps(x).mean(dim=(2, 3)))
        return logits


NETWORKS = {"resnet50": DeepStemResNet50, "compact": Compact}
"""Of residual features; class 1 is fake in those that this project trains."""


def build(settings: Any, channels: int, sides: tuple[int, int], outputs: int) -> nn.Module:
    """A new network of an entry of `detectors.networks`. Raises ValueError where it has not that many outputs."""
    del sides
    if settings.architecture == "resnet":
        network = ResNet(
            settings.depth,
            outputs,
            channels,
            kernel=settings.kernel,
            early_strides=settings.early_strides,
            strides=STRIDES[: settings.stages],
            patches=settings.patches,
            width=settings.width,
        )
        if settings.initial == "xavier":
            xavier(network)
        return network
    if outputs != 2:
        raise ValueError(f"'{settings.architecture}' has 2 outputs, not {outputs}; choose the head 'classes'")
    if settings.architecture == "compact":
        return Compact(channels, settings.widths)
    return DeepStemResNet50(channels, settings.early_strides)
