"""Architectures by name. Part of no recipe: one more changes nothing that was trained.

An architecture is a module here and one entry in this file: a subclass of `Network` that names the module and has its
settings with their defaults, which a recipe keeps in full. The module may import torch at its top (planning reads this
file only) and has

    build(settings, channels, sides, outputs) -> nn.Module

a network with new weights, as torch's default generator draws them; the caller has seeded it, and may build on torch's
meta device to learn shapes. Floats (n, channels, *sides) go in as `detectors.preprocessing` makes them, logits
(n, outputs) come out, or (n, outputs, h, w) where cells speak for parts of a row (`detectors.heads` reads both). Names
of tensors are those of the published file where there is one. All buffers are persistent. ValueError: rows too small.

Of the network a row's logits must not depend on its neighbors in a batch of fixed size, and dropout draws from the
training's generator: `detectors.networks.layers` has both. What its method `penalty()` gives, a training adds to its
loss. Where there are maps for heat pictures, its method `maps(x)` gives them, (n, c, h, w) before pooling and head;
`detectors.networks.receptive_field` computes from it what a cell sees. A file that has other names for tensors, or
other shapes, is brought to the network by `own_tensors(settings, tensors) -> tensors` of the module: named arrays, as
published, to named arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from detectors.parts import OneOf, Settings

IN_RECIPES = False


Width = Annotated[int, Field(ge=8, multiple_of=2)]
"""Torch 2.13 writes past its memory in the gradient of a 1 x 1 convolution of 4 channels with a stride, on CPUs."""


class Network(Settings):
    """Base of all architectures: `module` builds it, `called` names it in a table.

    takes_curves  rows of one axis are welcome, as maps of one row
    """

    called: ClassVar[str]
    takes_curves: ClassVar[bool] = False

    architecture: str

    @property
    def title(self) -> str:
        """Name in a table, with what tells it from others of its kind."""
        return self.called

    @property
    def has_cells(self) -> bool:
        """Whether logits are those of each cell of a map, which the head `patches` reads."""
        return False


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
    width: Width = Field(default=64, description="channels of the first stage, each further one has twice as many")
    initial: Literal["kaiming", "xavier"] = Field(
        default="kaiming", description="first weights: torchvision's, or those of patch-forensics"
    )

    @property
    def title(self) -> str:
        """With the depth."""
        return f"{self.called}-{self.depth}" + (f" to stage {self.stages}" if self.stages < 4 else "")

    @property
    def has_cells(self) -> bool:
        """Where it is cut."""
        return self.patches


class DeepStemResNet50(Network):
    """Of He et al. 2021, for residual features."""

    module: ClassVar[str] = "detectors.networks.resnet"
    called: ClassVar[str] = "ResNet-50 (He et al. 2021)"

    architecture: Literal["deep_stem_resnet50"] = Field(
        default="deep_stem_resnet50", description="a ResNet-50 whose first convolution is three"
    )
    early_strides: bool = Field(default=True, description="false, for small maps: no stride in the stem and no pooling")


class Xception(Network):
    """Of Chollet 2017 from scratch, whole or cut behind a block (Chai et al. 2020)."""

    module: ClassVar[str] = "detectors.networks.xception"
    called: ClassVar[str] = "Xception"

    architecture: Literal["xception"] = Field(default="xception", description="as patch-forensics has it")
    last_block: int | None = Field(
        default=None, ge=1, le=12, description="cut behind it, logits of each cell, for the head patches; null: whole"
    )

    @property
    def title(self) -> str:
        """With the last block."""
        return self.called if self.last_block is None else f"{self.called} to block {self.last_block}"

    @property
    def has_cells(self) -> bool:
        """Where it is cut."""
        return self.last_block is not None


class MesoInception4(Network):
    """Of Afchar et al. 2018."""

    module: ClassVar[str] = "detectors.networks.meso"
    called: ClassVar[str] = "MesoInception4"

    architecture: Literal["mesoinception4"] = Field(
        default="mesoinception4", description="28,615 parameters at 256 x 256, its published size"
    )


class GramNet(Network):
    """Of Liu et al. 2020."""

    module: ClassVar[str] = "detectors.networks.gram"
    called: ClassVar[str] = "GramNet"

    architecture: Literal["gramnet"] = Field(
        default="gramnet", description="a ResNet-18 that also reads correlations of channels"
    )
    width: Width = Field(default=64, description="channels of the first stage; published: 64")


class Npr(Network):
    """Of Tan et al. 2024."""

    module: ClassVar[str] = "detectors.networks.npr"
    called: ClassVar[str] = "NPR"

    architecture: Literal["npr"] = Field(
        default="npr", description="two stages of a ResNet-50 on differences of neighbors; even sides"
    )


InputFilter = Literal["NPR", "raw", "x_grad", "y_grad", "left_diag", "right_diag"]


class LaDeDa(Network):
    """Of Cavia et al. 2024."""

    module: ClassVar[str] = "detectors.networks.ladeda"
    called: ClassVar[str] = "LaDeDa"

    architecture: Literal["ladeda"] = Field(default="ladeda", description="a ResNet-50 of small patches")
    input_filter: InputFilter = Field(default="NPR", description="of the picture")
    kernels: tuple[Literal[1, 3], ...] = Field(
        default=(3, 3, 1, 1),
        min_length=1,
        max_length=4,
        description="of the first block of each stage; published: 9 px",
    )


class TinyLaDeDa(Network):
    """Of Cavia et al. 2024."""

    module: ClassVar[str] = "detectors.networks.ladeda"
    called: ClassVar[str] = "Tiny-LaDeDa"

    architecture: Literal["tiny_ladeda"] = Field(default="tiny_ladeda", description="1,297 parameters, small patches")
    input_filter: InputFilter = Field(default="NPR", description="of the picture")


class FerretNet(Network):
    """Of Liang et al. 2025."""

    module: ClassVar[str] = "detectors.networks.ferretnet"
    called: ClassVar[str] = "FerretNet"

    architecture: Literal["ferretnet"] = Field(
        default="ferretnet", description="few convolutions on differences from the median around a pixel"
    )
    width: Width = Field(default=32, description="channels before the blocks; FerretNet-S: 32")
    depths: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(2, 2), min_length=1, description="blocks of each stage; FerretNet-S: 2, 2"
    )


class FrankCnn(Network):
    """Of Frank et al. 2020, as published."""

    module: ClassVar[str] = "detectors.networks.gandct"
    called: ClassVar[str] = "CNN (Frank et al. 2020)"

    architecture: Literal["frank_cnn"] = Field(
        default="frank_cnn", description="3 x 3 convolutions 3, 8, 16, 32 and one dense unit, no normalization"
    )


class FrankResNet(Network):
    """Of Frank et al. 2020, as published."""

    module: ClassVar[str] = "detectors.networks.gandct"
    called: ClassVar[str] = "ResNet (Frank et al. 2020)"

    architecture: Literal["frank_resnet"] = Field(default="frank_resnet", description="ten residual blocks of width 64")


class Mlp(Network):
    """One or more hidden layers, of rows as vectors."""

    module: ClassVar[str] = "detectors.networks.gandct"
    called: ClassVar[str] = "MLP"
    takes_curves: ClassVar[bool] = True

    architecture: Literal["mlp"] = Field(default="mlp", description="hidden layers with ReLU; of curves or maps")
    widths: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(128,), min_length=1, description="of the hidden layers; Frank et al. 2020: 128"
    )
    l1: float = Field(default=0.0, ge=0, description="factor of the hidden weights' absolute values in the loss")
    l2: float = Field(default=0.0, ge=0, description="of their squares; Frank et al. 2020: 0.01")


class Linear(Network):
    """Ridge or logistic regression."""

    module: ClassVar[str] = "detectors.networks.gandct"
    called: ClassVar[str] = "linear"
    takes_curves: ClassVar[bool] = True

    architecture: Literal["linear"] = Field(default="linear", description="one dense unit; of curves or maps")
    l1: float = Field(default=0.0, ge=0, description="factor of the weights' absolute values in the loss")
    l2: float = Field(default=0.0, ge=0, description="of their squares; Frank et al. 2020: 0.01")

    @property
    def widths(self) -> tuple[int, ...]:
        """No hidden layer."""
        return ()


class YuClassifier(Network):
    """Of Yu et al. 2019."""

    module: ClassVar[str] = "detectors.networks.yu"
    called: ClassVar[str] = "image classifier (Yu et al. 2019)"

    architecture: Literal["yu_classifier"] = Field(
        default="yu_classifier", description="the discriminator of ProGAN; squares of a power of two"
    )


NETWORKS: Mapping[str, type[Network]] = {
    "small_cnn": SmallCnn,
    "compact": Compact,
    "resnet": ResNet,
    "deep_stem_resnet50": DeepStemResNet50,
    "xception": Xception,
    "mesoinception4": MesoInception4,
    "gramnet": GramNet,
    "npr": Npr,
    "ladeda": LaDeDa,
    "tiny_ladeda": TinyLaDeDa,
    "ferretnet": FerretNet,
    "frank_cnn": FrankCnn,
    "frank_resnet": FrankResNet,
    "mlp": Mlp,
    "linear": Linear,
    "yu_classifier": YuClassifier,
}

AnyNetwork = Annotated[Network, OneOf("architecture", NETWORKS)]
