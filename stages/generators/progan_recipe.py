"""Settings by which ProGAN is trained; defaults as published (Karras et al. 2018, arXiv:1710.10196, appendix A)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, SerializeAsAny, model_validator

from pipeline.settings import Settings
from stages.generators.padded_recipes import PaddedNetwork
from stages.generators.training_recipes import (
    NOISE_GAME,
    AverageBeta,
    Batch,
    Count,
    Fused,
    Group,
    Growing,
    Latent,
    Length,
    MapsBase,
    MapsMost,
    Rate,
    Weight,
)

if TYPE_CHECKING:
    from stages.generators.losses import Loss


class ProganNetwork(PaddedNetwork):
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


OF_LOSS = {"wasserstein": ("gradient_penalty", "drift"), "logistic": ("r1_gamma", "r1_interval")}
"""Settings that one loss alone has."""


class ProganRecipe(Growing):
    """Progressive growing with WGAN-GP as published, or with the non-saturating loss and R1 of StyleGAN, whose penalty
    may be left out of most steps.
    """

    game: ClassVar[tuple[str, str]] = NOISE_GAME
    names_classes: ClassVar[bool] = True

    family: Literal["progan"] = Field(description="of the generator")
    network: SerializeAsAny[ProganNetwork] = Field(
        ProganNetwork(), description="of the generator; what it leaves out is as published"
    )
    discriminator: ProganDiscriminator = Field(ProganDiscriminator(), description="likewise of the discriminator")
    kimg: Length = 12000.0
    batch: Batch = Field({4: 128, 32: 64, 64: 32, 128: 16, 256: 8, 512: 4})
    learning_rate: Rate = Field({4: 0.001, 1024: 0.0015})
    average_beta: AverageBeta = 0.999
    loss: Literal["wasserstein", "logistic"] = Field("wasserstein", description="WGAN-GP, or non-saturating with R1")
    gradient_penalty: Weight = Field(10.0, description="lambda of WGAN-GP")
    drift: Weight = Field(0.001, description="weight of the squared score of real images, for WGAN-GP")
    r1_gamma: Weight = Field(10.0, description="weight of the R1 penalty of the logistic loss is gamma / 2")
    r1_interval: Count = Field(1, description="discriminator steps between R1 penalties")

    @model_validator(mode="after")
    def _of_this_loss(self) -> ProganRecipe:
        for loss, names in OF_LOSS.items():
            for name in names:
                if loss != self.loss and name in self.chosen():
                    raise ValueError(f"{name} has no effect with loss: {self.loss}; drop it")
        return self

    def adversary(self) -> tuple[str, bool]:
        return {"wasserstein": ("Wasserstein", False), "logistic": ("logistic", True)}[self.loss]

    def adversarial(self) -> Loss:
        """The chosen loss."""
        from stages.generators.losses import Logistic, Wasserstein

        if self.loss == "logistic":
            return Logistic(self.r1_gamma, self.r1_interval)
        return Wasserstein(self.gradient_penalty, self.drift)


RECIPE = ProganRecipe
"""By this name the family's settings are found."""
