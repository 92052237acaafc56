"""BiSeNet (Yu et al. 2018) as it parses faces: the file of weights that everybody has, 19 classes, 512 x 512 pixels.

A ResNet-18 gives maps at 1/8, 1/16 and 1/32 of the side. The two deep ones are weighed by their own means, the mean
over the picture is added to the deepest, and all are brought to 1/8, where they are joined to the shallow one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from detectors.networks.resnet import BasicBlock
from detectors.transfers import Fetched, constant, sent
from pipeline.contents import kept_while_same
from stages.segmentation.classes import FACES
from stages.weights.detectors import read_detector

SIDE = 512
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Convolution(nn.Module):
    """Convolution, normalization, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))


class Backbone(nn.Module):
    """ResNet-18 without its head: maps of 128, 256 and 512 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False), nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        inputs = 64
        for number, width in enumerate((64, 128, 256, 512)):
            first = BasicBlock(inputs, width, 2 if number else 1)
            self.add_module(f"layer{number + 1}", nn.Sequential(first, BasicBlock(width, width, 1)))
            inputs = width

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        found = []
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
            found.append(x)
        return found[1:]


class Attention(nn.Module):
    """Maps times a factor for each channel, which their means tell."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv = Convolution(inputs, 128)
        self.conv_atten, self.bn_atten = nn.Conv2d(128, 128, 1, bias=False), nn.BatchNorm2d(128)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.conv(x)
        weights = self.bn_atten(self.conv_atten(maps.mean(dim=(2, 3), keepdim=True))).sigmoid()
        return maps * weights  # type: ignore[no-any-return]


class Context(nn.Module):
    """(128, h/8, w/8) of the backbone, and (128, h/8, w/8) of what lies deeper."""

    def __init__(self) -> None:
        super().__init__()
        self.resnet = Backbone()
        self.arm16, self.arm32 = Attention(256), Attention(512)
        self.conv_head32, self.conv_head16 = Convolution(128, 128), Convolution(128, 128)
        self.conv_avg = Convolution(512, 128, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        eighth, sixteenth, deepest = self.resnet(x)
        whole = self.conv_avg(deepest.mean(dim=(2, 3), keepdim=True))
        deep = self.conv_head32(F.interpolate(self.arm32(deepest) + whole, size=sixteenth.shape[2:]))
        deep = self.conv_head16(F.interpolate(self.arm16(sixteenth) + deep, size=eighth.shape[2:]))
        return eighth, deep


class Fusion(nn.Module):
    """Both kinds of maps as one, each channel enlarged by a factor."""

    def __init__(self) -> None:
        super().__init__()
        self.convblk = Convolution(256, 256, 1)
        self.conv1, self.conv2 = nn.Conv2d(256, 64, 1, bias=False), nn.Conv2d(64, 256, 1, bias=False)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        maps = self.convblk(torch.cat([one, other], dim=1))
        factor = self.conv2(torch.relu(self.conv1(maps.mean(dim=(2, 3), keepdim=True)))).sigmoid()
        return maps * factor + maps  # type: ignore[no-any-return]


class Head(nn.Module):
    """Logits of the classes."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.conv = Convolution(inputs, width)
        self.conv_out = nn.Conv2d(width, len(FACES), 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.conv_out(self.conv(x))
        return logits


class BiSeNet(nn.Module):
    """(N, 3, H, W) normalized RGB to logits (N, 19, H, W); two further heads stand in the file and served its training.

    13,300,416 parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cp, self.ffm = Context(), Fusion()
        self.conv_out, self.conv_out16, self.conv_out32 = Head(256, 256), Head(128, 64), Head(128, 64)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.conv_out(self.ffm(*self.cp(x)))
        return F.interpolate(logits, size=x.shape[2:], mode="bilinear", align_corners=True)


def read_network(path: Path) -> BiSeNet:
    """The network of a file of weights, in evaluation mode. Raises WeightsError where the file is another one."""
    with torch.device("meta"):
        network = BiSeNet()
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    tensors = read_detector(path, expected, "BiSeNet with 19 classes").tensors
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}, assign=True)
    return network.eval().requires_grad_(False)


@kept_while_same(2)
def load(path: Path, device: str) -> BiSeNet:
    """The same on a device, kept while the file is the same."""
    return read_network(path).to(device)


@torch.inference_mode()
def parsed(network: BiSeNet, images: NDArray[np.uint8], device: str, side: int = SIDE) -> Fetched:
    """(n, side, side) numbers in `FACES`, uint8, of pictures (n, H, W, 3) uint8 RGB, first brought to this side."""
    values = sent(images, device).movedim(3, 1).float() / 255
    values = F.interpolate(values, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
    mean, deviation = (constant(one, torch.float32, values.device)[:, None, None] for one in (MEAN, DEVIATION))
    return Fetched(network((values - mean) / deviation).argmax(dim=1).to(torch.uint8))
