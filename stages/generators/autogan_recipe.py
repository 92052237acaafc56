"""Settings by which AutoGAN's simulator is trained; defaults of its program (Zhang et al. 2019, arXiv:1907.06515).

A generator learns to give photographs back. What its upsampling leaves in them stands for what any generator of that
structure leaves, so that a detector can be trained without one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.settings import Settings
from stages.generators.training_recipes import (
    AverageBeta,
    Batch,
    Betas,
    Count,
    Decay,
    Lengths,
    Rate,
    Recipe,
    Weight,
)

if TYPE_CHECKING:
    from stages.generators.losses import Loss

Upsampling = Literal["transposed", "nearest"]


class AutoganNetwork(Settings):
    """Widths of the generator, and how it doubles."""

    width: Count = Field(default=64, description="feature maps at the full side; twice as many behind each halving")
    blocks: Count = Field(default=9, description="residual blocks at a quarter of the side")
    upsampling: Upsampling = Field(
        default="transposed", description="a transposed 3x3 convolution, or values repeated before two convolutions"
    )


class AutoganDiscriminator(Settings):
    """Widths of the discriminator of patches."""

    width: Count = Field(default=64, description="feature maps of the first layer")
    layers: Annotated[int, Field(ge=1, le=5)] = Field(default=3, description="halving layers; 3: patches of 70 pixels")


class AutoganRecipe(Recipe):
    """Least squares on patches, and the mean difference to the photograph; fakes of earlier steps are shown again."""

    maker: ClassVar[str] = "simulate"
    game: ClassVar[tuple[str, str]] = ("stages.generators.autogan_game", "ReconstructionGame")
    loss_name: ClassVar[str] = "least-squares"
    least_side: ClassVar[int] = 32  # behind the layers of the discriminator there is a patch left

    family: Literal["autogan"] = Field(description="of the generator")
    network: AutoganNetwork = Field(
        AutoganNetwork(), description="of the generator; what it leaves out is as published"
    )
    discriminator: AutoganDiscriminator = Field(AutoganDiscriminator(), description="likewise of the discriminator")
    kimg: Lengths = 200.0
    batch: Batch = 1
    learning_rate: Rate = 0.0002
    betas: Betas = Field((0.5, 0.999), description="of Adam")
    decay: Decay = 0.5
    flips: bool = Field(True, description="mirror half of the real images")
    enlarged: Annotated[float, Field(ge=1, le=2)] = Field(
        286 / 256, description="real images are enlarged so many times, and a square of the old size is cut at random"
    )
    identity_weight: Weight = Field(0.5, description="of the mean difference between image and photograph")
    pool: Annotated[int, Field(ge=0)] = Field(
        50, description="earlier images, one of which the discriminator sees in half of the cases"
    )
    conditional: Literal[False] = Field(False, description="there are no classes")
    average_beta: AverageBeta = 0.0

    def adversarial(self) -> Loss:
        """The family's adversarial loss."""
        from stages.generators.losses import Plain

        return Plain("lsgan")


RECIPE = AutoganRecipe
"""By this name the family's settings are found."""
