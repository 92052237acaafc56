"""ProGAN: a generator that grows by doubling its resolution (Karras et al. 2018, arXiv:1710.10196).

Written from the paper in plain torch operations: section 2 for growing, section 4 for normalization, table 2 for the
layers. The authors' code varies widths, fused resampling and the state of growing, and so do the arguments here; those
that only a foreign version of the network needs say so. The discriminator is in `progan_discriminator`.

Growing: `lod` (level of detail) says how much of the resolution is still missing. An image at lod k + f has side
resolution / 2^k and is faded with the next coarser one by the fraction f; lod 0 is the finished network.

Notation: images are (N, colors, H, W) float32, about -1..1, RGB; z is (N, z_dim), labels are one-hot (N, c_dim).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.generators import paddings
from stages.generators.growing import level_of, upsample, widths
from stages.generators.layers import SLOPE, Linear, normalize, resolutions, rounding_uint8
from stages.generators.paddings import ZEROS, Convolution

FloatArray = NDArray[np.float32]

NOISES: tuple[str, ...] = ()  # z is the only source of randomness


class Start(Linear):
    """z (and label) to features (N, features, 4, 4), by a fully connected layer.

    The bias is one number per feature map, or with `pixel_bias` one per pixel of it.
    """

    def __init__(self, inputs: int, features: int, pixel_bias: bool) -> None:
        super().__init__(inputs, features * 16, gain=math.sqrt(2) / 4, bias=False)
        side = 4 if pixel_bias else 1
        self.bias = nn.Parameter(torch.zeros(features, side, side) if pixel_bias else torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        assert self.bias is not None
        bias = self.bias if self.bias.ndim == 3 else self.bias[:, None, None]
        return (x @ (self.weight * self.scale).T).reshape(len(x), -1, 4, 4) + bias


class Block(nn.Module):
    """The layers of one resolution: each rectified, then scaled to unit length in each pixel (section 4.2)."""

    def __init__(self, inputs: int, outputs: int, colors: int, fused: bool, padding: str) -> None:
        super().__init__()
        self.conv0 = Convolution(inputs, outputs, resample="up", fused=fused, padding=padding)
        self.conv1 = Convolution(outputs, outputs, padding=padding)
        self.torgb = Convolution(outputs, colors, 1, gain=1)

    def forward(self, x: Tensor) -> Tensor:
        x = normalize(F.leaky_relu(self.conv0(x), SLOPE))
        return normalize(F.leaky_relu(self.conv1(x), SLOPE))


class FirstBlock(nn.Module):
    """The layers at 4x4 pixels."""

    def __init__(self, inputs: int, outputs: int, colors: int, pixel_bias: bool) -> None:
        super().__init__()
        self.dense = Start(inputs, outputs, pixel_bias)
        self.conv = Convolution(outputs, outputs)
        self.torgb = Convolution(outputs, colors, 1, gain=1)

    def forward(self, x: Tensor) -> Tensor:
        x = normalize(F.leaky_relu(self.dense(x), SLOPE))
        return normalize(F.leaky_relu(self.conv(x), SLOPE))


class Generator(nn.Module):
    """z and label to an image. The keyword arguments are the `architecture` of a weights file.

    fused              upsample and convolve in one strided step
    normalize_latents  scale z, together with the label, to unit mean square
    features           feature maps at 4, 8, ... pixels, for networks that do not follow the rule of the authors
    pixel_bias         the first layer has a bias per pixel (pytorch_GAN_zoo)
    padding            what layers of the last block see beyond a border, one of `paddings.PADDINGS`
    """

    lod: Tensor

    def __init__(
        self,
        *,
        z_dim: int,
        c_dim: int,
        resolution: int,
        colors: int = 3,
        fmap_base: float = 8192,
        fmap_decay: float = 1.0,
        fmap_max: int = 512,
        features: Sequence[int] | None = None,
        fused: bool = False,
        normalize_latents: bool = True,
        pixel_bias: bool = False,
        padding: str = ZEROS,
    ) -> None:
        super().__init__()
        paddings.check(padding)
        self.z_dim, self.c_dim, self.w_dim, self.resolution = z_dim, c_dim, 0, resolution
        self.normalize_latents, self.sides = normalize_latents, resolutions(resolution)
        width = widths(resolution, fmap_base, fmap_decay, fmap_max, features)
        self.b4 = FirstBlock(z_dim + c_dim, width[4], colors, pixel_bias)
        for side in self.sides[1:]:
            beyond = padding if side == resolution else ZEROS
            self.add_module(f"b{side}", Block(width[side // 2], width[side], colors, fused, beyond))
        self.register_buffer("lod", torch.zeros(()))

    def forward(
        self, z: Tensor, label: Tensor | None = None, *, lod: float | None = None, native: bool = False
    ) -> Tensor:
        """Images, unclamped, of the full resolution; with `native` of the resolution that `lod` computes.

        lod  0 (finished) to log2(resolution) - 2 (4x4 pixels); None: the one stored with the weights
        """
        level, fraction = level_of(self.lod, lod, self.resolution)
        if self.c_dim and label is None:
            raise ValueError(f"this network is conditional: it needs a label of width {self.c_dim}")
        x = torch.cat([z, label], dim=1) if self.c_dim and label is not None else z
        x = normalize(x) if self.normalize_latents else x
        coarser: Tensor | None = None
        sides = self.sides[: len(self.sides) - level]
        for side in sides:
            block = self.get_submodule(f"b{side}")
            if fraction and side == sides[-1]:
                coarser = upsample(self.get_submodule(f"b{side // 2}.torgb")(x))
            x = block(x)
        image = self.get_submodule(f"b{sides[-1]}.torgb")(x)
        image = image if coarser is None else image.lerp(coarser, fraction)
        return image if native else upsample(image, 1 << level)


def build(architecture: Mapping[str, Any]) -> Generator:
    """The generator of an `architecture`; unknown keys raise TypeError, impossible values ValueError."""
    return Generator(**architecture)


def styles(architecture: Mapping[str, Any]) -> int:
    """Number of styles that truncation can cut off: none."""
    return 0


def draw(architecture: Mapping[str, Any], seed: int, noise: str = "none") -> dict[str, FloatArray]:
    """What one image is made from: z (z_dim,) float32 of numpy's RandomState(seed)."""
    return {"z": np.random.RandomState(seed).randn(1, architecture["z_dim"])[0].astype(np.float32)}


@torch.no_grad()
def render(
    generator: Generator,
    rows: Mapping[str, Tensor],
    *,
    psi: float = 1.0,
    cutoff: int | None = None,
    noise: str = "none",
) -> Tensor:
    """Images (N, 3, H, W) float32, unclamped, of drawn rows: "z", and "label" if conditional.

    psi, cutoff and noise are those of other families; here they must keep their values.
    """
    if psi != 1 or cutoff is not None:
        raise ValueError(f"a ProGAN has no styles to truncate: psi is 1 and cutoff is none, not {psi:g} and {cutoff}")
    return generator(rows["z"], rows.get("label"))


to_uint8 = rounding_uint8
