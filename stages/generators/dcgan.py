"""DCGAN's generator with one of three endings: transposed convolutions from 1x1 pixels (Radford et al. 2016).

`plain` ends in a transposed convolution, whose spectrum it cannot repair. `stacked` repeats values and has three 5x5
convolutions behind, without rectifiers between, so one linear filter (Durall et al. 2020); `large_stacked` has an 8x8
transposed convolution, then convolutions with rectifiers (Jung and Keuper 2021). Names of the first two's tensors, and
widths, are those of LynnHo's program.

Notation: images are (N, 3, H, W) float32, -1..1, RGB; z is (N, z_dim).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, get_args

from torch import Tensor, nn

from stages.generators.dcgan_recipe import Last
from stages.generators.latents import NOISES, draw, render, styles
from stages.generators.layers import BatchNorm, flooring_uint8, resolutions

__all__ = ["NOISES", "Generator", "build", "draw", "render", "styles", "to_uint8"]

ENDINGS: tuple[str, ...] = get_args(Last)
DEVIATION = 0.02  # of the first weights of Jung and Keuper


def up(inputs: int, outputs: int, stride: int = 2) -> nn.Sequential:
    """A transposed 4x4 convolution, normalized and rectified; with stride 1 from 1x1 pixels to 4x4."""
    layer = nn.ConvTranspose2d(inputs, outputs, 4, stride=stride, padding=stride - 1, bias=False)
    return nn.Sequential(layer, BatchNorm(outputs), nn.ReLU())


def convolutions(width: int, *, rectified: bool) -> list[nn.Module]:
    """Three of 5x5, the last to colors."""
    layers: list[nn.Module] = []
    for outputs in (width, width, 3):
        layers.append(nn.Conv2d(width, outputs, 5, padding=2))
        layers += [nn.ReLU()] * (rectified and outputs != 3)
    return layers


class Generator(nn.Module):
    """z to an image. The keyword arguments are the `architecture` of a weights file.

    width  feature maps before the last doubling; twice that with `large_stacked`. They double toward 4x4 pixels, up to
           max_width
    last   one of ENDINGS
    """

    def __init__(
        self, *, z_dim: int, c_dim: int, resolution: int, width: int, max_width: int = 512, last: str = "plain"
    ) -> None:
        super().__init__()
        sides = resolutions(resolution)
        if last not in ENDINGS:
            raise ValueError(f"a DCGAN ends in {', '.join(ENDINGS)}, not in {last!r}")
        if min(width, max_width, z_dim) < 1 or c_dim:
            given = f"width {width}, max_width {max_width}, z_dim {z_dim} and {c_dim} classes"
            raise ValueError(f"a DCGAN has sizes of at least 1 and no classes, not {given}")
        self.z_dim, self.c_dim, self.w_dim, self.resolution = z_dim, 0, 0, resolution
        base = 2 * width if last == "large_stacked" else width
        maps = [min(base << k, max_width) for k in reversed(range(len(sides) - 1))]
        layers: list[nn.Module] = [up(z_dim, maps[0], stride=1)]
        layers += [up(before, after) for before, after in pairwise(maps)]
        if last == "plain":
            layers.append(nn.ConvTranspose2d(maps[-1], 3, 4, stride=2, padding=1))
        elif last == "stacked":
            layers += [nn.Upsample(scale_factor=2, mode="nearest"), *convolutions(maps[-1], rectified=False)]
        else:
            large = nn.ConvTranspose2d(maps[-1], width, 8, stride=2, padding=3, bias=False)
            layers += [large, nn.ReLU(), *convolutions(width, rectified=True)]
        self.net = nn.Sequential(*layers, nn.Tanh())
        if last == "large_stacked":
            start_near_zero(self)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Images (N, 3, H, W) of z (N, z_dim)."""
        images: Tensor = self.net(z[:, :, None, None])
        return images


def start_near_zero(network: nn.Module) -> None:
    """First weights as those of Radford et al. 2016: normal, of deviation 0.02; gains likewise around 1."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and not layer.weight.is_meta:
            nn.init.normal_(layer.weight, 0.0, DEVIATION)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, BatchNorm) and not layer.weight.is_meta:
            nn.init.normal_(layer.weight, 1.0, DEVIATION)


def build(architecture: Mapping[str, Any]) -> Generator:
    """The generator of an `architecture`; unknown keys raise TypeError, impossible values ValueError."""
    return Generator(**architecture)


to_uint8 = flooring_uint8
