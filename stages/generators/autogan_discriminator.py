"""A discriminator of patches (Isola et al. 2017, arXiv:1611.07004): one score for each of many places of an image."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from stages.generators.autogan import initialize
from stages.generators.layers import SLOPE


class Discriminator(nn.Module):
    """Image to scores (N, 1, h, w): higher means more real.

    width   feature maps of the first layer; they double in each, up to 8 times
    layers  layers that halve
    """

    def __init__(self, *, c_dim: int, resolution: int, width: int = 64, layers: int = 3) -> None:
        super().__init__()
        if min(width, layers) < 1 or c_dim or resolution >> layers < 4:
            given = f"{resolution} pixels, width {width}, {layers} layers, {c_dim} classes"
            raise ValueError(
                "a discriminator of patches has sizes of at least 1, 4 pixels behind its layers and no classes, not "
                f"{given}"
            )
        self.c_dim, self.resolution = 0, resolution
        maps = [width * min(1 << k, 8) for k in range(layers + 1)]
        found: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
        for number, (before, after) in enumerate(pairwise(maps), 1):
            convolution = nn.Conv2d(before, after, 4, stride=2 if number < layers else 1, padding=1)
            found += [convolution, nn.InstanceNorm2d(after), nn.LeakyReLU(SLOPE)]
        self.model = nn.Sequential(*found, nn.Conv2d(maps[-1], 1, 4, padding=1))
        initialize(self)

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        scores: Tensor = self.model(image)
        return scores
