"""Settings by which ProGAN is trained; defaults as published (Karras et al. 2018, arXiv:1710.10196, appendix A)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from stages.generators.training_recipes import (
    NOISE_GAME,
    AverageBeta,
    Batch,
    Fused,
    Group,
    Growing,
    Latent,
    Length,
    MapsBase,
    MapsMost,
    Rate,
    Settings,
    Weight,
)

if TYPE_CHECKING:
    from stages.generators.losses import Loss


class ProganNetwork(Settings):
    """Widths of ProGAN; fmap_base / 2^stage feature maps, at most fmap_max."""

    z_dim: Latent = 512
    fmap_base: MapsBase = 8192
    fmap_max: MapsMost = 512
    fused: Fused = False


class ProganDiscriminator(Settings):
    """Widths of its discriminator; `group`: images that its minibatch deviation compares."""

    fmap_base: MapsBase = 8192
    fmap_max: MapsMost = 512
    fused: Fused = False
    group: Group = 4


class ProganRecipe(Growing):
    """WGAN-GP with progressive growing."""

    game: ClassVar[tuple[str, str]] = NOISE_GAME
    loss_name: ClassVar[str] = "Wasserstein"
    names_classes: ClassVar[bool] = True

    family: Literal["progan"] = Field(description="of the generator")
    network: ProganNetwork = Field(ProganNetwork(), description="of the generator; what it leaves out is as published")
    discriminator: ProganDiscriminator = Field(ProganDiscriminator(), description="likewise of the discriminator")
    kimg: Length = 12000.0
    batch: Batch = Field({4: 128, 32: 64, 64: 32, 128: 16, 256: 8, 512: 4})
    learning_rate: Rate = Field({4: 0.001, 1024: 0.0015})
    average_beta: AverageBeta = 0.999
    gradient_penalty: Weight = Field(10.0, description="lambda of WGAN-GP")
    drift: Weight = Field(0.001, description="weight of the squared score of real images")

    def adversarial(self) -> Loss:
        """The family's adversarial loss."""
        from stages.generators.losses import Wasserstein

        return Wasserstein(self.gradient_penalty, self.drift)


RECIPE = ProganRecipe
"""By this name the family's settings are found."""
