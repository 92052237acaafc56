"""DCGAN's discriminator: strided 4x4 convolutions down to one score (Radford et al. 2016, arXiv:1511.06434).

Where the loss penalizes the gradient of single images, features are normalized within an image, not over the batch.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from stages.generators.layers import SLOPE, BatchNorm, resolutions

NORMS = ("batch", "layer")


class Discriminator(nn.Module):
    """Image to a score (N, 1): higher means more real.

    width  feature maps of the first layer; they double in each, up to max_width
    norm   "batch", or "layer": over all features of an image
    """

    def __init__(self, *, c_dim: int, resolution: int, width: int, max_width: int = 512, norm: str = "batch") -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"a DCGAN discriminator is normalized by {' or '.join(NORMS)}, not {norm!r}")
        if min(width, max_width) < 1 or c_dim:
            given = f"width {width}, max_width {max_width} and {c_dim} classes"
            raise ValueError(f"a DCGAN discriminator has widths of at least 1 and no classes, not {given}")
        self.c_dim, self.resolution = 0, resolution
        maps = [min(width << k, max_width) for k in range(len(resolutions(resolution)) - 1)]
        layers: list[nn.Module] = [nn.Conv2d(3, maps[0], 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
        for before, after in pairwise(maps):
            normalization = BatchNorm(after) if norm == "batch" else nn.GroupNorm(1, after)
            convolution = nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False)
            layers.append(nn.Sequential(convolution, normalization, nn.LeakyReLU(SLOPE)))
        self.net = nn.Sequential(*layers, nn.Conv2d(maps[-1], 1, 4))

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        scores: Tensor = self.net(image).flatten(1)
        return scores
