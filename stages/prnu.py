"""Stage `prnu`: the noise residual that a camera or a generator may have signed, the baseline "PRNU" of He et al. 2021.

Marra et al. 2019 (arXiv:1812.11842) found that a generator leaves a stable pattern in the noise of its images, as a
sensor does. This stage stores the noise of each image; the fingerprint of a class and the correlation with it are the
work of the detector family `prnu`, which reads the fields made here. What the numbers mean is written in
`stages/spectra/wavelet_noise.py` and `detectors/noise_pattern.py`.

Values are computed in float32 and stored as float16: they differ by at most 2**-11 of their size (below 6e-5 gray
levels by 3e-8), correlations by less than 1e-4. Content must be aligned to the pixel: any crop, resize or flip between
a fingerprint and an image takes the correlation away.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator, model_validator

from pipeline.stage import MAP, MAPS, Batch, Context, Field, Input, Kind, Schema, Stage, StageConfig, setting
from stages.images.image_field import image_size

Feature = Literal["residual", "terms", "noise"]
FEATURES: tuple[Feature, ...] = ("residual", "terms", "noise")

SMALLEST = 8
"""Pixels per side; below, no window of the filters lies inside the image."""


class PrnuConfig(StageConfig):
    """The denoiser, and what is stored of its work."""

    levels: int = setting(4, ge=1, le=8, description="levels of the wavelet transform (Frank et al. 2020 try 1 to 4)")
    sigma: float = setting(
        5.0, ge=0.01, le=100, description="standard deviation of the noise in gray levels (Frank et al. 2020: below 1)"
    )
    features: tuple[Feature, ...] = setting(
        ("residual", "terms"),
        description="residual: what is compared with a fingerprint (field prnu); terms: what an image adds to the "
        "fingerprint of its class, for training rows (prnu_terms); noise: of each channel, unfiltered (prnu_noise)",
        min_length=1,
        strict=False,  # a list in YAML
    )
    saturation: Literal["definition", "released"] | None = setting(
        None,
        description="terms: which pixels count as saturated, by the definition (if left out) or as in the released "
        "programs, which drop most of a channel that is not saturated where another one is",
    )

    @field_validator("features")
    @classmethod
    def _in_one_order(cls, features: tuple[Feature, ...]) -> tuple[Feature, ...]:
        if len(set(features)) < len(features):
            raise ValueError(f"features {', '.join(features)} name one twice; name each once")
        return tuple(name for name in FEATURES if name in features)

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """The default of `saturation` where it has an effect: leaving it out and writing it are one recipe."""
        if not isinstance(data, dict) or data.get("saturation") is not None:
            return data
        features = data.get("features", ("terms",))
        return (
            {**data, "saturation": "definition"} if isinstance(features, list | tuple) and "terms" in features else data
        )

    @model_validator(mode="after")
    def _no_idle_key(self) -> PrnuConfig:
        if self.saturation is not None and "terms" not in self.features:
            raise ValueError("saturation has no effect without the feature terms; ask for terms or leave it out")
        return self


class Prnu(Stage):
    """Images in, noise residuals out, gray levels as float16."""

    name: ClassVar[str] = "prnu"
    kind: ClassVar[Kind] = Kind.MAP
    Config: ClassVar[type[StageConfig]] = PrnuConfig
    inputs: ClassVar[Mapping[str, Input]] = {"of": Input("rows", description="rows with an image")}
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "scipy")

    def modules(self, config: PrnuConfig, files: Mapping[str, Any] = MappingProxyType({})) -> tuple[str, ...]:
        """The mathematics."""
        return ("detectors.noise_pattern", "stages.spectra.wavelet_noise")

    def schema(self, config: PrnuConfig, inputs: Mapping[str, Schema]) -> Schema:
        """Fields of the chosen features for the image size of the input."""
        height, width = image_size(inputs["of"], self.name, SMALLEST)
        fields = {
            "residual": ("prnu", Field("float16", (height, width), "gray levels", MAP)),
            "terms": (
                "prnu_terms",
                Field("float16", (2, 3, height, width), "noise * level / 255, squared weight", ("term", *MAPS)),
            ),
            "noise": ("prnu_noise", Field("float16", (3, height, width), "gray levels", MAPS)),
        }
        return dict(fields[name] for name in config.features)

    def environment(self, config: PrnuConfig) -> Mapping[str, str]:
        """The version of PyWavelets."""
        from importlib.metadata import version

        _check_wavelets()
        return {"pywavelets": version("pywavelets")}

    def check(self, config: PrnuConfig, files: Mapping[str, Any]) -> None:
        """Whether PyWavelets is installed."""
        _check_wavelets()

    def compute(self, config: PrnuConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        """Fields of `image`, (n, H, W, 3) uint8 RGB; all values are finite, and zero for a constant image."""
        from detectors.noise_pattern import pattern
        from stages.images.planes import blocks
        from stages.spectra.wavelet_noise import fingerprint_terms, noise_residual

        del ctx
        images = batch.inputs[0]["image"]
        rows, height, width, _ = images.shape
        found = {
            name: np.empty((rows, *field.shape), field.dtype)
            for name, field in self.schema(config, {"of": {"image": Field("uint8", images.shape[1:])}}).items()
        }
        for part in blocks(rows, 12 * height * width):
            noise = noise_residual(images[part], config.levels, config.sigma)
            if "prnu" in found:
                found["prnu"][part] = pattern(noise)
            if "prnu_terms" in found:
                assert config.saturation is not None
                found["prnu_terms"][part] = fingerprint_terms(images[part], noise, config.saturation)
            if "prnu_noise" in found:
                found["prnu_noise"][part] = noise
        return found


def _check_wavelets() -> None:
    """Raise ValueError with one sentence if PyWavelets is not installed."""
    from importlib.util import find_spec

    if find_spec("pywt") is None:
        raise ValueError(
            "prnu needs PyWavelets, which is not installed; install the extra with pip install 'touchstone[prnu]'"
        )
