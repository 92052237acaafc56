"""Settings by which StyleGAN2 is trained (Karras et al. 2020, arXiv:1912.04958, appendix B, configuration F)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, SerializeAsAny

from pipeline.settings import Settings
from stages.generators.padded_recipes import PaddedNetwork
from stages.generators.training_recipes import (
    NOISE_GAME,
    AverageKimg,
    Batch,
    Count,
    Form,
    Group,
    Latent,
    Length,
    MappingLayers,
    MapsMost,
    Rate,
    Recipe,
    Share,
    Style,
    Weight,
)

if TYPE_CHECKING:
    from stages.generators.losses import Loss


class Stylegan2Network(PaddedNetwork):
    """Widths of StyleGAN2's generator; channel_base / resolution feature maps, at most channel_max."""

    z_dim: Latent = 512
    w_dim: Style = 512
    mapping_layers: MappingLayers = 8
    channel_base: Count = Field(default=32768, description="feature maps at a side of N pixels: this / N")
    channel_max: MapsMost = 512
    network: Form = "skip"


class Stylegan2Discriminator(Settings):
    """Widths and form of its discriminator; `group`: images that its minibatch deviation compares."""

    channel_base: Count = Field(default=32768, description="feature maps at a side of N pixels: this / N")
    channel_max: MapsMost = 512
    network: Form = "resnet"
    group: Group = 4


class Stylegan2Recipe(Recipe):
    """Non-saturating logistic loss with lazy R1 and lazy path length regularization, style mixing."""

    game: ClassVar[tuple[str, str]] = NOISE_GAME
    idle: ClassVar[Mapping[str, str]] = {"r1_gamma": "r1_interval", "path_weight": "path_interval"}

    family: Literal["stylegan2"] = Field(description="of the generator")
    network: SerializeAsAny[Stylegan2Network] = Field(
        Stylegan2Network(), description="of the generator; what it leaves out is as published"
    )
    discriminator: Stylegan2Discriminator = Field(Stylegan2Discriminator(), description="likewise of the discriminator")
    kimg: Length = 25000.0
    batch: Batch = 32
    learning_rate: Rate = 0.002
    average_kimg: AverageKimg = 10.0
    r1_gamma: Weight = Field(10.0, description="weight of the R1 penalty is gamma / 2")
    r1_interval: Count = Field(16, description="discriminator steps between penalties")
    path_weight: Weight = Field(2.0, description="weight of the path length penalty; 0: off")
    path_interval: Count = Field(4, description="generator steps between path length penalties")
    mixing: Share = Field(0.9, description="probability of style mixing")

    def adversarial(self) -> Loss:
        """The family's adversarial loss."""
        from stages.generators.losses import Logistic

        return Logistic(self.r1_gamma, self.r1_interval)


RECIPE = Stylegan2Recipe
"""By this name the family's settings are found."""
