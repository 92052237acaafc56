"""Settings by which StyleGAN is trained; defaults as published (Karras et al. 2019, arXiv:1812.04948, appendix C)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from stages.generators.training_recipes import (
    NOISE_GAME,
    Batch,
    Count,
    Growing,
    Positive,
    Rate,
    Settings,
    Share,
    Weight,
)

if TYPE_CHECKING:
    from stages.generators.losses import Loss


class StyleganNetwork(Settings):
    """Widths of StyleGAN's generator."""

    z_dim: Count = 512
    w_dim: Count = 512
    mapping_layers: Count = 8
    mapping_features: Count = 512
    fmap_base: Count = 8192
    fmap_max: Count = 512


class StyleganDiscriminator(Settings):
    """Widths of its discriminator; `group`: images that its minibatch deviation compares."""

    fmap_base: Count = 8192
    fmap_max: Count = 512
    group: Count = 4


class StyleganRecipe(Growing):
    """Non-saturating logistic loss with R1 in each step, style mixing, progressive growing."""

    game: ClassVar[tuple[str, str]] = NOISE_GAME
    idle: ClassVar[Mapping[str, str]] = {"r1_gamma": "r1_interval"}

    family: Literal["stylegan"]
    network: StyleganNetwork = StyleganNetwork()
    discriminator: StyleganDiscriminator = StyleganDiscriminator()
    kimg: Positive = 25000.0
    batch: Batch = Field({4: 128, 32: 64, 64: 32, 128: 16, 256: 8, 512: 4})
    learning_rate: Rate = Field({4: 0.001, 128: 0.0015, 256: 0.002, 512: 0.003})
    grow_from: Literal[4, 8, 16, 32, 64, 128, 256, 512, 1024] = 8
    average_kimg: Positive | None = 10.0
    r1_gamma: Weight = Field(10.0, description="weight of the R1 penalty is gamma / 2")
    r1_interval: Count = Field(1, description="discriminator steps between penalties")
    mixing: Share = Field(0.9, description="probability of style mixing")

    def loss(self) -> Loss:
        """The family's adversarial loss."""
        from stages.generators.losses import Logistic

        return Logistic(self.r1_gamma, self.r1_interval)


RECIPE = StyleganRecipe
"""By this name the family's settings are found."""
