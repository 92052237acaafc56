"""Stage `spectrum`: frequency features of images, stored raw so that a change of normalization recomputes nothing.

Baselines "1D spectrum", "FFT-2d" and "DCT-2d" of He et al. 2021, and the row and column projections that their
follow-up asks for. What a number means is written in `stages/spectra/profiles.py` and `stages/spectra/maps.py`; this
file chooses, names and stores. A module enters the recipe only where a feature of it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator, model_validator

from pipeline.stage import SPECTRA, Batch, Context, Field, Input, Kind, Schema, Stage, StageConfig, setting
from stages.images.image_field import SMALLEST, image_size

Feature = Literal["profile", "projections", "dct2d", "fft2d"]

OF_PROFILES, OF_MAPS = "stages.spectra.profiles", "stages.spectra.maps"
MODULES: dict[Feature, str] = {"profile": OF_PROFILES, "projections": OF_PROFILES, "dct2d": OF_MAPS, "fft2d": OF_MAPS}

FREQUENCY = ("frequency",)


class SpectrumConfig(StageConfig):
    """Which features, in which convention and color."""

    features: tuple[Feature, ...] = setting(
        ("profile",),
        description="any of profile (azimuthal), projections (row and column), dct2d, fft2d",
        min_length=1,
        strict=False,  # a list in YAML
    )
    convention: Literal["durall19", "durall20", "jung21"] | None = setting(
        None, description="published definition of the profile; durall19 if left out"
    )
    color: Literal["gray", "rgb"] | None = setting(
        None, description="planes of dct2d and fft2d: gray (Pillow's L) or rgb; rgb, as published, if left out"
    )

    @field_validator("features")
    @classmethod
    def _in_one_order(cls, features: tuple[Feature, ...]) -> tuple[Feature, ...]:
        if len(set(features)) < len(features):
            raise ValueError(f"features {', '.join(features)} name one twice; name each once")
        return tuple(name for name in MODULES if name in features)

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """Defaults where they have an effect, so that leaving a key out and writing its default are one recipe."""
        if not isinstance(data, dict):
            return data
        features = data.get("features", ("profile",))
        if not isinstance(features, list | tuple):
            return data
        filled = dict(data)
        if "profile" in features and filled.get("convention") is None:
            filled["convention"] = "durall19"
        if {"dct2d", "fft2d"}.intersection(map(str, features)) and filled.get("color") is None:
            filled["color"] = "rgb"
        return filled

    @model_validator(mode="after")
    def _no_idle_key(self) -> SpectrumConfig:
        if self.convention is not None and "profile" not in self.features:
            raise ValueError("convention has no effect without the feature profile; ask for profile or leave it out")
        if self.color is not None and not {"dct2d", "fft2d"}.intersection(self.features):
            raise ValueError("color has no effect without the features dct2d or fft2d; ask for one or leave it out")
        return self


class Spectrum(Stage):
    """Images in, log spectra out: profiles as float32, maps as float16 (C, H, W)."""

    name: ClassVar[str] = "spectrum"
    kind: ClassVar[Kind] = Kind.MAP
    Config: ClassVar[type[StageConfig]] = SpectrumConfig
    inputs: ClassVar[Mapping[str, Input]] = {"of": Input("rows", description="rows with an image")}
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "scipy")

    def modules(self, config: SpectrumConfig, files: Mapping[str, Any] = MappingProxyType({})) -> tuple[str, ...]:
        """The modules of the chosen features."""
        return tuple(sorted({MODULES[name] for name in config.features}))

    def schema(self, config: SpectrumConfig, inputs: Mapping[str, Schema]) -> Schema:
        """Fields of the chosen features for the image size of the input."""
        height, width = image_size(inputs["of"], self.name, SMALLEST)
        found: dict[str, Field] = {}
        if config.convention is not None:
            length = importlib.import_module(OF_PROFILES).profile_length(height, width, config.convention)
            amplitude = "|F|^2" if config.convention == "jung21" else "|F|"
            found["profile"] = Field("float32", (length,), f"20 ln {amplitude}, {config.convention}", FREQUENCY)
        if "projections" in config.features:
            found["row_profile"] = Field("float32", (height,), "20 ln |F|", FREQUENCY)
            found["column_profile"] = Field("float32", (width,), "20 ln |F|", FREQUENCY)
        planes = 1 if config.color == "gray" else 3
        if "dct2d" in config.features:
            found["dct2d"] = Field("float16", (planes, height, width), "ln |DCT|", SPECTRA)
        if "fft2d" in config.features:
            found["fft2d"] = Field("float16", (planes, height, width), "ln |FFT|, DC first", SPECTRA)
        return found

    def compute(self, config: SpectrumConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        """Features of `image`, (n, H, W, 3) uint8 RGB; all values are finite, for constant images too."""
        del ctx
        images = batch.inputs[0]["image"]
        found: dict[str, NDArray[Any]] = {}
        if {"profile", "projections"}.intersection(config.features):
            profiles = importlib.import_module(OF_PROFILES)
            projected = "projections" in config.features
            found |= profiles.line_spectra(images, config.convention, projected)
        for name in ("dct2d", "fft2d"):
            if name in config.features:
                kernel = getattr(importlib.import_module(OF_MAPS), f"{name}_maps")
                found[name] = kernel(images, config.color, np.float32, np.float16)
        return found
