"""The re-synthesizer: a residual dense network that enlarges images four times (He et al. 2021, section 3.1).

The graph is the residual dense network of Zhang et al. 2018 (arXiv:1802.08797) with two steps of pixel shuffling. The
names of the tensors are those of the published code, so that its files fit. Nothing is normalized: training and
evaluation mode are the same function.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stages.resynthesis.scale import COLORS


def convolution(inputs: int, outputs: int, size: int = 3) -> nn.Conv2d:
    """Convolution with bias that keeps the sides (zeros outside)."""
    return nn.Conv2d(inputs, outputs, size, padding=size // 2)


class DenseLayer(nn.Module):
    """(N, C, h, w) to (N, C + growth, h, w): its input, followed by new features."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.conv = convolution(inputs, growth)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, torch.relu(self.conv(x))], dim=1)


class DenseBlock(nn.Module):
    """Dense layers, a 1 x 1 fusion back to as many channels as came in, and the input added.

    The published code fuses to `growth` channels, which fits its input only where growth equals features; there both
    are the same.
    """

    def __init__(self, features: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(DenseLayer(features + number * growth, growth) for number in range(layers)))
        self.lff = convolution(features + layers * growth, features, 1)

    def forward(self, x: Tensor) -> Tensor:
        fused: Tensor = self.lff(self.layers(x))
        return x + fused


class RDN(nn.Module):
    """(N, 3, h, w) to (N, 3, 4h, 4w), both float32 RGB of nominally [0, 1]; the output is not clamped.

    features, growth  channels of a block and of each of its layers (G0 and G)
    blocks, layers    blocks, and dense layers in each of them (D and C)
    Initial weights are torch's, from its default random generator. Raises ValueError where a count is below 1.
    """

    def __init__(self, features: int, growth: int, blocks: int, layers: int) -> None:
        super().__init__()
        counts = {"features": features, "growth": growth, "blocks": blocks, "layers": layers}
        wrong = {name: count for name, count in counts.items() if type(count) is not int or count < 1}
        if wrong:
            raise ValueError(f"a residual dense network has whole numbers of 1 or more, not {wrong}")
        self.sfe1 = convolution(COLORS, features)
        self.sfe2 = convolution(features, features)
        self.rdbs = nn.ModuleList(DenseBlock(features, growth, layers) for _ in range(blocks))
        self.gff = nn.Sequential(convolution(blocks * features, features, 1), convolution(features, features))
        self.upscale = nn.Sequential(
            convolution(features, 4 * features),
            nn.PixelShuffle(2),
            convolution(features, 4 * features),
            nn.PixelShuffle(2),
        )
        self.output = convolution(features, COLORS)

    def forward(self, x: Tensor) -> Tensor:
        shallow = self.sfe1(x)
        x = self.sfe2(shallow)
        local = []
        for block in self.rdbs:
            x = block(x)
            local.append(x)
        x = self.gff(torch.cat(local, dim=1)) + shallow
        enlarged: Tensor = self.output(self.upscale(x))
        return enlarged
