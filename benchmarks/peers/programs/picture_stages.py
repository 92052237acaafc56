"""This project: the two stages of a user, beside a pipeline file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from pipeline.stage import CONTENT, Batch, Context, Field, Input, Kind, Schema, Stage, StageConfig, setting


class Decode(Stage):
    """Pictures of 64 pixels out of files."""

    name: ClassVar[str] = "decode"
    kind: ClassVar[Kind] = Kind.MAP
    Config: ClassVar[type[StageConfig]] = StageConfig
    inputs: ClassVar[Mapping[str, Input]] = {"of": Input("rows")}
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pillow")

    def schema(self, config: StageConfig, inputs: Mapping[str, Schema]) -> Schema:
        if CONTENT not in inputs["of"]:
            raise ValueError("decodes files, but its input has none")
        return {"image": Field("uint8", (64, 64, 3))}

    def compute(self, config: StageConfig, batch: Batch, ctx: Context) -> Mapping[str, Any]:
        from picture_work import decode

        return {"image": np.stack([decode(batch.read(row)) for row in range(len(batch))])}


class CurveConfig(StageConfig):
    gain: float = setting(1.0, description="factor of all values")


class Curve(Stage):
    """Curves of pictures."""

    name: ClassVar[str] = "curve"
    kind: ClassVar[Kind] = Kind.MAP
    Config: ClassVar[type[StageConfig]] = CurveConfig
    inputs: ClassVar[Mapping[str, Input]] = {"of": Input("rows")}

    def schema(self, config: CurveConfig, inputs: Mapping[str, Schema]) -> Schema:
        return {"curve": Field("float32", (32,))}

    def compute(self, config: CurveConfig, batch: Batch, ctx: Context) -> Mapping[str, Any]:
        from picture_work import curve

        return {"curve": np.stack([curve(image, config.gain) for image in batch.inputs[0]["image"]])}
