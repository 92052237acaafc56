"""Settings by which a mixture of factor analyzers is fitted and drawn from; defaults as published.

Richardson and Weiss 2018 (arXiv:1805.12462), with the settings of their later public code (torch-mfa), which Chai et
al. 2020 used.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.settings import Settings
from stages.generators.training_recipes import Count, Latent, PlainRecipe


class MfaDrawing(Settings):
    """How images are drawn."""

    noise: bool = Field(False, description="add the noise of pixels; without it images are smooth, as published")


class MfaNetwork(Settings):
    """Size of the mixture."""

    components: Count = Field(default=300, description="components, each a Gaussian")
    z_dim: Latent = 10


class MfaRecipe(PlainRecipe):
    """Expectation and maximization over all photographs, `passes` times; there is no discriminator."""

    game: ClassVar[tuple[str, str]] = ("stages.generators.mfa_fit", "Fit")
    drawing: ClassVar[type[Settings]] = MfaDrawing

    family: Literal["mfa"] = Field(description="of the generator")
    network: MfaNetwork = Field(MfaNetwork(), description="of the generator; what it leaves out is as published")
    passes: Count = Field(30, description="passes over the photographs")
    batch: Count = Field(1000, description="images at a time; it does not change the result but by the draws below")
    feature_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.2, description="share of the values that tell components apart, drawn anew for each batch; 1: all of them"
    )
    weights: Literal["exact", "released"] = Field(
        "exact",
        description="released: the published program's, which adds a component's probability, not its logarithm",
    )
    flips: Literal[False] = Field(False, description="not for this family")
    enlarged: Annotated[float, Field(ge=1, le=1)] = Field(1.0, description="not for this family")
    conditional: Literal[False] = Field(False, description="not for this family")

    def length(self, side: int, photographs: int) -> float:
        return self.passes * photographs / 1000


RECIPE = MfaRecipe
"""By this name the family's settings are found."""
