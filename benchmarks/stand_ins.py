"""Stages of the engine's benchmarks: work of a known cost, so that what is left over is the engine.

Nothing here is a feature. `Seeds` gives many rows without files, `Size` reads each file once, and `Work` and `Pictured`
keep a processor as busy per row as a small feature does: nothing can hide behind a pause.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.stage import (
    CONTENT,
    Batch,
    Context,
    Field,
    Input,
    Kind,
    RowError,
    Schema,
    SourceRows,
    Stage,
    StageConfig,
    row_setting,
    setting,
)

ROW_BYTES = 352
"""What `Work` keeps of a row: as much as a profile of 88 float32 values."""

SIDE = 128
TRANSFORMS = 14
"""Fourier transforms of SIDE x SIDE values per row: about 2 ms of a core of 2020; what they took is told."""


class SeedsConfig(StageConfig):
    count: int = row_setting(1000, ge=1, description="rows")


class Seeds(Stage):
    """Rows from numbers; ids are draws of one generator, so that a larger count only adds rows."""

    name: ClassVar[str] = "seeds"
    kind: ClassVar[Kind] = Kind.SOURCE
    Config: ClassVar[type[StageConfig]] = SeedsConfig

    def schema(self, config: SeedsConfig, inputs: Mapping[str, Schema]) -> Schema:
        return {"number": Field("<i8", (), "1")}

    def discover(self, config: SeedsConfig, scan: Any) -> SourceRows:
        ids = np.frombuffer(np.random.default_rng(0).bytes(16 * config.count), "V16")
        return SourceRows(ids, 0, None, payload={"number": np.arange(config.count, dtype=np.int64)})

    def compute(self, config: SeedsConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        return {"number": batch.payload["number"]}


class Half(Stage):
    """Half of a number: 8 bytes a row, no work."""

    name: ClassVar[str] = "half"
    kind: ClassVar[Kind] = Kind.MAP
    Config: ClassVar[type[StageConfig]] = StageConfig
    inputs: ClassVar[Mapping[str, Input]] = {"of": Input("rows")}
    block_rows: ClassVar[int] = 32768

    def schema(self, config: StageConfig, inputs: Mapping[str, Schema]) -> Schema:
        return {"half": Field("<f8", (), "1")}

    def compute(self, config: StageConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        return {"half": batch.inputs[0]["number"] / 2}


class SizeConfig(StageConfig):
    unit: int = setting(1, ge=1, description="bytes per unit")


class Size(Stage):
    """Size of each row's file, which is read once."""

    name: ClassVar[str] = "size"
    kind: ClassVar[Kind] = Kind.MAP
    Config: ClassVar[type[StageConfig]] = SizeConfig
    inputs: ClassVar[Mapping[str, Input]] = {"of": Input("rows")}

    def schema(self, config: SizeConfig, inputs: Mapping[str, Schema]) -> Schema:
        if CONTENT not in inputs["of"]:
            raise ValueError("measures files, but its input has none")
        return {"size": Field("<f8", (), f"{config.unit} bytes")}

    def compute(self, config: SizeConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        sizes = np.zeros(len(batch))
        for row in range(len(batch)):
            try:
                sizes[row] = len(batch.read(row)) / config.unit
            except RowError as error:
                ctx.fail(row, str(error))
        return {"size": sizes}


class Work(Stage):
    """2 ms of work per row and a profile's worth of bytes; COUNT_FILE, if set, gets one byte per computed row."""

    name: ClassVar[str] = "work"
    kind: ClassVar[Kind] = Kind.MAP
    Config: ClassVar[type[StageConfig]] = StageConfig
    inputs: ClassVar[Mapping[str, Input]] = {"of": Input("rows")}

    def schema(self, config: StageConfig, inputs: Mapping[str, Schema]) -> Schema:
        return {"profile": Field("<f4", (ROW_BYTES // 4,), "1")}

    def compute(self, config: StageConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        profiles = np.stack([profile_of(int(number)) for number in batch.inputs[0]["number"]])
        if os.environ.get("COUNT_FILE"):
            with open(os.environ["COUNT_FILE"], "ab") as file:
                file.write(b"." * len(batch))
        return {"profile": profiles}


class Pictured(Stage):
    """The same after decoding the PNG file of each row."""

    name: ClassVar[str] = "pictured"
    kind: ClassVar[Kind] = Kind.MAP
    Config: ClassVar[type[StageConfig]] = StageConfig
    inputs: ClassVar[Mapping[str, Input]] = {"of": Input("rows")}

    def schema(self, config: StageConfig, inputs: Mapping[str, Schema]) -> Schema:
        if CONTENT not in inputs["of"]:
            raise ValueError("decodes files, but its input has none")
        return {"profile": Field("<f4", (ROW_BYTES // 4,), "1")}

    def compute(self, config: StageConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        return {"profile": np.stack([profile_of(decoded_sum(batch.read(row))) for row in range(len(batch))])}


def profile_of(number: int) -> NDArray[np.float32]:
    """The stand-in of a feature: TRANSFORMS transforms, then ROW_BYTES bytes that depend on the number."""
    values = np.add.outer(np.arange(SIDE, dtype=np.float64), np.arange(SIDE) * (number % 7))
    total = sum(abs(np.fft.rfft2(values)[0, 0]) for _ in range(TRANSFORMS))
    return np.full(ROW_BYTES // 4, number + 0 * total, np.float32)


def decoded_sum(data: bytes) -> int:
    """Sum of all values of an encoded picture."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as picture:
        return int(np.asarray(picture.convert("RGB")).sum())
