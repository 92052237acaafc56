"""Networks whose first layers are compared where pixels alone say too little (He et al. 2021, section 3.2).

A network is five slices of convolutions, each behind the other; stage k of the paper is what slice k gives. The first
slice keeps the side of the image, each further one halves it. Input is RGB in 0..1, without the mean and deviation of
ImageNet, as in the authors' program. Tensors are named as in torchvision's VGG (`features.N.weight`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

POOL = 0
"""Stands for a 2 x 2 maximum in a slice; every other number is the width of a convolution with ReLU."""

Slices = Sequence[Sequence[int]]

VGG19: Slices = ((64,), (64, POOL, 128), (128, POOL, 256), (256, 256, 256, POOL, 512), (512, 512, 512, POOL, 512))
"""Up to relu5_1, index 29 of torchvision's `features` (Simonyan and Zisserman 2015); 12,944,960 parameters."""


def small(widths: Sequence[int]) -> Slices:
    """One convolution per stage, of the given widths."""
    return [[width] if number == 0 else [POOL, width] for number, width in enumerate(widths)]


class PerceptualNetwork(nn.Module):
    """Five slices of 3 x 3 convolutions with ReLU and 2 x 2 maximum pooling."""

    def __init__(self, slices: Slices) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.bounds = [0]
        channels = 3
        for widths in slices:
            for width in widths:
                if width == POOL:
                    layers.append(nn.MaxPool2d(2))
                else:  # in place is safe: it changes the fresh output of its convolution and nothing that is given out
                    layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                    channels = width
            self.bounds.append(len(layers))
        self.features = nn.Sequential(*layers)

    def stages(self, images: Tensor, wanted: Sequence[int]) -> dict[int, Tensor]:
        """Stages `wanted` (1 to 5) of images (N, 3, H, W) float32 RGB, nominally in 0..1; no deeper layer is run.

        Stage k is (N, channels, H // 2^(k-1), W // 2^(k-1)), 0 or more. Raises ValueError for another stage, or where
        a side has no pixel left.
        """
        count = len(self.bounds) - 1
        if not all(1 <= stage <= count for stage in wanted):
            raise ValueError(f"stages {list(wanted)} are wanted; the network has 1 to {count}")
        deepest = max(wanted, default=0)
        height, width = images.shape[-2:]
        if min(height, width) < 1 << max(deepest - 1, 0):
            raise ValueError(f"images of {height} x {width} have no stage {deepest}; expected {1 << (deepest - 1)} px")
        layers = list(self.features)
        found = {}
        for stage, (first, last) in enumerate(pairwise(self.bounds[: deepest + 1]), start=1):
            for layer in layers[first:last]:
                images = layer(images)
            if stage in wanted:
                found[stage] = images
        return found

    def forward(self, images: Tensor) -> Tensor:
        """The last stage."""
        last = len(self.bounds) - 1
        return self.stages(images, (last,))[last]


def build(slices: Slices) -> PerceptualNetwork:
    """A network without values (device "meta")."""
    with torch.device("meta"):
        return PerceptualNetwork(slices)
