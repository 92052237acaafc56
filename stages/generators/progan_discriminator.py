"""ProGAN's discriminator: the generator in reverse (Karras et al. 2018, arXiv:1710.10196, section 2 and table 2).

Apart from the generator, because sampling has no need of it. A conditional one also guesses the label (auxiliary
classifier, Odena et al. 2017, arXiv:1610.09585, as in the authors' code).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.generators.growing import level_of, widths
from stages.generators.layers import SLOPE, Convolution, Linear, MinibatchDeviation, resolutions

GROUPINGS = ("interleaved", "consecutive")


class ConsecutiveDeviation(nn.Module):
    """Minibatch deviation as pytorch_GAN_zoo computes it: unbiased, over `group` images that follow each other.

    The whole batch is one group where its size is no multiple of `group`; a single image has deviation 0.
    """

    def __init__(self, group: int | None) -> None:
        super().__init__()
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        group = n if self.group is None or n % min(self.group, n) else min(self.group, n)
        y = x.reshape(n // group, group, c, h, w)
        deviation = (y.var(dim=1) + 1e-8).sqrt().mean(dim=(1, 2, 3)) if group > 1 else x.new_zeros(n)
        deviation = deviation.repeat_interleave(group).reshape(n, 1, 1, 1)
        return torch.cat([x, deviation.expand(n, 1, h, w)], dim=1)


class Block(nn.Module):
    """Two convolutions that halve the resolution.

    Unfused, the mean of 2x2 pixels follows the rectifier; fused, it precedes bias and rectifier.
    """

    def __init__(self, inputs: int, outputs: int, colors: int, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.fromrgb = Convolution(colors, inputs, 1)
        self.conv0 = Convolution(inputs, inputs)
        self.conv1 = Convolution(inputs, outputs, resample="down" if fused else "", fused=fused)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.conv0(x), SLOPE)
        x = F.leaky_relu(self.conv1(x), SLOPE)
        return x if self.fused else F.avg_pool2d(x, 2)


class LastBlock(nn.Module):
    """4x4 features to a score and label logits (N, outputs)."""

    def __init__(self, inputs: int, width: int, outputs: int, colors: int, deviation: nn.Module | None) -> None:
        super().__init__()
        self.fromrgb = Convolution(colors, inputs, 1)
        self.deviation = deviation
        self.conv = Convolution(inputs + (deviation is not None), inputs)
        self.dense = Linear(inputs * 16, width)
        self.out = Linear(width, outputs, gain=1)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.deviation is None else self.deviation(x)
        x = F.leaky_relu(self.conv(x), SLOPE)
        return self.out(F.leaky_relu(self.dense(x.flatten(1)), SLOPE))


class Discriminator(nn.Module):
    """Image to a score (N, 1): higher means more real.

    group     images compared by the minibatch deviation; None: the whole batch; 0: without this layer
    grouping  "interleaved", or "consecutive" for networks of pytorch_GAN_zoo
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
        fused: bool = False,
        group: int | None = 4,
        grouping: str = "interleaved",
        hidden: int | None = None,
    ) -> None:
        super().__init__()
        if grouping not in GROUPINGS:
            raise ValueError(f"a ProGAN discriminator groups images {' or '.join(GROUPINGS)}, not {grouping!r}")
        self.c_dim, self.resolution, self.sides = c_dim, resolution, resolutions(resolution)[::-1]
        width = widths(resolution, fmap_base, fmap_decay, fmap_max, features)
        for side in self.sides[:-1]:
            self.add_module(f"b{side}", Block(width[side], width[side // 2], colors, fused))
        deviation: nn.Module | None = None
        if group != 0:
            deviation = ConsecutiveDeviation(group) if grouping == "consecutive" else MinibatchDeviation(group)
        self.b4 = LastBlock(width[4], hidden or width[2], 1 + c_dim, colors, deviation)
        self.register_buffer("lod", torch.zeros(()))

    def forward(self, image: Tensor, label: Tensor | None = None, *, lod: float | None = None) -> Tensor:
        """Scores (N, 1); the score does not depend on the label. Arguments as in `scores`."""
        return self.scores(image, lod=lod)[0]

    def scores(self, image: Tensor, *, lod: float | None = None) -> tuple[Tensor, Tensor]:
        """Scores (N, 1) and label logits (N, c_dim).

        image  of the full resolution, or of the one that `lod` computes: resolution / 2^floor(lod)
        lod    as in the generator; None: the one stored with the weights
        """
        level, fraction = level_of(self.lod, lod, self.resolution)
        sides = self.sides[level:]
        if tuple(image.shape[2:]) == (self.resolution, self.resolution):
            image = F.avg_pool2d(image, 1 << level) if level else image
        elif tuple(image.shape[2:]) != (sides[0], sides[0]):
            expected = f"{self.resolution} pixels" + (f" or {sides[0]} (level of detail {level})" if level else "")
            raise ValueError(f"this discriminator takes square images of {expected}, not {tuple(image.shape[2:])}")
        x = self.color(image, sides[0])
        for side in sides:
            x = self.get_submodule(f"b{side}")(x)
            if fraction and side == sides[0]:
                x = x.lerp(self.color(F.avg_pool2d(image, 2), side // 2), fraction)
        return x[:, :1], x[:, 1:]

    def color(self, image: Tensor, side: int) -> Tensor:
        """An image of this side to features."""
        return F.leaky_relu(self.get_submodule(f"b{side}.fromrgb")(image), SLOPE)
