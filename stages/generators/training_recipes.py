"""Settings by which generators are trained, one model per family, with the published values as defaults.

Sources: ProGAN (Karras et al. 2018, arXiv:1710.10196, appendix A), StyleGAN (Karras et al. 2019, arXiv:1812.04948,
appendix C), StyleGAN2 (Karras et al. 2020, arXiv:1912.04958, appendix B, configuration F) and StarGAN v2 (Choi et al.
2020, arXiv:1912.01865, appendix B), each with the settings of its public code; augmentation: Zhao et al. 2020
(arXiv:2006.10738). Batch sizes and learning rates may be numbers, or depend on the resolution that is being
trained: {4: 128, 64: 32} holds from 4 and from 64 pixels on. Importing this module needs no torch.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator


class Settings(BaseModel):
    """Base of all models here: frozen, unknown keys rejected, no silent conversion of types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False)


Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Beta = Annotated[float, Field(ge=0, lt=1)]


def _sizes(value: Any) -> Any:
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


Batch = Annotated[Count | dict[int, int], BeforeValidator(_sizes)]
Rate = Annotated[Positive | dict[int, float], BeforeValidator(_sizes)]
Betas = Annotated[tuple[Beta, Beta], BeforeValidator(_two)]


def by_size(value: float | dict[int, float], side: int) -> float:
    """The entry of the largest size that is not above `side` (below all: the smallest size's), or the number itself."""
    if not isinstance(value, dict):
        return value
    sizes = sorted(value)
    return value[max((size for size in sizes if size <= side), default=sizes[0])]


IDLE = {"r1_gamma": "r1_interval", "path_weight": "path_interval", "diversity_weight": "diversity_kimg"}
"""Weight -> the setting that has no effect where it is 0."""


class Augmentation(Settings):
    """Differentiable augmentation of real and generated images, for small sets: reach of each random change."""

    brightness: Share = Field(0.25, description="added to all pixels, -reach..reach, in units of half the range")
    saturation: Share = Field(0.5, description="factor 1 - reach..1 + reach on the distance to gray")
    contrast: Share = Field(0.25, description="factor 1 - reach..1 + reach on the distance to the mean")
    translation: Share = Field(0.125, description="shift in both directions as a part of the side, zeros move in")
    cutout: Share = Field(0.3, description="side of a square set to zero, as a part of the image's")


class ProganNetwork(Settings):
    """Widths of ProGAN; fmap_base / 2^stage feature maps, at most fmap_max."""

    z_dim: Count = 512
    fmap_base: Count = 8192
    fmap_max: Count = 512
    fused: bool = False


class ProganDiscriminator(Settings):
    fmap_base: Count = 8192
    fmap_max: Count = 512
    fused: bool = False
    group: Count = 4


class StyleganNetwork(Settings):
    """Widths of StyleGAN's generator."""

    z_dim: Count = 512
    w_dim: Count = 512
    mapping_layers: Count = 8
    mapping_features: Count = 512
    fmap_base: Count = 8192
    fmap_max: Count = 512


class StyleganDiscriminator(Settings):
    fmap_base: Count = 8192
    fmap_max: Count = 512
    group: Count = 4


class Stylegan2Network(Settings):
    """Widths of StyleGAN2's generator; channel_base / resolution feature maps, at most channel_max."""

    z_dim: Count = 512
    w_dim: Count = 512
    mapping_layers: Count = 8
    channel_base: Count = 32768
    channel_max: Count = 512
    network: Literal["skip", "resnet", "orig"] = "skip"


class Stylegan2Discriminator(Settings):
    channel_base: Count = 32768
    channel_max: Count = 512
    network: Literal["skip", "resnet", "orig"] = "resnet"
    group: Count = 4


class Stargan2Network(Settings):
    """Widths of StarGAN v2; `width` none: 2^14 / resolution as published."""

    z_dim: Count = 16
    w_dim: Count = 64
    width: Count | None = None
    max_width: Count = 512
    mapping_width: Count = 512


class Stargan2Discriminator(Settings):
    width: Count | None = None
    max_width: Count = 512


class Recipe(Settings):
    """What all families have in common."""

    kimg: Positive = Field(description="length: thousands of real images shown to the discriminator")
    batch: Batch = Field(description="images per step, or {resolution: images}")
    learning_rate: Rate = Field(description="of Adam, or {resolution: rate}")
    betas: Betas = Field((0.0, 0.99), description="of Adam")
    flips: bool = Field(False, description="mirror half of the real images")
    augment: Augmentation | None = Field(None, description="differentiable augmentation; none: off")
    average_beta: Share | None = Field(None, description="share kept of the averaged generator in each step")
    average_kimg: Positive | None = Field(None, description="or its half-life in thousands of images")
    average_ramp: Share | None = Field(None, description="half-life at most this part of the images seen so far")
    conditional: bool = Field(False, description="classes are the rows' domains")
    domains: Annotated[list[str], Field(min_length=2)] | None = Field(
        None, description="classes in this order; none: the domains of the training rows by name"
    )

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
    def _named_classes(self) -> Recipe:
        if self.domains is not None and not self.conditional:
            raise ValueError("domains has no effect without conditional: true; drop it")
        if self.domains is not None and len(set(self.domains)) < len(self.domains):
            raise ValueError(f"domains are {', '.join(self.domains)}; expected different ones")
        return self

    @model_validator(mode="after")
    def _without_effect(self) -> Recipe:
        for weight, idle in IDLE.items():
            if getattr(self, weight, 1) == 0 and idle in self.model_fields_set:
                raise ValueError(f"{idle} has no effect with {weight}: 0; drop it")
        if self.augment is not None and not any(self.augment.model_dump().values()):
            raise ValueError("augment changes nothing, as all its reaches are 0; drop it")
        return self

    @model_validator(mode="after")
    def _whole_groups(self) -> Recipe:
        """The discriminator's minibatch deviation compares groups of images."""
        group = getattr(getattr(self, "discriminator", None), "group", 1)
        for batch in self.batch.values() if isinstance(self.batch, dict) else (self.batch,):
            if batch % min(group, batch):
                raise ValueError(f"batch is {batch}, no multiple of the discriminator's group of {group} images")
        return self


