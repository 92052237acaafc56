"""StyleGAN2's discriminator (Karras et al. 2020, arXiv:1912.04958, section 4.1 and figure 7).

Apart from the generator, because sampling has no need of it. Tensors have the names of the public torch version.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from stages.generators.layers import MinibatchDeviation, resolutions
from stages.generators.stylegan2 import NETWORKS, Convolution, Linear, MappingNetwork, channels, downsample


class DiscriminatorBlock(nn.Module):
    """Two convolutions that halve the resolution."""

    def __init__(
        self, middle: int, outputs: int, colors: int, network: str, from_rgb: bool, clamp: float | None
    ) -> None:
        super().__init__()
        self.fromrgb = Convolution(colors, middle, 1, clamp=clamp) if from_rgb else None
        self.conv0 = Convolution(middle, middle, 3, clamp=clamp)
        self.conv1 = Convolution(middle, outputs, 3, resample="down", clamp=clamp)
        self.skip: Convolution | None = None
        if network == "resnet":
            self.skip = Convolution(middle, outputs, 1, resample="down", linear=True, bias=False)

    def forward(self, x: Tensor | None, image: Tensor) -> Tensor:
        if self.fromrgb is not None:
            color = self.fromrgb(image)
            x = color if x is None else x + color
        assert x is not None  # the first block has fromrgb
        if self.skip is None:
            return self.conv1(self.conv0(x))
        gain = math.sqrt(0.5)
        return self.skip(x, gain=gain) + self.conv1(self.conv0(x), gain=gain)


class DiscriminatorEnd(nn.Module):
    """4x4 features to a score, or to the features that a label selects."""

    def __init__(
        self, width: int, outputs: int, colors: int, network: str, group: int | None, features: int, clamp: float | None
    ) -> None:
        super().__init__()
        self.fromrgb = Convolution(colors, width, 1) if network == "skip" else None
        self.mbstd = MinibatchDeviation(group, features) if features else None
        self.conv = Convolution(width + features, width, 3, clamp=clamp)
        self.fc = Linear(width * 16, width, linear=False)
        self.out = Linear(width, outputs)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        if self.fromrgb is not None:
            x = x + self.fromrgb(image)
        x = self.mbstd(x) if self.mbstd is not None else x
        return self.out(self.fc(self.conv(x).flatten(1)))


class Discriminator(nn.Module):
    """Image (and label) to a score (N, 1): higher means more real."""

    def __init__(
        self,
        *,
        c_dim: int,
        resolution: int,
        colors: int = 3,
        network: str = "resnet",
        channel_base: int = 32768,
        channel_max: int = 512,
        conv_clamp: float | None = None,
        label_width: int | None = None,
        mapping_layers: int = 8,
        group: int | None = 4,
        group_features: int = 1,
    ) -> None:
        super().__init__()
        if network not in NETWORKS:
            raise ValueError(f"a StyleGAN2 discriminator is one of {', '.join(NETWORKS)}, not {network!r}")
        self.network, self.sizes = network, resolutions(resolution)[:0:-1]
        self.label_width = 0 if c_dim == 0 else label_width or channels(4, channel_base, channel_max)
        for size in self.sizes:
            middle, outputs = (channels(side, channel_base, channel_max) for side in (size, size // 2))
            from_rgb = size == resolution or network == "skip"
            self.add_module(f"b{size}", DiscriminatorBlock(middle, outputs, colors, network, from_rgb, conv_clamp))
        if c_dim:
            self.mapping = MappingNetwork(0, c_dim, self.label_width, layers=mapping_layers, average=False)
        width = channels(4, channel_base, channel_max)
        self.b4 = DiscriminatorEnd(width, self.label_width or 1, colors, network, group, group_features, conv_clamp)

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        x: Tensor | None = None
        for size in self.sizes:
            x = self.get_submodule(f"b{size}")(x, image)
            image = downsample(image) if self.network == "skip" else image
        x = self.b4(x, image)
        if self.label_width:
            selected = (x * self.mapping(None, label)).sum(dim=1, keepdim=True)
            return selected / math.sqrt(self.label_width)
        return x
