"""AutoGAN's simulator: a network that gives a photograph back (Zhang et al. 2019, arXiv:1907.06515, section 4).

The network is CycleGAN's, of Johnson et al. 2016 (arXiv:1603.08155): two halvings, residual blocks, two doublings, with
instance normalization. Tensors have the names of those programs. The borders are mirrored by parts put together, whose
gradients a GPU repeats to the bit.

Notation: images are (N, 3, H, W) float32, -1..1, RGB.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import torch
from torch import Tensor, nn

from stages.generators.autogan_recipe import Upsampling
from stages.generators.layers import SLOPE, flooring_uint8, normalize, resolutions

NOISES: tuple[str, ...] = ()
METHODS: tuple[str, ...] = get_args(Upsampling)
DEVIATION = 0.02  # of the first weights


class Mirrored(nn.Module):
    """More pixels on all sides, mirrored at the outermost ones, which are not repeated."""

    def __init__(self, margin: int) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, x: Tensor) -> Tensor:
        for axis in (2, 3):
            length = x.shape[axis]
            before = x.narrow(axis, 1, self.margin).flip(axis)
            behind = x.narrow(axis, length - 1 - self.margin, self.margin).flip(axis)
            x = torch.cat([before, x, behind], dim=axis)
        return x


class PixelNorm(nn.Module):
    """Each pixel's features scaled to unit mean square."""

    def forward(self, x: Tensor) -> Tensor:
        return normalize(x)


class Residual(nn.Module):
    """Two mirrored convolutions beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            *(Mirrored(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width), nn.ReLU()),
            *(Mirrored(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)  # type: ignore[no-any-return]


def doubling(inputs: int, outputs: int, method: str) -> list[nn.Module]:
    """Layers that double the image, by one of METHODS."""
    if method == "transposed":
        layer = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
        return [layer, nn.InstanceNorm2d(outputs), nn.ReLU()]
    first, second = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
    repeated = nn.Upsample(scale_factor=2, mode="nearest")
    return [nn.Sequential(repeated, first, nn.LeakyReLU(SLOPE), PixelNorm(), second, PixelNorm())]


def initialize(network: nn.Module) -> None:
    """Normal first weights of deviation 0.02, biases 0; none on torch's meta device."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and not layer.weight.is_meta:
            nn.init.normal_(layer.weight, 0.0, DEVIATION)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class Generator(nn.Module):
    """A photograph to an image like it. The keyword arguments are the `architecture` of a weights file.

    width       feature maps at the full side
    blocks      residual blocks
    upsampling  one of METHODS; with `nearest` the last convolution is of 1x1
    """

    def __init__(
        self, *, c_dim: int, resolution: int, width: int = 64, blocks: int = 9, upsampling: str = "transposed"
    ) -> None:
        super().__init__()
        resolutions(resolution)
        if upsampling not in METHODS:
            raise ValueError(f"this network doubles images by {' or '.join(METHODS)}, not by {upsampling!r}")
        if min(width, blocks) < 1 or c_dim or resolution < 16:
            given = f"{resolution} pixels, width {width}, {blocks} blocks, {c_dim} classes"
            raise ValueError(f"this network has 16 pixels or more, sizes of at least 1 and no classes, not {given}")
        self.z_dim, self.c_dim, self.w_dim, self.resolution = 0, 0, 0, resolution
        layers: list[nn.Module] = [Mirrored(3), nn.Conv2d(3, width, 7), nn.InstanceNorm2d(width), nn.ReLU()]
        for maps in (width, 2 * width):
            halving = nn.Conv2d(maps, 2 * maps, 3, stride=2, padding=1)
            layers += [halving, nn.InstanceNorm2d(2 * maps), nn.ReLU()]
        layers += [Residual(4 * width) for _ in range(blocks)]
        for maps in (4 * width, 2 * width):
            layers += doubling(maps, maps // 2, upsampling)
        layers += [Mirrored(3), nn.Conv2d(width, 3, 7)] if upsampling == "transposed" else [nn.Conv2d(width, 3, 1)]
        self.model = nn.Sequential(*layers, nn.Tanh())
        initialize(self)

    def forward(self, source: Tensor) -> Tensor:
        """Images (N, 3, H, W) of photographs of the same shape."""
        side = self.resolution
        if source.shape[2:] != (side, side):
            raise ValueError(f"this network takes images of {side}x{side} pixels, not {tuple(source.shape[2:])}")
        return self.model(source)  # type: ignore[no-any-return]


def build(architecture: Mapping[str, Any]) -> Generator:
    """The generator of an `architecture`; unknown keys raise TypeError, impossible values ValueError."""
    return Generator(**architecture)


def styles(architecture: Mapping[str, Any]) -> int:
    """Number of styles that truncation can cut off: none."""
    return 0


@torch.no_grad()
def render(generator: nn.Module, rows: Mapping[str, Tensor]) -> Tensor:
    """Images (N, 3, H, W) float32, -1..1, of the photographs "source" (N, H, W, 3) uint8."""
    images: Tensor = generator(as_float(rows["source"]))
    return images


def as_float(images: Tensor) -> Tensor:
    """(N, H, W, 3) uint8 to (N, 3, H, W) float32 from -1 to 1, as the network was trained."""
    return (images.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous()


to_uint8 = flooring_uint8
