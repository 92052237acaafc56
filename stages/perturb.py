"""Post-process images as published robustness tests do (+P): JPEG, blur, crop and noise with random strength.

Named protocols, because the published ones differ and the released programs do not do what their papers say:

yu2019           Yu et al. 2019: crop, blur, JPEG, noise, each with probability 1/2, in this order; their relighting,
                 which comes first and needs a network of its own (SfSNet), is left out
he2021           He et al. 2021, section 4.3: the same ranges in the order JPEG, blur, crop, noise; the paper does not
                 state probabilities, 1/2 is assumed
frank2020-paper  Frank et al. 2020: one operation per image, with probability 1/2: each one on an eighth of the rows of
                 one mixture. A set of a single operation is a custom protocol
frank2020-released  what their program does: noise with that *standard deviation*, truncated; blur always with sigma 4;
                 JPEG always at quality 95 on reversed channels, since the quality is passed as a parameter's number
wang2020         Wang et al. 2020, the training augmentation "Blur+JPEG (0.5)": blur, then JPEG
custom           the list `operations`

`off` switches operations off. Draws are named by operation: jpeg, and jpeg_2 for a second one in the list. Neither the
protocol nor the place in the list changes them, so that an operation that is off, or taken out of a list, leaves the
draws of all others as they are. Only two things count what is in the list: the choice of `combine: one`, which is made
among all operations, those that are off too (their rows stay as they were), and the number of a second operation of one
name, so switch off the first one rather than take it out.

Where a program used OpenCV's JPEG (frank2020-released), or drew one of OpenCV's and Pillow's for each image (wang2020),
`codecs` says so; Pillow's alone is the default, since OpenCV is optional. Spectrum equalization (+E), which learns from
a training set, is a stage of its own: `equalize_spectrum`.

JPEG blocks, kernels and noise are absolute, so the same protocol is milder on larger images: state the size with every
number. Perturbing fakes only makes a detector of JPEG traces look like a detector of fakes: evaluate both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Discriminated
from pydantic import field_validator, model_validator

from detectors import jpeg_codecs
from detectors.gaussian_filter import gaussian_filter
from pipeline.stage import (
    PICTURE,
    Batch,
    Context,
    Field,
    Input,
    Kind,
    Schema,
    Stage,
    StageConfig,
    row_setting,
    setting,
)
from stages.images import perturbations
from stages.images.image_field import image_size

OFF = -1.0
"""Value of a drawn parameter in rows that the operation was not applied to."""

JPEG_LIMIT = 65500
"""Greatest side in pixels that libjpeg encodes."""


class Operation(StageConfig):
    """One step. Its strength is drawn uniformly from `low` to `high` for each row."""

    probability: float = setting(0.5, description="of being applied to a row", ge=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> Operation:
        low, high = getattr(self, "low", 0), getattr(self, "high", 0)
        if low > high:
            raise ValueError(f"low is {low} and high is {high}, expected low <= high")
        return self


class Jpeg(Operation):
    """JPEG at a quality drawn from low to high, whole numbers; 4:2:0 (Yu et al. 2019, arXiv:1811.08180)."""

    op: Literal["jpeg"] = setting("jpeg", description="compression")
    low: int = setting(10, description="lowest quality", ge=1, le=100)
    high: int = setting(75, description="highest quality, included", ge=1, le=100)
    unit: Literal["libjpeg quality"] = setting("libjpeg quality", description="of low and high")
    subsampling: Literal["4:2:0"] = setting("4:2:0", description="of the color channels")
    channel_order: Literal["rgb", "bgr"] = setting("rgb", description="order in which the encoder gets the channels")


class Blur(Operation):
    """Gaussian blur with a kernel of a drawn odd size in pixels, as OpenCV defines it."""

    op: Literal["blur"] = setting("blur", description="blur as OpenCV defines it")
    kernels: list[int] = setting([1, 3, 5, 7, 9], description="sizes to choose from, odd", min_length=1)
    sigma_px: float | None = setting(None, description="None: OpenCV's fixed kernel of that size", ge=0.01, le=1000)
    unit: Literal["kernel size in pixels"] = setting("kernel size in pixels", description="of kernels")

    @field_validator("kernels")
    @classmethod
    def _odd(cls, value: list[int]) -> list[int]:
        if any(kernel % 2 == 0 or not 1 <= kernel <= 31 for kernel in value):
            raise ValueError(f"are {value}, expected odd sizes from 1 to 31")
        return value

    @model_validator(mode="after")
    def _tabulated(self) -> Blur:
        if self.sigma_px is None and max(self.kernels) > 9:
            raise ValueError(f"kernels are {self.kernels}, expected at most 9 where sigma_px is not given")
        return self


class Gaussian(Operation):
    """Gaussian blur with a sigma in pixels, uniform from low to high (Wang et al. 2020, arXiv:1912.11035)."""

    op: Literal["gaussian"] = setting("gaussian", description="Gaussian blur")
    low: float = setting(0.0, description="smallest sigma", ge=0)
    high: float = setting(3.0, description="largest sigma", ge=0, le=10)
    unit: Literal["sigma in pixels"] = setting("sigma in pixels", description="of low and high")


class Crop(Operation):
    """Cut a drawn part of each side away, at a drawn place, and enlarge to the old size."""

    op: Literal["crop"] = setting("crop", description="crop and enlargement")
    low: float = setting(0.05, description="smallest part of each side that is cut away", ge=0, le=0.9)
    high: float = setting(0.2, description="largest part of each side that is cut away", ge=0, le=0.9)
    unit: Literal["fraction of the side"] = setting("fraction of the side", description="of low and high")
    resampler: Literal["cubic, a = -0.75"] = setting("cubic, a = -0.75", description="of the enlargement")


class Noise(Operation):
    """Gaussian noise of a drawn strength, independent for each value; results lie in 0..255."""

    op: Literal["noise"] = setting("noise", description="Gaussian noise")
    low: float = setting(5.0, description="least strength", ge=0, le=1e5)
    high: float = setting(20.0, description="greatest strength", ge=0, le=1e5)
    unit: Literal["variance in gray levels squared", "standard deviation in gray levels"] = setting(
        "variance in gray levels squared", description="what the strength is"
    )
    rounding: Literal["nearest", "truncate"] = setting("nearest", description="how gray levels are made integers")


Step = Annotated[Jpeg | Blur | Gaussian | Crop | Noise, Discriminated(discriminator="op")]

PROTOCOLS: dict[str, tuple[Literal["all", "one"], list[Operation]]] = {
    "yu2019": ("all", [Crop(), Blur(), Jpeg(), Noise()]),
    "he2021": ("all", [Jpeg(), Blur(), Crop(), Noise()]),
    "frank2020-paper": ("one", [Noise(), Blur(kernels=[3, 5, 7, 9]), Jpeg(), Crop()]),
    "frank2020-released": (
        "one",
        [
            Noise(unit="standard deviation in gray levels", rounding="truncate"),
            Blur(kernels=[3, 5, 7, 9], sigma_px=4.0),
            Jpeg(low=95, high=95, channel_order="bgr"),
            Crop(),
        ],
    ),
    "wang2020": ("all", [Gaussian(), Jpeg(low=30, high=100)]),
}
"""Name -> how operations are combined, and the operations in order."""


def numbered(words: Sequence[str]) -> list[str]:
    """The words; a second one of its kind gets the end _2, a third one _3."""
    earlier = [words[:place].count(word) for place, word in enumerate(words)]
    return [f"{word}_{count + 1}" if count else word for word, count in zip(words, earlier, strict=True)]


def _compresses(operations: Any, off: Any) -> bool:
    """Whether unchecked operations, as mappings or models, hold a JPEG that is not off."""
    steps = operations if isinstance(operations, list) else []
    words = [str(step.get("op") if isinstance(step, Mapping) else getattr(step, "op", None)) for step in steps]
    silent = off if isinstance(off, list) else []
    return any(word == "jpeg" and name not in silent for word, name in zip(words, numbered(words), strict=True))


class PerturbConfig(StageConfig):
    """A published protocol, or operations of one's own; which of them are applied is drawn for each row."""

    protocol: Literal["yu2019", "he2021", "frank2020-paper", "frank2020-released", "wang2020", "custom"] = setting(
        description="a published protocol, or custom"
    )
    codecs: list[Literal["pillow", "opencv"]] | None = setting(
        None,
        description="JPEG codecs, one drawn per row: pillow, opencv (an optional library); [pillow] if left out",
        min_length=1,
        max_length=2,
    )
    combine: Literal["all", "one"] = setting(
        "all", description="all: each operation in order, by its own probability; one: a single one per row, by its id"
    )
    operations: list[Step] = setting([], description="steps in order; filled in by a named protocol", max_length=8)
    off: list[str] = setting(
        [], description="operations that are not applied: jpeg, or jpeg_2 for a second one; all other draws stay"
    )
    draws: int = row_setting(1, description="perturbed rows per input row", ge=1, le=1000)

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, data: Any) -> Any:
        """Write a protocol's steps out, so that the resolved config states them; a resolved config stays as it is."""
        protocol = data.get("protocol") if isinstance(data, Mapping) else None
        if protocol == "spectrum_equalization":
            raise ValueError("protocol spectrum_equalization is a stage of its own; write stage: equalize_spectrum")
        if not isinstance(protocol, str):
            return data
        if protocol in PROTOCOLS:
            combine, operations = PROTOCOLS[protocol]
            stated = [operation.model_dump() for operation in operations]
            for key, value in (("combine", combine), ("operations", stated)):
                given = data.get(key, value)
                if given not in (value, operations):
                    raise ValueError(f"protocol {protocol} fixes {key}; use protocol: custom to change it")
            data = {**data, "combine": combine, "operations": stated}
        if data.get("codecs") is None and _compresses(data.get("operations"), data.get("off")):
            data = {**data, "codecs": ["pillow"]}
        return data

    @field_validator("off")
    @classmethod
    def _in_one_order(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise ValueError("off names one twice; name each once")
        return sorted(value)

    @model_validator(mode="after")
    def _consistent(self) -> PerturbConfig:
        if not self.operations:
            raise ValueError("protocol custom needs operations, found none")
        for name in self.off:
            if name not in self.names:
                raise ValueError(f"off names '{name}', expected some of {', '.join(self.names)}")
        if len(self.off) == len(self.operations):
            raise ValueError("off names every operation, so that nothing would be done; leave one on")
        if self.codecs is not None and not self.compresses:
            raise ValueError("codecs has no effect without an operation jpeg that is on; add one or leave codecs out")
        if self.codecs is not None and len(set(self.codecs)) < len(self.codecs):
            raise ValueError(f"codecs {', '.join(self.codecs)} name one twice; name each once")
        return self

    @property
    def names(self) -> list[str]:
        """What draws and `off` call the operations, in order."""
        return numbered([step.op for step in self.operations])

    @property
    def compresses(self) -> bool:
        """Whether some operation that is on is a JPEG."""
        return _compresses(self.operations, self.off)


class Perturb(Stage):
    """Rows with an `image` in; `draws` perturbed images per row out, with what was drawn."""

    name: ClassVar[str] = "perturb"
    kind: ClassVar[Kind] = Kind.EXPAND
    makes_variant: ClassVar[bool] = True
    moves: ClassVar[tuple[str, ...]] = ("pixels",)
    Config: ClassVar[type[StageConfig]] = PerturbConfig
    inputs: ClassVar[Mapping[str, Input]] = {"of": Input("rows", description="rows with an `image`")}
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pillow")
    random: ClassVar[bool] = True

    def schema(self, config: PerturbConfig, inputs: Mapping[str, Schema]) -> Schema:
        """`image`, `applied` (bit k: the k-th operation) and one float32 column per draw, -1 where it has no effect.

        An operation that is off keeps its bit, 0, and the column of its strength, -1.
        """
        height, width = image_size(inputs["of"], self.name)
        if config.compresses and max(height, width) > JPEG_LIMIT:
            raise ValueError(
                f"perturb compresses images of up to {JPEG_LIMIT} px per side, found {height} x "
                f"{width}; reduce them with equalize, or take a protocol without jpeg"
            )
        columns = {name: Field("float32", (), units) for name, units in drawn(config).items()}
        applied = Field("uint8", (), "bit k: operation k of the config")
        return {"image": Field("uint8", (height, width, 3), "RGB, 0 to 255", PICTURE), "applied": applied, **columns}

    def environment(self, config: PerturbConfig) -> Mapping[str, str]:
        """JPEG pixels depend on the libjpeg of each codec."""
        found: dict[str, str] = {}
        for codec in config.codecs or ():
            found |= jpeg_codecs.versions(codec)
        return found

    def check(self, config: PerturbConfig, files: Mapping[str, Path]) -> None:
        """Whether the codecs are installed."""
        for codec in config.codecs or ():
            jpeg_codecs.check(codec)

    def fan_out(self, config: PerturbConfig) -> int:
        """Perturbed rows per input row."""
        return config.draws

    def compute(self, config: PerturbConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        """Each row by its own draws; see `perturb_row`."""
        parents = batch.inputs[0]["image"]
        images = np.zeros(parents.shape, np.uint8)
        applied = np.zeros(len(batch), np.uint8)
        columns = {name: np.full(len(batch), OFF, np.float32) for name in drawn(config)}
        for row in range(len(batch)):
            images[row], values = perturb_row(parents[row], config, batch.ids[row], ctx)
            for name, value in values.items():
                columns[name][row] = value
            for bit, (name, _) in enumerate(named(config)):
                applied[row] |= (name in values) << bit
        return {"image": images, "applied": applied, **columns}


def named(config: PerturbConfig) -> list[tuple[str, Step]]:
    """Operations with the names of their columns: jpeg_quality, then jpeg_quality_2 for a second JPEG."""
    return list(zip(numbered([_column(step) for step in config.operations]), config.operations, strict=True))


def _column(step: Step) -> str:
    if isinstance(step, Noise):
        return "noise_variance" if step.unit.startswith("variance") else "noise_std"
    return {Jpeg: "jpeg_quality", Blur: "blur_kernel", Gaussian: "blur_sigma", Crop: "crop_fraction"}[type(step)]


def drawn(config: PerturbConfig) -> dict[str, str]:
    """Columns of what is drawn, with their units: a strength per operation, a codec per JPEG where there are two."""
    columns: dict[str, str] = {}
    for name, step in named(config):
        columns[name] = f"{step.unit}; -1: not applied"
        if isinstance(step, Jpeg) and len(config.codecs or ()) > 1:
            columns[codec_column(name)] = f"{' or '.join(config.codecs or ())}, counted from 0; -1: not applied"
    return columns


def codec_column(name: str) -> str:
    """Column of the codec that belongs to a column of JPEG qualities."""
    return name.replace("quality", "codec")


def perturb_row(
    image: NDArray[np.uint8], config: PerturbConfig, row_id: np.void, ctx: Context
) -> tuple[NDArray[np.uint8], dict[str, float]]:
    """The perturbed image and what was drawn for the operations that were applied, by column.

    Every draw has a generator of its own, named by the operation and nothing else: switching one operation off, or
    changing its range, leaves the draws of the others as they are.
    """
    draw = partial(ctx.rng, row_id)
    steps = named(config)
    chosen = int(draw("operation").integers(len(steps))) if config.combine == "one" else None
    values: dict[str, float] = {}
    for number, (name, (column, step)) in enumerate(zip(config.names, steps, strict=True)):
        if name in config.off or chosen not in (None, number) or draw(f"{name}/on").random() >= step.probability:
            continue
        values[column] = strength = _strength(step, draw(f"{name}/strength"))
        if isinstance(step, Jpeg):
            codecs = config.codecs or ["pillow"]
            codec = int(draw(f"{name}/codec").integers(len(codecs)))
            if len(codecs) > 1:
                values[codec_column(column)] = float(codec)
            image = jpeg_codecs.jpeg(image, int(strength), codecs[codec], step.channel_order)
        else:
            image = _apply(step, image, strength, draw(f"{name}/pixels"))
    return image, values


def _strength(step: Step, generator: np.random.Generator) -> float:
    """Uniform: an integer quality, a kernel of the list, or a number from low to high."""
    if isinstance(step, Jpeg):
        return float(generator.integers(step.low, step.high, endpoint=True))
    if isinstance(step, Blur):
        return float(step.kernels[int(generator.integers(len(step.kernels)))])
    return float(np.float32(generator.uniform(step.low, step.high)))


def _apply(
    step: Blur | Gaussian | Crop | Noise, image: NDArray[np.uint8], strength: float, pixels: np.random.Generator
) -> NDArray[np.uint8]:
    if isinstance(step, Blur):
        return perturbations.blur(image, int(strength), step.sigma_px)
    if isinstance(step, Gaussian):
        return gaussian_filter(image, strength)
    if isinstance(step, Crop):
        return perturbations.crop(image, strength)
    std = strength if step.unit.startswith("standard") else strength**0.5
    return perturbations.noise(image, pixels.standard_normal(image.shape), std, step.rounding)
