"""What the settings by which generators are trained have in common; `<family>_recipe` has those of a family.

Defaults there are the published values, with the settings of the authors' public code; augmentation: Zhao et al. 2020
(arXiv:2006.10738). Batch sizes and learning rates may be numbers, or depend on the resolution that is being
trained: {4: 128, 64: 32} holds from 4 and from 64 pixels on. Importing this module needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from pipeline.settings import Settings

if TYPE_CHECKING:
    from stages.generators.losses import Loss

NOISE_GAME = ("stages.generators.games", "NoiseGame")


Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Beta = Annotated[float, Field(ge=0, lt=1)]


def sizes(value: Any) -> Any:
    """A mapping with whole keys, which are text in YAML and JSON; refuses others in one sentence about the whole."""
    if not isinstance(value, Mapping):
        return value
    known = all(str(size).isdecimal() for size in value)
    if not value or not known or any(type(one) not in (int, float) or one <= 0 for one in value.values()):
        raise ValueError("expected numbers above 0 by resolution, such as {4: 64, 32: 16}")
    return {int(size): one for size, one in value.items()}


def _two(value: Any) -> Any:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("expected two numbers, such as [0.0, 0.99]")
    return tuple(value)


Length = Annotated[float, Field(gt=0, description="length: thousands of real images shown to the discriminator")]
Lengths = Annotated[
    Positive | dict[int, float],
    BeforeValidator(sizes),
    Field(description="length: thousands of real images shown to the discriminator, or {resolution: thousands}"),
]
Batch = Annotated[
    Count | dict[int, int], BeforeValidator(sizes), Field(description="images per step, or {resolution: images}")
]
Rate = Annotated[
    Positive | dict[int, float], BeforeValidator(sizes), Field(description="of Adam, or {resolution: rate}")
]
Decay = Annotated[
    Annotated[float, Field(gt=0, le=1)] | dict[int, float] | None,
    BeforeValidator(sizes),
    Field(
        description="last share of the training, over which the rates fall to 0, or {resolution: share}; none: never"
    ),
]
AverageBeta = Annotated[Share | None, Field(description="share kept of the averaged generator in each step")]
AverageKimg = Annotated[Positive | None, Field(description="or its half-life in thousands of images")]
GrowFrom = Annotated[Literal[4, 8, 16, 32, 64, 128, 256, 512, 1024], Field(description="first resolution")]

# Settings of networks: what several families call alike
Latent = Annotated[int, Field(ge=1, description="numbers in a latent z")]
Style = Annotated[int, Field(ge=1, description="numbers in a style w")]
MappingLayers = Annotated[int, Field(ge=1, description="layers of the network that maps z to w")]
MappingFeatures = Annotated[int, Field(ge=1, description="features of each of these layers")]
MapsBase = Annotated[int, Field(ge=1, description="feature maps at a side of N pixels: twice this / N")]
MapsMost = Annotated[int, Field(ge=1, description="most feature maps of a layer")]
Fused = Annotated[bool, Field(description="resampling is part of the convolution beside it")]
Group = Annotated[int, Field(ge=1, description="images that the minibatch deviation compares")]
Form = Annotated[
    Literal["skip", "resnet", "orig"], Field(description="how its blocks are joined (Karras et al. 2020, figure 7)")
]
Betas = Annotated[tuple[Beta, Beta], BeforeValidator(_two)]


def by_size(value: float | dict[int, float], side: int) -> float:
    """The entry of the largest size that is not above `side` (below all: the smallest size's), or the number itself."""
    if not isinstance(value, dict):
        return value
    sizes = sorted(value)
    return value[max((size for size in sizes if size <= side), default=sizes[0])]


class Augmentation(Settings):
    """Differentiable augmentation of real and generated images, for small sets: reach of each random change."""

    brightness: Share = Field(0.25, description="added to all pixels, -reach..reach, in units of half the range")
    saturation: Share = Field(0.5, description="factor 1 - reach..1 + reach on the distance to gray")
    contrast: Share = Field(0.25, description="factor 1 - reach..1 + reach on the distance to the mean")
    translation: Share = Field(0.125, description="shift in both directions as a part of the side, zeros move in")
    cutout: Share = Field(0.3, description="side of a square set to zero, as a part of the image's")


class PlainRecipe(Settings):
    """What all families have in common, also those that learn a density of images and have no discriminator.

    maker       the stage that makes images with its generators
    game        module and name of the class that trains it
    players     networks that it trains
    least_side  pixels of the smallest images that it can learn
    drawing     further settings by which `sample` draws its images; the empty model: there are none
    directions  whether its latents have directions of attributes
    """

    maker: ClassVar[str] = "sample"
    game: ClassVar[tuple[str, str]]
    players: ClassVar[tuple[str, ...]] = ("generator",)
    least_side: ClassVar[int] = 8
    drawing: ClassVar[type[Settings]] = Settings
    directions: ClassVar[bool] = False

    flips: bool = Field(False, description="mirror half of the real images")
    enlarged: Annotated[float, Field(ge=1, le=2)] = Field(
        1.0, description="real images are enlarged so many times, and a square of the old size is cut at random"
    )
    conditional: bool = Field(False, description="classes are the rows' domains")
    domains: Annotated[list[str], Field(min_length=2)] | None = Field(
        None, description="classes in this order; none: the domains of the training rows by name"
    )
    family: str = Field(description="of the generator")
    network: Settings = Field(description="of the generator; what it leaves out is as published")

    def length(self, side: int, photographs: int) -> float:
        """Thousands of images that a training on so many photographs of a side shows."""
        raise NotImplementedError

    def arguments(
        self, player: Literal["generator", "discriminator"], side: int, classes: int | None
    ) -> dict[str, Any]:
        """Arguments of the family's Generator or Discriminator, for images of a side and so many classes."""
        given: Settings = getattr(self, "network" if player == "generator" else player)
        return {**given.model_dump(), "c_dim": classes, "resolution": side}

    def check_side(self, side: int) -> None:
        """Raise ValueError where it cannot learn images of this side."""
        if side < self.least_side:
            raise ValueError(
                f"{self.family} learns images of {self.least_side} pixels or more, those of 'on' have {side}"
            )

    @model_validator(mode="after")
    def _named_classes(self) -> PlainRecipe:
        if self.domains is not None and not self.conditional:
            raise ValueError("domains has no effect without conditional: true; drop it")
        if self.domains is not None and len(set(self.domains)) < len(self.domains):
            raise ValueError(f"domains are {', '.join(self.domains)}; expected different ones")
        return self


class Recipe(PlainRecipe):
    """A generator and a discriminator. Of its own each family says:

    loss_name      in a sentence
    names_classes  whether the discriminator of a conditional training also names the class of an image
    idle           weight -> the setting that has no effect where it is 0
    """

    players: ClassVar[tuple[str, ...]] = ("generator", "discriminator")
    loss_name: ClassVar[str] = "logistic"
    names_classes: ClassVar[bool] = False
    idle: ClassVar[Mapping[str, str]] = {}

    kimg: Lengths
    batch: Batch
    learning_rate: Rate
    betas: Betas = Field((0.0, 0.99), description="of Adam")
    augment: Augmentation | None = Field(None, description="differentiable augmentation; none: off")
    average_beta: AverageBeta = None
    average_kimg: AverageKimg = None
    average_ramp: Share | None = Field(None, description="half-life at most this part of the images seen so far")
    discriminator: Settings = Field(description="likewise of the discriminator")

    def adversarial(self) -> Loss:
        """The family's adversarial loss."""
        raise NotImplementedError

    def adversary(self) -> tuple[str, bool]:
        """What the loss is called in a sentence, and whether it has the R1 penalty."""
        return self.loss_name, "r1_gamma" in type(self).model_fields

    def length(self, side: int, photographs: int) -> float:
        return float(by_size(self.kimg, side))

    @model_validator(mode="after")
    def _one_average(self) -> Recipe:
        if (self.average_beta is None) == (self.average_kimg is None):
            raise ValueError(
                f"one of average_beta and average_kimg is needed and the other null, not {self.average_beta} and "
                f"{self.average_kimg}"
            )
        if self.average_ramp is not None and self.average_kimg is None:
            raise ValueError("average_ramp has no effect without average_kimg; drop it")
        return self

    @model_validator(mode="after")
    def _without_effect(self) -> Recipe:
        for weight, idle in self.idle.items():
            if getattr(self, weight, 1) == 0 and idle in self.model_fields_set:
                raise ValueError(f"{idle} has no effect with {weight}: 0; drop it")
        if self.augment is not None and not any(self.augment.model_dump().values()):
            raise ValueError("augment changes nothing, as all its reaches are 0; drop it")
        return self

    @model_validator(mode="after")
    def _whole_groups(self) -> Recipe:
        """The discriminator's minibatch deviation compares groups of images."""
        group = getattr(self.discriminator, "group", 1)
        for batch in self.batch.values() if isinstance(self.batch, dict) else (self.batch,):
            if batch % min(group, batch):
                raise ValueError(f"batch is {batch}, no multiple of the discriminator's group of {group} images")
        return self


class Growing(Recipe):
    """Progressive growing: start small, then double, fading each new resolution in."""

    grow_from: GrowFrom = 4
    grow_kimg: Weight = Field(600.0, description="thousands of images before each fade")
    fade_kimg: Weight = Field(600.0, description="thousands of images of each fade")