class Growing(Recipe):
    """Progressive growing: start small, then double, fading each new resolution in."""

    grow_from: Literal[4, 8, 16, 32, 64, 128, 256, 512, 1024] = Field(4, description="first resolution")
    grow_kimg: Weight = Field(600.0, description="thousands of images before each fade")
    fade_kimg: Weight = Field(600.0, description="thousands of images of each fade")


class ProganRecipe(Growing):
    """WGAN-GP with progressive growing."""

    family: Literal["progan"]
    network: ProganNetwork = ProganNetwork()
    discriminator: ProganDiscriminator = ProganDiscriminator()
    kimg: Positive = 12000.0
    batch: Batch = {4: 128, 32: 64, 64: 32, 128: 16, 256: 8, 512: 4}
    learning_rate: Rate = {4: 0.001, 1024: 0.0015}
    average_beta: Share | None = 0.999
    gradient_penalty: Weight = Field(10.0, description="lambda of WGAN-GP")
    drift: Weight = Field(0.001, description="weight of the squared score of real images")


class StyleganRecipe(Growing):
    """Non-saturating logistic loss with R1 in each step, style mixing, progressive growing."""

    family: Literal["stylegan"]
    network: StyleganNetwork = StyleganNetwork()
    discriminator: StyleganDiscriminator = StyleganDiscriminator()
    kimg: Positive = 25000.0
    batch: Batch = {4: 128, 32: 64, 64: 32, 128: 16, 256: 8, 512: 4}
    learning_rate: Rate = {4: 0.001, 128: 0.0015, 256: 0.002, 512: 0.003}
    grow_from: Literal[4, 8, 16, 32, 64, 128, 256, 512, 1024] = 8
    average_kimg: Positive | None = 10.0
    r1_gamma: Weight = Field(10.0, description="weight of the R1 penalty is gamma / 2")
    r1_interval: Count = Field(1, description="discriminator steps between penalties")
    mixing: Share = Field(0.9, description="probability of style mixing")


class Stylegan2Recipe(Recipe):
    """Non-saturating logistic loss with lazy R1 and lazy path length regularization, style mixing."""

    family: Literal["stylegan2"]
    network: Stylegan2Network = Stylegan2Network()
    discriminator: Stylegan2Discriminator = Stylegan2Discriminator()
    kimg: Positive = 25000.0
    batch: Batch = 32
    learning_rate: Rate = 0.002
    average_kimg: Positive | None = 10.0
    r1_gamma: Weight = Field(10.0, description="weight of the R1 penalty is gamma / 2")
    r1_interval: Count = Field(16, description="discriminator steps between penalties")
    path_weight: Weight = Field(2.0, description="weight of the path length penalty; 0: off")
    path_interval: Count = Field(4, description="generator steps between path length penalties")
    mixing: Share = Field(0.9, description="probability of style mixing")


class Stargan2Recipe(Recipe):
    """Logistic loss with R1; style reconstruction, diversity and cycle losses; domains are the rows' domains."""

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


FAMILIES: Mapping[str, type[Recipe]] = {
    "progan": ProganRecipe,
    "stylegan": StyleganRecipe,
    "stylegan2": Stylegan2Recipe,
    "stargan2": Stargan2Recipe,
}


def _known(value: Any) -> Any:
    """Refuse what is no recipe of any family, or has a setting of another one, in words of the pipeline file."""
    if isinstance(value, Recipe):
        return value
    names = ", ".join(FAMILIES)
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a mapping with 'family' (one of {names}) and its settings")
    family = value.get("family")
    if family is None:
        raise ValueError(f"lacks 'family', one of {names}")
    if family not in FAMILIES:
        near = difflib.get_close_matches(str(family), FAMILIES, n=1)
        raise ValueError(
            f"its family is {family!r}; expected one of {names}" + (f"; did you mean '{near[0]}'?" if near else "")
        )
    for name in value:
        if name not in FAMILIES[family].model_fields:
            others = [other for other, model in FAMILIES.items() if name in model.model_fields]
            if others:
                raise ValueError(f"'{name}' is a setting of {' and '.join(others)}, not of {family}; drop it")
    return value


def _family(value: Any) -> str | None:
    return value.get("family") if isinstance(value, dict) else getattr(value, "family", None)


AnyRecipe = Annotated[
    Annotated[ProganRecipe, Tag("progan")]
    | Annotated[StyleganRecipe, Tag("stylegan")]
    | Annotated[Stylegan2Recipe, Tag("stylegan2")]
    | Annotated[Stargan2Recipe, Tag("stargan2")],
    Discriminator(_family),
    BeforeValidator(_known),
]
"""One of the four, chosen by `family`."""
