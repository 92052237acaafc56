"""Equalize the spectra of images (+E): a gain on each frequency, learned by `fit_equalization` from training rows.

Variant E of He et al. 2021: fakes whose mean spectrum is that of photographs. The definition is in
`stages/spectra/spectrum_gain.py`. Rounding to 8 bits brings part of the gap back, and the change is not invisible: the
field `psnr` says how large it is. Which rows are equalized, fakes only or both classes, is the view `of`; results name
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.stage import PICTURE, Batch, Context, Field, Input, Kind, Schema, Stage, StageConfig, file_setting
from stages.spectra import equalization_file, spectrum_gain


class EqualizeSpectrumConfig(StageConfig):
    """With what."""

    equalization: str = file_setting(
        description="a node of the stage fit_equalization, or the file equalization.safetensors that such a node wrote"
    )


class EqualizeSpectrum(Stage):
    """Rows with an `image` in; the image with its spectrum equalized, and `psnr` to the image before, out."""

    name: ClassVar[str] = "equalize_spectrum"
    kind: ClassVar[Kind] = Kind.MAP
    makes_variant: ClassVar[bool] = True
    moves: ClassVar[tuple[str, ...]] = ("pixels",)
    Config: ClassVar[type[StageConfig]] = EqualizeSpectrumConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "of": Input("rows", description="rows with an `image` of the size that was learned from"),
        "equalization": Input("artifact", required=False, takes="equalization", description="what was learned"),
    }
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "scipy", "safetensors")

    def schema(self, config: EqualizeSpectrumConfig, inputs: Mapping[str, Any]) -> Schema:
        """`image`, (H, W, 3) uint8, and `psnr`."""
        image = inputs["of"].get("image")
        about = equalization_file.read_description(inputs["equalization"])
        expected = (about["height"], about["width"], 3)
        if image is None or image.dtype != "uint8" or image.shape != expected:
            found = f"{image.shape} {image.dtype}" if image else ", ".join(sorted(inputs["of"])) or "nothing"
            raise ValueError(
                f"equalize_spectrum needs a field `image`, {expected} uint8, the size that {inputs['equalization']} "
                f"learned from, found {found}; gains are never resampled, so fit them on images of this size"
            )
        return {"image": Field("uint8", image.shape, "RGB, 0 to 255", PICTURE), "psnr": Field("float32", (), "dB")}

    def check(self, config: EqualizeSpectrumConfig, files: Mapping[str, Path]) -> None:
        """The file is an equalization, or the node fits one."""
        equalization_file.read_description(files["equalization"])

    def compute(self, config: EqualizeSpectrumConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        """Each row on its own; 148.1 dB where the image is as it was."""
        if "equalization" in ctx.artifacts:
            place = ctx.artifacts["equalization"][0].path / equalization_file.FILE
        else:
            place = Path(ctx.files["equalization"])
        learned = equalization_file.load(place)
        before = batch.inputs[0]["image"]
        images, ratios = np.empty_like(before), np.empty(len(batch), np.float32)
        for row, image in enumerate(before):
            images[row] = spectrum_gain.rounded(spectrum_gain.equalized(image, learned))
            ratios[row] = spectrum_gain.psnr(image, images[row])
        return {"image": images, "psnr": ratios}
