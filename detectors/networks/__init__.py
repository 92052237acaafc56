"""Architectures by name. Part of no recipe: one more changes nothing that was trained.

An architecture is a module here and one entry in this file: a subclass of `Network` that names the module and has its
settings with their defaults, which a recipe keeps in full. The module may import torch at its top (planning reads this
file only) and has

    build(settings, channels, sides, outputs) -> nn.Module

a network with new weights, as torch's default generator draws them; the caller has seeded it, and may build on torch's
meta device to learn shapes. Floats (n, channels, *sides) go in as `detectors.preprocessing` makes them, logits
(n, outputs) come out, or (n, outputs, h, w) where cells speak for parts of a row (`detectors.heads` reads both). Names
of tensors are those of the published file where there is one. All buffers are persistent. ValueError: rows too small.

Of the network a row's logits must not depend on its neighbors in a batch of fixed size. Where there are maps for heat
pictures, its method `maps(x)` gives them, (n, c, h, w) before pooling and head; `detectors.networks.receptive_field`
computes from it what a cell sees. A file that has other names for tensors than the network, or other shapes, is brought
to it by `own_tensors(settings, tensors) -> tensors` of the module: named arrays, as published, to named arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from detectors.parts import OneOf, Settings

IN_RECIPES = False


class Network(Settings):
    """Base of all architectures: `module` builds it, `called` names it in a table."""

    called: ClassVar[str]

    architecture: str

    @property
    def title(self) -> str:
        """Name in a table, with what tells it from others of its kind."""
        return self.called


class SmallCnn(Network):
    """Of Frank et al. 2020, with batch normalization."""

    module: ClassVar[str] = "detectors.networks.small_cnn"
    called: ClassVar[str] = "CNN"

    architecture: Literal["small_cnn"] = Field(default="small_cnn", description="3 x 3 convolutions and one dense unit")
    widths: tuple[int, ...] = Field(default=(8, 16, 32), min_length=1, description="channels of the convolutions")
    places: Literal["all", "mean"] = Field(
        default="all",
        description="all: a weight for each place (a spectrum's frequencies); mean: their mean (an image)",
    )


class Compact(Network):
    """For residual features or pixels of small images."""

    module: ClassVar[str] = "detectors.networks.resnet"
    called: ClassVar[str] = "compact CNN"

    architecture: Literal["compact"] = Field(default="compact", description="94 thousand parameters from 3 channels")
    widths: tuple[int, ...] = Field(default=(32, 64, 128), min_length=1, description="channels of the convolutions")


class ResNet(Network):
    """Of He et al. 2016 from scratch, whole or cut behind a stage."""

    module: ClassVar[str] = "detectors.networks.resnet"
    called: ClassVar[str] = "ResNet"

    architecture: Literal["resnet"] = Field(default="resnet", description="residual network, torchvision's names")
    depth: Literal[18, 34, 50] = Field(default=50, description="layers")
    kernel: Literal[3, 7] = Field(default=7, description="side of the first convolution")
    early_strides: tuple[Literal[1, 2], Literal[0, 1, 2]] = Field(
        default=(2, 2), description="of the first convolution and of the pooling behind it; second 0: no pooling"
    )
    stages: int = Field(default=4, ge=1, le=4, description="stages that are kept")
    patches: bool = Field(default=False, description="logits of each cell of the last map, for the head patches")

    @property
    def title(self) -> str:
        """With the depth."""
        return f"{self.called}-{self.depth}" + (f" to stage {self.stages}" if self.stages < 4 else "")


class DeepStemResNet50(Network):
    """Of He et al. 2021, for residual features."""

    module: ClassVar[str] = "detectors.networks.resnet"
    called: ClassVar[str] = "ResNet-50 (He et al. 2021)"

    architecture: Literal["deep_stem_resnet50"] = Field(
        default="deep_stem_resnet50", description="a ResNet-50 whose first convolution is three"
    )
    early_strides: bool = Field(default=True, description="false, for small maps: no stride in the stem and no pooling")


NETWORKS: Mapping[str, type[Network]] = {
    "small_cnn": SmallCnn,
    "compact": Compact,
    "resnet": ResNet,
    "deep_stem_resnet50": DeepStemResNet50,
}

AnyNetwork = Annotated[Network, OneOf("architecture", NETWORKS)]
