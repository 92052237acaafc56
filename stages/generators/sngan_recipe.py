"""Settings by which SNGAN is trained; defaults of the authors' program (Miyato et al. 2018, arXiv:1802.05957).

`upsampling` exchanges the way in which the generator doubles its images, as Keuper's lecture of 2022 asks; published is
`nearest`. Widths and counts of weights are found here, so that planning needs no torch.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from pipeline.settings import Settings
from stages.generators.training_recipes import (
    AverageBeta,
    Batch,
    Betas,
    Count,
    Decay,
    Latent,
    Lengths,
    Rate,
    Recipe,
    sizes,
)

if TYPE_CHECKING:
    from stages.generators.losses import Loss

Upsampling = Literal["nearest", "bilinear", "bicubic", "pixel_shuffle", "transposed", "bed_of_nails"]
Widths = Annotated[Count | None, Field(description="least feature maps; none: as published for the resolution")]

PARTS: dict[str, tuple[int, int, int]] = {"pixel_shuffle": (9, 1, 4), "transposed": (16, 4, 1)}
"""Weights per pair of maps of a block's first convolution and of its shortcut, and how many times the maps."""


def generator_widths(side: int, ch: int) -> list[int]:
    """Feature maps at 4, 8, ... pixels."""
    doublings = side.bit_length() - 3
    return [ch * min(1 << (doublings - k), 16) if side > 32 else ch for k in range(doublings + 1)]


def generator_parameters(side: int, ch: int, upsampling: str, z_dim: int, classes: int = 0) -> int:
    """Trainable numbers of a generator."""
    widths = generator_widths(side, ch)
    kernel, shortcut, times = PARTS.get(upsampling, (9, 1, 1))
    gains = max(classes, 1)
    total = (z_dim + 1) * 16 * widths[0] + 2 * widths[-1] + 27 * widths[-1] + 3
    for before, after in pairwise(widths):
        total += before * after * times * (kernel + shortcut) + 2 * after * times + after * after * 9 + after
        total += 2 * gains * (before + after)
    return total


def matching(side: int, ch: int, upsampling: str, z_dim: int, classes: int = 0) -> int:
    """The `ch` whose generator has the number of weights closest to that of an interpolating one of `ch`."""
    wanted = generator_parameters(side, ch, "nearest", z_dim, classes)
    return min(
        range(1, ch + 1), key=lambda one: abs(generator_parameters(side, one, upsampling, z_dim, classes) - wanted)
    )


class SnganNetwork(Settings):
    """Latent, widths, and how images are doubled."""

    z_dim: Latent = 128
    ch: Widths = None
    upsampling: Upsampling = Field(default="nearest", description="how images are doubled; published is nearest")
    match_parameters: bool = Field(
        default=False, description="lower ch until there are about as many weights as with an interpolation"
    )


class SnganDiscriminator(Settings):
    """Widths of its discriminator."""

    ch: Widths = None


class SnganRecipe(Recipe):
    """Hinge loss, spectral normalization in the discriminator; the generator's step comes first."""

    game: ClassVar[tuple[str, str]] = ("stages.generators.alternating_game", "AlternatingGame")
    loss_name: ClassVar[str] = "hinge"
    generator_first: ClassVar[bool] = True
    levels: ClassVar[int] = 128  # photographs are x / 128 - 1, with noise below one level

    family: Literal["sngan"] = Field(description="of the generator")
    network: SnganNetwork = Field(SnganNetwork(), description="of the generator; what it leaves out is as published")
    discriminator: SnganDiscriminator = Field(SnganDiscriminator(), description="likewise of the discriminator")
    kimg: Lengths = Field({8: 16000.0, 64: 80000.0})
    batch: Batch = 64
    learning_rate: Rate = 0.0002
    betas: Betas = Field((0.0, 0.9), description="of Adam")
    decay: Decay = Field({8: 1.0, 64: 0.2})
    discriminator_steps: Count = Field(5, description="steps of the discriminator for each of the generator")
    generator_batches: Annotated[Count | dict[int, int], BeforeValidator(sizes)] = Field(
        {8: 2, 64: 1}, description="latents of a generator's step, in batches, or {resolution: batches}"
    )
    average_beta: AverageBeta = 0.0

    def adversarial(self) -> Loss:
        """The family's adversarial loss."""
        from stages.generators.losses import Plain

        return Plain("hinge")

    def arguments(
        self, player: Literal["generator", "discriminator"], side: int, classes: int | None
    ) -> dict[str, Any]:
        """Of both networks, `ch` filled in: 256 at 32 pixels and below, else 64; of the discriminator 128, else 64."""
        given = super().arguments(player, side, classes)
        matched = given.pop("match_parameters", False)
        if given["ch"] is None:
            given["ch"] = 64 if side > 32 else 256 if player == "generator" else 128
        if matched:
            given["ch"] = matching(side, given["ch"], given["upsampling"], given["z_dim"], classes or 0)
        return given


RECIPE = SnganRecipe
"""By this name the family's settings are found."""
