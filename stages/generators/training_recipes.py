"""Settings by which generators are trained, one model per family, with the published values as defaults.

Sources: ProGAN (Karras et al. 2018, arXiv:1710.10196, appendix A), StyleGAN (Karras et al. 2019, arXiv:1812.04948,
appendix C), StyleGAN2 (Karras et al. 2020, arXiv:1912.04958, appendix B, configuration F) and StarGAN v2 (Choi et al.
2020, arXiv:1912.01865, appendix B), each with the settings of its public code; augmentation: Zhao et al. 2020
(arXiv:2006.10738). Batch sizes and learning rates may be numbers, or depend on the resolution that is being
trained: {4: 128, 64: 32} holds from 4 and from 64 pixels on. Importing this module needs no torch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

FAMILY_NAMES = ("progan", "stylegan", "stylegan2", "stargan2")


class Settings(BaseModel):
    """Base of all models here: frozen, unknown keys rejected, no silent conversion of types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)


Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
BySize = Annotated[dict[int, float], Field(min_length=1)]


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
    batch: Count | dict[int, int] = Field(description="images per step, or {resolution: images}")
    learning_rate: Positive | BySize = Field(description="of Adam, or {resolution: rate}")
    betas: tuple[Share, Share] = Field((0.0, 0.99), description="of Adam")
    flips: bool = Field(False, description="mirror half of the real images")
    augment: Augmentation | None = Field(None, description="differentiable augmentation; none: off")
    average_beta: Share | None = Field(None, description="share kept of the averaged generator in each step")
    average_kimg: Positive | None = Field(None, description="or its half-life in thousands of images")
    average_ramp: Share | None = Field(None, description="half-life at most this part of the images seen so far")
    conditional: bool = Field(False, description="classes are the rows' domains")

    @model_validator(mode="after")
    def _one_average(self) -> Recipe:
        if (self.average_beta is None) == (self.average_kimg is None):
            raise ValueError("one of average_beta and average_kimg is needed, and not both")
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
    batch: Count | dict[int, int] = {4: 128, 32: 64, 64: 32, 128: 16, 256: 8, 512: 4}
    learning_rate: Positive | BySize = {4: 0.001, 1024: 0.0015}
    average_beta: Share | None = 0.999
    gradient_penalty: Weight = Field(10.0, description="lambda of WGAN-GP")
    drift: Weight = Field(0.001, description="weight of the squared score of real images")


class StyleganRecipe(Growing):
    """Non-saturating logistic loss with R1 in each step, style mixing, progressive growing."""

    family: Literal["stylegan"]
    network: StyleganNetwork = StyleganNetwork()
    discriminator: StyleganDiscriminator = StyleganDiscriminator()
    kimg: Positive = 25000.0
    batch: Count | dict[int, int] = {4: 128, 32: 64, 64: 32, 128: 16, 256: 8, 512: 4}
    learning_rate: Positive | BySize = {4: 0.001, 128: 0.0015, 256: 0.002, 512: 0.003}
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
    batch: Count | dict[int, int] = 32
    learning_rate: Positive | BySize = 0.002
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
    batch: Count | dict[int, int] = 8
    learning_rate: Positive | BySize = 0.0001
    mapping_rate: Positive = Field(1e-6, description="learning rate of the mapping network")
    weight_decay: Weight = 0.0001
    average_beta: Share | None = 0.999
    conditional: Literal[True] = True
    r1_gamma: Weight = Field(1.0, description="weight of the R1 penalty is gamma / 2")
    style_weight: Weight = 1.0
    diversity_weight: Weight = Field(1.0, description="falls to 0 over diversity_kimg")
    diversity_kimg: Positive = 800.0
    cycle_weight: Weight = 1.0


def _family(value: Any) -> str | None:
    return value.get("family") if isinstance(value, dict) else getattr(value, "family", None)


AnyRecipe = Annotated[
    Annotated[ProganRecipe, Tag("progan")]
    | Annotated[StyleganRecipe, Tag("stylegan")]
    | Annotated[Stylegan2Recipe, Tag("stylegan2")]
    | Annotated[Stargan2Recipe, Tag("stargan2")],
    Discriminator(_family),
]
"""One of the four, chosen by `family`."""
