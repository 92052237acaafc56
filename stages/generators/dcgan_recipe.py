"""Settings of the DCGAN family: one pair of networks, five losses; defaults of LynnHo's program (64 pixels of CelebA).

The other endings are those of Durall et al. 2020 (arXiv:2003.01826) and of Jung and Keuper 2021 (arXiv:2012.03110), who
put convolutions behind the last doubling so that the generator can repair its spectrum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.settings import Settings
from stages.generators.training_recipes import (
    AverageBeta,
    Batch,
    Betas,
    Count,
    Latent,
    Lengths,
    MapsMost,
    Rate,
    Recipe,
    Weight,
)

if TYPE_CHECKING:
    from stages.generators.losses import Loss

DcganLoss = Literal["gan", "lsgan", "wgan-gp", "dragan", "hinge"]
Last = Literal["plain", "stacked", "large_stacked"]
PENALIZED = ("wgan-gp", "dragan")
CELEBA_KIMG = 25 * 202_599 / 1000

Width = Annotated[
    Count | None, Field(description="feature maps beside the full side; none: 64, or 32 in a generator not plain")
]


class DcganNetwork(Settings):
    """Latent, widths, and what comes last."""

    z_dim: Latent = 128
    width: Width = None
    max_width: MapsMost = 512
    last: Last = Field(
        default="plain",
        description="plain: a transposed convolution; stacked: repeated values and three 5x5 convolutions without "
        "rectifiers between; large_stacked: an 8x8 transposed convolution, then three of 5x5 with rectifiers",
    )


class DcganDiscriminator(Settings):
    """Widths of its discriminator."""

    width: Annotated[Count | None, Field(description="feature maps of the first layer; none: 64, of stacked 32")] = None
    max_width: MapsMost = 512


class DcganRecipe(Recipe):
    """One of five losses; the discriminator's steps come first."""

    game: ClassVar[tuple[str, str]] = ("stages.generators.alternating_game", "AlternatingGame")
    loss_name: ClassVar[str] = "chosen"
    generator_first: ClassVar[bool] = False
    generator_batches: ClassVar[int] = 1

    family: Literal["dcgan"] = Field(description="of the generator")
    network: DcganNetwork = Field(DcganNetwork(), description="of the generator; what it leaves out is as published")
    discriminator: DcganDiscriminator = Field(DcganDiscriminator(), description="likewise of the discriminator")
    loss: DcganLoss = Field("gan", description="adversarial loss; wgan-gp and dragan have a penalty on gradients")
    kimg: Lengths = CELEBA_KIMG
    batch: Batch = 64
    learning_rate: Rate = 0.0002
    betas: Betas = Field((0.5, 0.999), description="of Adam")
    discriminator_steps: Count = Field(
        1, description="steps of the discriminator for each of the generator; 5 with wgan-gp if left out, else 1"
    )
    gradient_penalty: Weight = Field(10.0, description="weight of the penalty of wgan-gp and dragan")
    conditional: Literal[False] = Field(False, description="there are no classes")
    average_beta: AverageBeta = 0.0

    @model_validator(mode="before")
    @classmethod
    def _usual_steps(cls, data: Any) -> Any:
        """Filled in, so that leaving it out and writing what is usual are one recipe."""
        if isinstance(data, Mapping) and data.get("discriminator_steps") is None:
            return {**data, "discriminator_steps": 5 if data.get("loss") == "wgan-gp" else 1}
        return data

    @model_validator(mode="after")
    def _penalized(self) -> DcganRecipe:
        if "gradient_penalty" in self.chosen() and self.loss not in PENALIZED:
            raise ValueError(f"gradient_penalty has no effect with loss: {self.loss}; drop it")
        return self

    def adversarial(self) -> Loss:
        """The chosen loss."""
        from stages.generators.losses import Plain

        if self.loss == "wgan-gp":
            return Plain("wgan", self.gradient_penalty, "between")
        if self.loss == "dragan":
            return Plain("gan", self.gradient_penalty, "around")
        return Plain(self.loss)

    def arguments(
        self, player: Literal["generator", "discriminator"], side: int, classes: int | None
    ) -> dict[str, Any]:
        """Of both networks, widths filled in; where gradients are penalized, no normalization may mix images."""
        given = super().arguments(player, side, classes)
        last = self.network.last
        if given["width"] is None:
            given["width"] = 32 if last == "stacked" or (player, last) == ("generator", "large_stacked") else 64
        if player == "discriminator":
            given["norm"] = "layer" if self.loss in PENALIZED else "batch"
        return given


RECIPE = DcganRecipe
"""By this name the family's settings are found."""
