"""StyleGAN's discriminator (Karras et al. 2019, arXiv:1812.04948, appendix C): ProGAN's, with low-pass filters.

Apart from the generator, because sampling has no need of it. A conditional one has a score per class, of which the
label picks one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.generators.growing import level_of, widths
from stages.generators.layers import SLOPE, Convolution, Linear, MinibatchDeviation, resolutions
from stages.generators.stylegan import Fused, blur, is_fused


class Block(nn.Module):
    """Two convolutions that halve the resolution; the second one filters before it does."""

    def __init__(self, inputs: int, outputs: int, colors: int, fused: bool) -> None:
        super().__init__()
        self.fromrgb = Convolution(colors, inputs, 1)
        self.conv0 = Convolution(inputs, inputs)
        self.conv1 = Convolution(inputs, outputs, resample="down", fused=fused)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.conv0(x), SLOPE)
        return F.leaky_relu(self.conv1(blur(x)), SLOPE)


class LastBlock(nn.Module):
    """4x4 features to scores (N, outputs)."""

    def __init__(
        self, inputs: int, width: int, outputs: int, colors: int, group: int | None, group_features: int
    ) -> None:
        super().__init__()
        more = 0 if group in (0, 1) else group_features
        self.fromrgb = Convolution(colors, inputs, 1)
        self.deviation = MinibatchDeviation(group, group_features) if more else None
        self.conv = Convolution(inputs + more, inputs)
        self.dense = Linear(inputs * 16, width)
        self.out = Linear(width, outputs, gain=1)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.deviation is None else self.deviation(x)
        x = F.leaky_relu(self.conv(x), SLOPE)
        return self.out(F.leaky_relu(self.dense(x.flatten(1)), SLOPE))


class Discriminator(nn.Module):
    """Image (and label) to a score (N, 1): higher means more real.

    fused     convolve and downsample in one strided step; "auto": from 128 pixels on; a number: from this side on
    group     images compared by the minibatch deviation; None: the whole batch; 0 or 1: without this layer
    features  feature maps at 4, 8, ... pixels, for networks that do not follow the rule of the authors
    hidden    width of the fully connected layer at 4x4 pixels; None: by the rule, or as many as there are feature maps
    """

    lod: Tensor

    def __init__(
        self,
        *,
        c_dim: int,
        resolution: int,
        colors: int = 3,
        fmap_base: float = 8192,
        fmap_decay: float = 1.0,
        fmap_max: int = 512,
        features: Sequence[int] | None = None,
        fused: Fused = "auto",
        group: int | None = 4,
        group_features: int = 1,
        hidden: int | None = None,
    ) -> None:
        super().__init__()
        self.c_dim, self.resolution, self.sides = c_dim, resolution, resolutions(resolution)[::-1]
        width = widths(resolution, fmap_base, fmap_decay, fmap_max, features)
        for side in self.sides[:-1]:
            self.add_module(f"b{side}", Block(width[side], width[side // 2], colors, is_fused(fused, side)))
        self.b4 = LastBlock(width[4], hidden or width[2], max(c_dim, 1), colors, group, group_features)
        self.register_buffer("lod", torch.zeros(()))

    def forward(self, image: Tensor, label: Tensor | None = None, *, lod: float | None = None) -> Tensor:
        """Scores (N, 1).

        image  of the full resolution, or of the one that `lod` computes: resolution / 2^floor(lod)
        lod    as in the generator; None: the one stored with the weights
        """
        if self.c_dim and label is None:
            raise ValueError(f"this network is conditional: it needs a label of width {self.c_dim}")
        level, fraction = level_of(self.lod, lod, self.resolution)
        sides = self.sides[level:]
        if tuple(image.shape[2:]) == (self.resolution, self.resolution):
            image = F.avg_pool2d(image, 1 << level) if level else image
        elif tuple(image.shape[2:]) != (sides[0], sides[0]):
            expected = f"{self.resolution} pixels" + (f" or {sides[0]} (level of detail {level})" if level else "")
            raise ValueError(f"this discriminator takes square images of {expected}, not {tuple(image.shape[2:])}")
        x = self._color(image, sides[0])
        for side in sides:
            x = self.get_submodule(f"b{side}")(x)
            if fraction and side == sides[0]:
                x = x.lerp(self._color(F.avg_pool2d(image, 2), side // 2), fraction)
        return (x * label).sum(dim=1, keepdim=True) if self.c_dim and label is not None else x

    def _color(self, image: Tensor, side: int) -> Tensor:
        """An image of this side to features."""
        return F.leaky_relu(self.get_submodule(f"b{side}.fromrgb")(image), SLOPE)
