"""Stage `upsample`: fakes without a generator, images that were reduced and enlarged again.

A generator's last layers enlarge. What they leave in the spectrum (copies of it at multiples of the small image's
sampling frequency, checkerboards at N/2 on the axes, a lack of high frequencies) they leave in any image. Here each
method is applied alone to given images, so that its trace, and whether a detector of one trace sees another, can be
shown without training a generator (Durall et al. 2020; Keuper's lecture of 2022 asks it of three kinds of SNGAN).

A row has the group and the split of its image, and counts as a fake of this node: give each method a node, best by a
matrix. Reals that are not enlarged differ from these fakes by the reduction too; say so under `declared` in the report.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from pipeline.stage import (
    FAKE,
    PICTURE,
    Batch,
    Children,
    Context,
    Field,
    Input,
    Kind,
    Parents,
    Schema,
    Stage,
    StageConfig,
    draw_key,
    setting,
)
from stages.images.image_field import image_size
from stages.spectra import upsampling
from stages.spectra.upsampling import Method

METHODS: tuple[Method, ...] = get_args(Method)
WEIGHTED = ("pixel_shuffle", "transposed_convolution")
"""Methods with weights."""

DEFAULTS: dict[str, Any] = {"spread": 0.1, "seed": 0}
KERNEL = 3


class UpsampleConfig(StageConfig):
    """One way to enlarge."""

    method: Method = setting(description="how images are enlarged to their old size")
    factor: Literal[2, 4] = setting(2, description="how many times the sides are reduced before, by means of blocks")
    kernel: Literal[3, 4] | None = setting(
        None,
        description="transposed_convolution: size of its kernel; 3, which overlaps unevenly, if left out, or 4",
    )
    spread: float | None = setting(
        None,
        ge=0,
        le=0.3,
        description="methods with weights: relative standard deviation of the weights; 0.1 if left out",
    )
    seed: int | None = setting(None, ge=0, description="methods with weights: seed of the weights; 0 if left out")

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """Defaults where they have an effect, so that leaving a key out and writing its default are one recipe."""
        if not isinstance(data, dict):
            return data
        defaults = dict(DEFAULTS) if data.get("method") in WEIGHTED else {}
        if data.get("method") == "transposed_convolution":
            defaults["kernel"] = KERNEL
        return data | {name: value for name, value in defaults.items() if data.get(name) is None}

    @model_validator(mode="after")
    def _no_idle_key(self) -> UpsampleConfig:
        for name in ("kernel", *DEFAULTS):
            users = ("transposed_convolution",) if name == "kernel" else WEIGHTED
            if getattr(self, name) is not None and self.method not in users:
                raise ValueError(f"{name} has no effect with method {self.method}, only with {' and '.join(users)}")
        return self


class Upsample(Stage):
    """Rows with an `image` in; the same images out, reduced and enlarged again, as fakes."""

    name: ClassVar[str] = "upsample"
    kind: ClassVar[Kind] = Kind.EXPAND
    origin: ClassVar[bool] = True
    Config: ClassVar[type[StageConfig]] = UpsampleConfig
    inputs: ClassVar[Mapping[str, Input]] = {"of": Input("rows", description="rows with an `image`")}

    def schema(self, config: UpsampleConfig, inputs: Mapping[str, Schema]) -> Schema:
        """`image` of the same size; ValueError unless both sides are multiples of the factor."""
        height, width = image_size(inputs["of"], self.name)
        if height % config.factor or width % config.factor:
            raise ValueError(
                f"images of {height} x {width} px cannot be reduced {config.factor} times in blocks; choose a size in "
                f"equalize that is a multiple of {config.factor}"
            )
        return {"image": Field("uint8", (height, width, 3), "RGB, 0 to 255", PICTURE)}

    def children(
        self,
        config: UpsampleConfig,
        files: Mapping[str, Path],
        parents: Parents,
        partners: Parents | None,
        seed: int,
    ) -> Children:
        """One fake per row; its index is the method's number, so that methods give different ids."""
        del files, partners, seed
        index = np.full(len(parents), METHODS.index(config.method), dtype=np.int64)
        return Children(np.arange(len(parents)), index, label=FAKE)

    def compute(self, config: UpsampleConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        """Images of the parents' size, rounded to the nearest level."""
        del ctx
        images = batch.inputs[0]["image"]
        result = np.empty_like(images)
        for row in range(len(images)):  # a row fits into the cache of a core, a batch does not
            part = slice(row, row + 1)
            large = enlarged(upsampling.reduced(images[part], config.factor), config)
            large += np.float32(0.5)
            result[part] = np.clip(np.floor(large, out=large), 0, 255, out=large)
        return {"image": result}


def enlarged(images: NDArray[np.float32], config: UpsampleConfig) -> NDArray[np.float32]:
    """`factor` times the size by the config's method. (N, h, w, 3) float32 levels, out of 0 to 255 too."""
    if config.method in WEIGHTED:
        for layer in range(config.factor.bit_length() - 1):
            images = upsampling.doubled(images, layer_kernels(config, layer))
        return images
    whole = {
        "nearest": upsampling.nearest,
        "bed_of_nails": upsampling.bed_of_nails,
        "bilinear": upsampling.bilinear,
        "bicubic": upsampling.bicubic,
    }
    return whole[config.method](images, config.factor)


def layer_kernels(config: UpsampleConfig, layer: int) -> upsampling.Kernels:
    """Weights of one doubling, drawn for (seed, method, layer): the same for all images and in every pipeline."""
    assert config.seed is not None
    assert config.spread is not None
    key = draw_key(config.seed, "upsample", b"", f"{config.method}/{layer}")
    generator = np.random.Generator(np.random.Philox(key=key))
    if config.kernel is None:
        return upsampling.pixel_shuffle_kernels(generator.standard_normal((2, 2, 3, 3, 3)), config.spread)
    return upsampling.transposed_kernels(generator.standard_normal((config.kernel, config.kernel, 3)), config.spread)
