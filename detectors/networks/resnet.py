"""Networks that tell fakes from reals by residual features (He et al. 2021, section 4.5).

`ResNet50` is the one of the authors' program: a ResNet-50 (He et al. 2016) whose first convolution is three, with
strides 2, 2, 2, 1, 1 behind the pooling, from scratch. `Compact` is a small one for tests and laptops. Both take
features (N, channels, H, W) float32 as they are, without any normalization, and give logits (N, 2): real, fake.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 2  # 0 real, 1 fake
BLOCKS = (3, 4, 6, 3)
EXPANSION = 4


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 (with the stride) and 1 x 1 convolution, and the input added."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = EXPANSION * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        return torch.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ResNet50(nn.Module):
    """(N, channels, H, W) to logits (N, 2); the maps before the head have 1/32 of the side, rounded up.

    early_strides  False, a deviation for small maps: no stride in the stem and no pooling, 1/4 of the side
    """

    def __init__(self, channels: int, early_strides: bool = True) -> None:
        super().__init__()
        stride = 2 if early_strides else 1
        self.conv1 = nn.Sequential(
            nn.Conv2d(channels, 64, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.Conv2d(64, 128, 3, padding=1, bias=False),
        )
        self.bn1 = nn.BatchNorm2d(128)
        self.pool = nn.MaxPool2d(3, 2, padding=1) if early_strides else nn.Identity()
        self.inputs = 128
        self.layer1 = self._layer(0, 2)
        self.layer2 = self._layer(1, 2)
        self.layer3 = self._layer(2, 1)
        self.layer4 = self._layer(3, 1)
        self.fc = nn.Linear(self.inputs, CLASSES)
        initialize(self)

    def _layer(self, number: int, stride: int) -> nn.Sequential:
        width = 64 << number
        blocks = []
        for place in range(BLOCKS[number]):
            blocks.append(Bottleneck(self.inputs, width, stride if place == 0 else 1))
            self.inputs = EXPANSION * width
        return nn.Sequential(*blocks)

    def maps(self, x: Tensor) -> Tensor:
        """(N, 2048, h, w) before the head."""
        x = self.pool(torch.relu(self.bn1(self.conv1(x))))
        found: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return found

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.maps(x).mean(dim=(2, 3)))
        return logits


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
        self.fc = nn.Linear(channels, CLASSES)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = torch.relu(norm(convolution(x)))
            x = F.avg_pool2d(x, 2) if min(x.shape[2:]) > 1 else x
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


NETWORKS = {"resnet50": ResNet50, "compact": Compact}


def initialize(network: nn.Module) -> None:
    """Convolutions from N(0, 2 / (k k outputs)), as in the authors' program; the rest as torch does."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
