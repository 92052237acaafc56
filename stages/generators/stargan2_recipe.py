"""Settings by which StarGAN v2 is trained; defaults as published (Choi et al. 2020, arXiv:1912.01865, appendix B)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, SerializeAsAny

from pipeline.settings import Settings
from stages.generators.padded_recipes import PaddedNetwork
from stages.generators.training_recipes import (
    AverageBeta,
    Batch,
    Count,
    Latent,
    Length,
    MappingFeatures,
    MapsMost,
    Positive,
    Rate,
    Recipe,
    Style,
    Weight,
)

if TYPE_CHECKING:
    from stages.generators.losses import Loss


WIDTH_TIMES_SIDE = 1 << 14


class Stargan2Network(PaddedNetwork):
    """Widths of StarGAN v2; `width` none: 2^14 / resolution as published."""

    z_dim: Latent = 16
    w_dim: Style = 64
    width: Count | None = Field(default=None, description="feature maps at the full side; none: 2^14 / resolution")
    max_width: MapsMost = 512
    mapping_width: MappingFeatures = 512


class Stargan2Discriminator(Settings):
    """Widths of its discriminator; `width` none: 2^14 / resolution as published."""

    width: Count | None = Field(default=None, description="feature maps at the full side; none: 2^14 / resolution")
    max_width: MapsMost = 512


class Stargan2Recipe(Recipe):
    """Logistic loss with R1; style reconstruction, diversity and cycle losses; domains are the rows' domains."""

    maker: ClassVar[str] = "translate"
    game: ClassVar[tuple[str, str]] = ("stages.generators.stargan2_game", "TranslationGame")
    idle: ClassVar[Mapping[str, str]] = {"diversity_weight": "diversity_kimg"}
    least_side: ClassVar[int] = 32  # its images are halved at least once before the bottleneck of 16

    family: Literal["stargan2"] = Field(description="of the generator")
    network: SerializeAsAny[Stargan2Network] = Field(
        Stargan2Network(), description="of the generator; what it leaves out is as published"
    )
    discriminator: Stargan2Discriminator = Field(Stargan2Discriminator(), description="likewise of the discriminator")
    kimg: Length = 800.0
    batch: Batch = 8
    learning_rate: Rate = 0.0001
    mapping_rate: Positive = Field(1e-6, description="learning rate of the mapping network")
    weight_decay: Weight = Field(0.0001, description="of Adam")
    average_beta: AverageBeta = 0.999
    conditional: Literal[True] = Field(True, description="classes are the rows' domains")
    r1_gamma: Weight = Field(1.0, description="weight of the R1 penalty is gamma / 2")
    style_weight: Weight = Field(1.0, description="of the style reconstruction")
    diversity_weight: Weight = Field(1.0, description="falls to 0 over diversity_kimg")
    diversity_kimg: Positive = Field(800.0, description="thousands of images until it is 0")
    cycle_weight: Weight = Field(1.0, description="of the way back to the source")

    def adversarial(self) -> Loss:
        """The family's adversarial loss."""
        from stages.generators.losses import Logistic

        return Logistic(self.r1_gamma)

    def arguments(
        self, player: Literal["generator", "discriminator"], side: int, classes: int | None
    ) -> dict[str, Any]:
        """Of both networks, the width filled in."""
        given = super().arguments(player, side, classes)
        return given if given["width"] is not None else {**given, "width": WIDTH_TIMES_SIDE // side}


RECIPE = Stargan2Recipe
"""By this name the family's settings are found."""
