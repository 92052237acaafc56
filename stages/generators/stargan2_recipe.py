"""Settings by which StarGAN v2 is trained; defaults as published (Choi et al. 2020, arXiv:1912.01865, appendix B)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from stages.generators.training_recipes import Batch, Count, Positive, Rate, Recipe, Settings, Share, Weight

if TYPE_CHECKING:
    from stages.generators.losses import Loss


class Stargan2Network(Settings):
    """Widths of StarGAN v2; `width` none: 2^14 / resolution as published."""

    z_dim: Count = 16
    w_dim: Count = 64
    width: Count | None = None
    max_width: Count = 512
    mapping_width: Count = 512


class Stargan2Discriminator(Settings):
    """Widths of its discriminator; `width` none: 2^14 / resolution as published."""

    width: Count | None = None
    max_width: Count = 512


class Stargan2Recipe(Recipe):
    """Logistic loss with R1; style reconstruction, diversity and cycle losses; domains are the rows' domains."""

    maker: ClassVar[str] = "translate"
    game: ClassVar[tuple[str, str]] = ("stages.generators.stargan2_game", "TranslationGame")
    idle: ClassVar[Mapping[str, str]] = {"diversity_weight": "diversity_kimg"}
    least_side: ClassVar[int] = 32  # its images are halved at least once before the bottleneck of 16

    family: Literal["stargan2"]
    network: Stargan2Network = Stargan2Network()
    discriminator: Stargan2Discriminator = Stargan2Discriminator()
    kimg: Positive = 800.0
    batch: Batch = 8
    learning_rate: Rate = 0.0001
    mapping_rate: Positive = Field(1e-6, description="learning rate of the mapping network")
    weight_decay: Weight = 0.0001
    average_beta: Share | None = 0.999
    conditional: Literal[True] = True
    r1_gamma: Weight = Field(1.0, description="weight of the R1 penalty is gamma / 2")
    style_weight: Weight = 1.0
    diversity_weight: Weight = Field(1.0, description="falls to 0 over diversity_kimg")
    diversity_kimg: Positive = 800.0
    cycle_weight: Weight = 1.0

    def loss(self) -> Loss:
        """The family's adversarial loss."""
        from stages.generators.losses import Logistic

        return Logistic(self.r1_gamma)


RECIPE = Stargan2Recipe
"""By this name the family's settings are found."""
