"""StyleGAN2's discriminator (Karras et al. 2020, arXiv:1912.04958, section 4.1 and figure 7).

Apart from the generator, because sampling has no need of it. Tensors have the names of the public torch version.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from stages.generators.layers import MinibatchDeviation
from stages.generators.stylegan2 import NETWORKS, Convolution, Linear, MappingNetwork, downsample, widths

LABELS = ("project", "select")  # ways to make one score of the image's features and its label


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
        self,
        width: int,
        hidden: int,
        outputs: int,
        colors: int,
        network: str,
        group: int | None,
        features: int,
        clamp: float | None,
    ) -> None:
        super().__init__()
        self.fromrgb = Convolution(colors, width, 1) if network == "skip" else None
        self.mbstd = MinibatchDeviation(group, features) if features else None
        self.conv = Convolution(width + features, width, 3, clamp=clamp)
        self.fc = Linear(width * 16, hidden, linear=False)
        self.out = Linear(hidden, outputs)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        if self.fromrgb is not None:
            x = x + self.fromrgb(image)
        x = self.mbstd(x) if self.mbstd is not None else x
        return self.out(self.fc(self.conv(x).flatten(1)))


class Discriminator(nn.Module):
    """Image (and label) to a score (N, 1): higher means more real. The arguments are as in `stylegan2.Generator`.

    end_features    width of the last hidden layer; None: as many as there are feature maps at 4x4
    labels          "project": inner product of image and label, both as `label_width` numbers (stylegan2-ada);
                    "select": one score for each class (Mescheder et al. 2018, arXiv:1801.04406; TensorFlow version)
    group           images that are compared with each other; None: the whole batch
    group_features  feature maps that this comparison adds, 0: none
    """

    def __init__(
        self,
        *,
        c_dim: int,
        resolution: int,
        colors: int = 3,
        network: str = "resnet",
        channel_base: int = 32768,
        channel_max: int = 512,
        features: Sequence[int] | None = None,
        end_features: int | None = None,
        conv_clamp: float | None = None,
        labels: str = "project",
        label_width: int | None = None,
        mapping_layers: int = 8,
        mapping_features: int | None = None,
        mapping_embedding: int | None = None,
        mapping_rate: float = 0.01,
        group: int | None = 4,
        group_features: int = 1,
    ) -> None:
        super().__init__()
        if network not in NETWORKS:
            raise ValueError(f"a StyleGAN2 discriminator is one of {', '.join(NETWORKS)}, not {network!r}")
        if labels not in LABELS:
            raise ValueError(f"a StyleGAN2 discriminator uses labels to {' or '.join(LABELS)}, not to {labels!r}")
        maps = widths(resolution, channel_base, channel_max, features)
        self.c_dim, self.resolution = c_dim, resolution
        self.network, self.sizes = network, list(maps)[:0:-1]
        self.label_width = (label_width or maps[4]) if c_dim and labels == "project" else 0
        for size in self.sizes:
            from_rgb = size == resolution or network == "skip"
            block = DiscriminatorBlock(maps[size], maps[size // 2], colors, network, from_rgb, conv_clamp)
            self.add_module(f"b{size}", block)
        if self.label_width:
            self.mapping = MappingNetwork(
                0,
                c_dim,
                self.label_width,
                layers=mapping_layers,
                features=mapping_features,
                embedding=mapping_embedding,
                rate=mapping_rate,
                average=False,
            )
        hidden, outputs = end_features or maps[4], self.label_width or c_dim or 1
        self.b4 = DiscriminatorEnd(maps[4], hidden, outputs, colors, network, group, group_features, conv_clamp)

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        x: Tensor | None = None
        for size in self.sizes:
            x = self.get_submodule(f"b{size}")(x, image)
            image = downsample(image) if self.network == "skip" else image
        x = self.b4(x, image)
        if self.label_width:
            selected = (x * self.mapping(None, label)).sum(dim=1, keepdim=True)
            return selected / math.sqrt(self.label_width)
        if self.c_dim:
            if label is None:
                raise ValueError(f"this discriminator is conditional: it needs a label of width {self.c_dim}")
            return (x * label).sum(dim=1, keepdim=True)
        return x
