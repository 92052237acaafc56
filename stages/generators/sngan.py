"""SNGAN's generator: residual blocks that double an image, in six ways (Miyato et al. 2018, arXiv:1802.05957).

Written from the paper's table 3 and 4 in plain torch operations; the published network repeats each value (`nearest`).
The other ways are those of Keuper's lecture of 2022, put in place of it and of the convolution behind it, in the
shortcut too. Interpolations are products with a matrix, whose gradients a GPU repeats to the bit.

Notation: images are (N, 3, H, W) float32, -1..1, RGB; z is (N, z_dim), labels are one-hot (N, c_dim).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.generators.latents import NOISES, draw, render, styles
from stages.generators.layers import BatchNorm, flooring_uint8, resolutions
from stages.generators.sngan_recipe import Upsampling, generator_widths

__all__ = ["NOISES", "Generator", "build", "draw", "render", "styles", "to_uint8"]

METHODS: tuple[str, ...] = get_args(Upsampling)
EPSILON = 2e-5  # of batch normalization


class Doubling(nn.Module):
    """A convolution that doubles the image by one of METHODS; of size 3, or 1 in a shortcut."""

    def __init__(self, inputs: int, outputs: int, size: int, method: str) -> None:
        super().__init__()
        self.method = method
        self.conv: nn.Conv2d | nn.ConvTranspose2d
        if method == "transposed":
            overlap = size // 2
            self.conv = nn.ConvTranspose2d(inputs, outputs, 2 + 2 * overlap, stride=2, padding=overlap)
        else:
            self.conv = nn.Conv2d(inputs, outputs * (4 if method == "pixel_shuffle" else 1), size, padding=size // 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.method == "transposed":
            return self.conv(x)  # type: ignore[no-any-return]
        if self.method == "pixel_shuffle":
            return F.pixel_shuffle(self.conv(x), 2)
        return self.conv(doubled(x, self.method))  # type: ignore[no-any-return]


def doubled(x: Tensor, method: str) -> Tensor:
    """Features of twice the side, by a method without weights.

    bed_of_nails puts each value before zeros; bilinear and bicubic hold the corners of the image, not of its pixels
    """
    if method == "nearest":
        return F.interpolate(x, scale_factor=2, mode="nearest")
    if method == "bed_of_nails":
        return F.pad(x[..., None, :, None], (0, 1, 0, 0, 0, 1)).flatten(4, 5).flatten(2, 3)
    rows, columns = (_interpolation(side, method).to(x) for side in x.shape[2:])
    return rows @ x @ columns.T


@lru_cache(maxsize=32)
def _interpolation(side: int, method: str) -> Tensor:
    """(2 side, side): a row is how a doubled line of pixels is made from the line."""
    whole = torch.eye(side, dtype=torch.float64)[None, None]
    return F.interpolate(whole, size=(2 * side, side), mode=method, align_corners=False)[0, 0]


class Block(nn.Module):
    """Normalization, rectifier and convolution, twice, the first doubling; beside it a doubling shortcut."""

    def __init__(self, inputs: int, outputs: int, method: str, classes: int) -> None:
        super().__init__()
        self.b1, self.b2 = (BatchNorm(maps, classes, EPSILON) for maps in (inputs, outputs))
        self.c1 = Doubling(inputs, outputs, 3, method)
        self.c2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.c_sc = Doubling(inputs, outputs, 1, method)

    def forward(self, x: Tensor, label: Tensor | None) -> Tensor:
        y = self.c1(F.relu(self.b1(x, label)))
        return self.c2(F.relu(self.b2(y, label))) + self.c_sc(x)  # type: ignore[no-any-return]


def initialize(network: nn.Module) -> None:
    """Uniform weights by fan-in and fan-out (Glorot and Bengio 2010), sqrt(2) times in the convolutions of blocks."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and not layer.weight.is_meta:
            main = name.startswith("blocks.") and ".c_sc" not in name
            nn.init.xavier_uniform_(layer.weight, gain=math.sqrt(2) if main else 1.0)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class Generator(nn.Module):
    """z and label to an image. The keyword arguments are the `architecture` of a weights file.

    ch          feature maps at all sides up to 32 pixels; of larger networks those at the full side
    upsampling  one of METHODS
    """

    def __init__(self, *, z_dim: int, c_dim: int, resolution: int, ch: int, upsampling: str = "nearest") -> None:
        super().__init__()
        resolutions(resolution)
        if upsampling not in METHODS:
            raise ValueError(f"a SNGAN doubles images by {', '.join(METHODS)}, not by {upsampling!r}")
        if min(ch, z_dim) < 1:
            raise ValueError(f"a SNGAN has ch and z_dim of at least 1, not {ch} and {z_dim}")
        self.z_dim, self.c_dim, self.w_dim, self.resolution = z_dim, c_dim, 0, resolution
        widths = generator_widths(resolution, ch)
        self.l1 = nn.Linear(z_dim, widths[0] * 16)
        self.blocks = nn.ModuleList([Block(before, after, upsampling, c_dim) for before, after in pairwise(widths)])
        self.b = BatchNorm(widths[-1], epsilon=EPSILON)
        self.c = nn.Conv2d(widths[-1], 3, 3, padding=1)
        initialize(self)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Images (N, 3, H, W) of z (N, z_dim), and label (N, c_dim) if conditional."""
        x = self.l1(z).reshape(len(z), -1, 4, 4)
        for block in self.blocks:
            x = block(x, label)
        return torch.tanh(self.c(F.relu(self.b(x))))


def build(architecture: Mapping[str, Any]) -> Generator:
    """The generator of an `architecture`; unknown keys raise TypeError, impossible values ValueError."""
    return Generator(**architecture)


to_uint8 = flooring_uint8
