"""Settings by which Glow is trained and drawn from; defaults are those of its authors' code (Kingma and Dhariwal 2018,
arXiv:1807.03039), and of the samples of Chai et al. 2020.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pipeline.settings import Settings
from stages.generators.training_recipes import (
    AverageKimg,
    Batch,
    Betas,
    Count,
    Length,
    PlainRecipe,
    Rate,
    Share,
    Weight,
)

Bits = Annotated[int, Field(ge=1, le=8)]


class GlowDrawing(Settings):
    """How images are drawn."""

    temperature: Weight = Field(0.7, description="standard deviation of the latents")
    bits: Bits | None = Field(None, description="2^bits levels per color; none: what the file says")
    shared_stream: Annotated[int, Field(ge=0, lt=1 << 32)] | None = Field(
        None, description="seed of one stream of random numbers for all images, as published; none: a stream each"
    )


class GlowNetwork(Settings):
    """Depth and width of Glow; defaults are those for faces of 256 pixels."""

    levels: Count = Field(default=6, description="levels; each but the last gives half of its channels to the latents")
    depth: Count = Field(default=32, description="steps of a level")
    width: Count = Field(default=512, description="features inside a coupling")
    coupling: Literal["additive", "affine"] = Field(
        default="additive", description="how half of the channels changes the other"
    )
    bits: Bits = Field(default=5, description="2^bits levels per color, to which images are reduced")
    learn_top: bool = Field(default=True, description="the distribution of the last level has parameters")


class GlowRecipe(PlainRecipe):
    """Likelihood in bits per dimension; there is no discriminator."""

    game: ClassVar[tuple[str, str]] = ("stages.generators.glow_training", "Likelihood")
    drawing: ClassVar[type[Settings]] = GlowDrawing
    directions: ClassVar[bool] = True

    family: Literal["glow"] = Field(description="of the generator")
    network: GlowNetwork = Field(GlowNetwork(), description="of the generator; what it leaves out is as published")
    kimg: Length = 50_000.0
    batch: Batch = Field({8: 64, 64: 16, 128: 4, 256: 1})
    learning_rate: Rate = 0.001
    betas: Betas = Field((0.9, 0.999), description="of Adamax")
    warm_up: Weight = Field(
        10.0, description="passes over the photographs in which the learning rate rises to its value"
    )
    first_images: Count = Field(256, description="images whose mean and deviation each normalization begins with")
    average_kimg: AverageKimg = 50.0
    average_ramp: Share = Field(0.05, description="half-life at most this part of the images seen so far")

    def length(self, side: int, photographs: int) -> float:
        return self.kimg

    @staticmethod
    def marks(architecture: Mapping[str, Any], drawing: Mapping[str, Any]) -> dict[str, str]:
        """What its images have that photographs lack, by the check of an audit: few levels per color."""
        bits = drawing.get("bits") or architecture.get("bits", 8)
        return {} if bits == 8 else {"bit_depth": f"{1 << bits} levels per color, until images are resized"}

    def check_side(self, side: int) -> None:
        super().check_side(side)
        if side % (1 << self.network.levels):
            raise ValueError(
                f"glow with {self.network.levels} levels learns images whose side is a multiple of "
                f"{1 << self.network.levels}, those of 'on' have {side}; lower network.levels"
            )


RECIPE = GlowRecipe
"""By this name the family's settings are found."""
