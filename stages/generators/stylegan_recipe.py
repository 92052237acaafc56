"""Settings by which StyleGAN is trained; defaults as published (Karras et al. 2019, arXiv:1812.04948, appendix C)."""

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
    Group,
    GrowFrom,
    Growing,
    Latent,
    Length,
    MappingFeatures,
    MappingLayers,
    MapsBase,
    MapsMost,
    Rate,
    Share,
    Style,
    Weight,
)

if TYPE_CHECKING:
    from stages.generators.losses import Loss


class StyleganNetwork(PaddedNetwork):
    """Widths of StyleGAN's generator."""

    z_dim: Latent = 512
    w_dim: Style = 512
    mapping_layers: MappingLayers = 8
    mapping_features: MappingFeatures = 512
    fmap_base: MapsBase = 8192
    fmap_max: MapsMost = 512


class StyleganDiscriminator(Settings):
    """Widths of its discriminator; `group`: images that its minibatch deviation compares."""

    fmap_base: MapsBase = 8192
    fmap_max: MapsMost = 512
    group: Group = 4


class StyleganRecipe(Growing):
    """Non-saturating logistic loss with R1 in each step, style mixing, progressive growing."""

    game: ClassVar[tuple[str, str]] = NOISE_GAME
    idle: ClassVar[Mapping[str, str]] = {"r1_gamma": "r1_interval"}

    family: Literal["stylegan"] = Field(description="of the generator")
    network: SerializeAsAny[StyleganNetwork] = Field(
        StyleganNetwork(), description="of the generator; what it leaves out is as published"
    )
    discriminator: StyleganDiscriminator = Field(StyleganDiscriminator(), description="likewise of the discriminator")
    kimg: Length = 25000.0
    batch: Batch = Field({4: 128, 32: 64, 64: 32, 128: 16, 256: 8, 512: 4})
    learning_rate: Rate = Field({4: 0.001, 128: 0.0015, 256: 0.002, 512: 0.003})
    grow_from: GrowFrom = 8
    average_kimg: AverageKimg = 10.0
    r1_gamma: Weight = Field(10.0, description="weight of the R1 penalty is gamma / 2")
    r1_interval: Count = Field(1, description="discriminator steps between penalties")
    mixing: Share = Field(0.9, description="probability of style mixing")

    def adversarial(self) -> Loss:
        """The family's adversarial loss."""
        from stages.generators.losses import Logistic

        return Logistic(self.r1_gamma, self.r1_interval)


RECIPE = StyleganRecipe
"""By this name the family's settings are found."""
