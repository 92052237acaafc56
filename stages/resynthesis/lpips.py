"""LPIPS v0.1: how far images look apart, weighted as people judge (Zhang et al. 2018, arXiv:1801.03924).

A network that names photographs gives features; those of a place are scaled to unit length, their squared differences
weighted by one number per channel, and what is found is averaged over places and added over layers. Two published files
are needed, which are read as data: the network of torchvision (AlexNet, VGG-16 or SqueezeNet 1.1), and its heads, the
weights of the channels, which the package `lpips` holds as `lpips/weights/v0.1/*.pth`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detectors.transfers import constant
from pipeline.contents import kept_while_same
from stages.sentences import printable
from stages.weights.checkpoints import other_kind, read_contents
from stages.weights.filling import fill
from stages.weights.weights_file import WeightsError

Array = NDArray[Any]

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Mean and deviation of a color's values in -1..1."""

LEAST = 1e-10
HEAD = re.compile(r"lin([0-6])\.model\.1\.weight")


class Fire(nn.Module):
    """A narrow 1 x 1 convolution, and two wide ones of it side by side (Iandola et al. 2016)."""

    def __init__(self, inputs: int, narrow: int, wide: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, narrow, 1)
        self.expand1x1 = nn.Conv2d(narrow, wide, 1)
        self.expand3x3 = nn.Conv2d(narrow, wide, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], dim=1).relu()


def _alexnet() -> list[nn.Module]:
    return [
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
    ]  # fmt: skip


def _vgg16() -> list[nn.Module]:
    layers: list[nn.Module] = []
    inputs = 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        layers += [nn.MaxPool2d(2)] if layers else []
        for _ in range(count):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
            inputs = width
    return layers


def _squeezenet() -> list[nn.Module]:
    return [
        nn.Conv2d(3, 64, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(64, 16, 64), Fire(128, 16, 64), nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(128, 32, 128), Fire(256, 32, 128), nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256),
    ]  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A network, numbered as torchvision's `features`; its layers of the distance are what so many of them give.

    least_side: of an image, in pixels, whose last layer has a place
    """

    name: str
    layers: Callable[[], list[nn.Module]]
    ends: tuple[int, ...]
    channels: tuple[int, ...]
    least_side: int


KINDS = (
    Kind("AlexNet", _alexnet, (2, 5, 8, 10, 12), (64, 192, 384, 256, 256), 31),
    Kind("VGG-16", _vgg16, (4, 9, 16, 23, 30), (64, 128, 256, 512, 512), 16),
    Kind("SqueezeNet 1.1", _squeezenet, (2, 5, 8, 10, 11, 12, 13), (64, 128, 256, 384, 384, 512, 512), 17),
)


class Features(nn.Module):
    """The part of a network that is looked at."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.ends, self.features = kind.ends, nn.Sequential(*kind.layers())

    def forward(self, x: Tensor) -> list[Tensor]:
        """Of images (N, 3, H, W) in -1..1 the features (N, channels, h, w) of each layer of the distance."""
        shift, scale = (constant(three, torch.float32, x.device)[:, None, None] for three in (SHIFT, SCALE))
        x, found = (x - shift) / scale, []
        for number, layer in enumerate(self.features, start=1):
            x = layer(x)
            if number in self.ends:
                found.append(x)
        return found


class Lpips:
    """LPIPS of images (N, 3, H, W) RGB in -1..1 to others: (N,), 0 where they are the same. Frozen.

    heads: of each layer (channels,), 0 or more
    """

    def __init__(self, features: Features, heads: list[Tensor], kind: Kind) -> None:
        self.features, self.heads, self.kind = features, heads, kind

    def __call__(self, images: Tensor, others: Tensor) -> Tensor:
        """Raises WeightsError where a side is too small for the network."""
        if min(images.shape[2:]) < self.kind.least_side:
            raise WeightsError(
                f"LPIPS of {self.kind.name} needs images of {self.kind.least_side} pixels or more, these have "
                f"{min(images.shape[2:])}; use another network"
            )
        total = torch.zeros(len(images), device=images.device)
        for head, one, other in zip(self.heads, self.features(images), self.features(others), strict=True):
            apart = (_of_unit_length(one) - _of_unit_length(other)).square()
            total = total + torch.einsum("nchw,c->nhw", apart, head).mean(dim=(1, 2))
        return total


def _of_unit_length(features: Tensor) -> Tensor:
    """Slopes are finite also where all channels are zero."""
    return features / (features.square().sum(dim=1, keepdim=True).clamp(min=LEAST**2).sqrt() + LEAST)


def load(network: Path, heads: Path, device: str) -> Lpips:
    """The distance of two published files. Raises WeightsError."""
    weights = _heads(Path(heads))
    widths = tuple(len(one) for one in weights)
    kind = next((kind for kind in KINDS if kind.channels == widths), None)
    if kind is None:
        known = "; ".join(f"{', '.join(map(str, kind.channels))} ({kind.name})" for kind in KINDS)
        raise WeightsError(f"{heads} has heads of {', '.join(map(str, widths))} channels; expected {known}")
    return Lpips(_features(Path(network), kind, device), [torch.from_numpy(one).to(device) for one in weights], kind)


@kept_while_same(2)
def _features(path: Path, kind: Kind, device: str) -> Features:
    with torch.device("meta"):
        features = Features(kind)
    found = {name: array for name, array in _tensors(path).items() if not name.startswith("classifier.")}
    return fill(f"{path}, the network of heads for {kind.name},", features, found).to(device)


def _heads(path: Path) -> list[NDArray[np.float32]]:
    """Weights (channels,) of each layer."""
    tensors = _tensors(path)
    if wrong := [name for name in tensors if not HEAD.fullmatch(name)]:
        raise WeightsError(f"{path} holds no heads of LPIPS: it has {printable(wrong[0])}; expected lin0.model.1...")
    found = []
    for number in range(len(tensors)):
        array = tensors.get(f"lin{number}.model.1.weight")
        if array is None or array.ndim != 4 or array.shape != (1, array.size, 1, 1):
            shape = "absent" if array is None else str(array.shape)
            raise WeightsError(f"{path}: lin{number}.model.1.weight is {shape}; expected (1, channels, 1, 1)")
        if not np.isfinite(array).all() or (array < 0).any():
            raise WeightsError(f"{path}: lin{number}.model.1.weight has values that are no weights of LPIPS, 0 or more")
        found.append(array.reshape(-1).astype(np.float32))
    return found


def _tensors(path: Path) -> Mapping[str, Array]:
    """All tensors of a file of torch, by name."""
    try:
        with path.open("rb") as file:
            wrong = other_kind(file.read(4096))
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    if wrong:
        raise WeightsError(f"{path} {wrong}")
    networks = read_contents(path).networks
    if set(networks) != {""}:
        parts = ", ".join(map(repr, sorted(networks))) or "no tensors"
        raise WeightsError(f"{path} holds {parts}; expected the tensors of one network alone")
    tensors: Mapping[str, Array] = networks[""].tensors
    return tensors
