"""Stages of the engine's benchmarks: work of a known cost, so that what is left over is the engine.

Nothing here is a feature. `Seeds` gives many rows without files, `Size` reads each file once, and `Wait` takes as long
per row as a small feature does.
"""

from __future__ import annotations

import os
import time
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
"""What `Wait` keeps of a row: as much as a profile of 88 float32 values."""


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


class WaitConfig(StageConfig):
    seconds: float = setting(0.002, ge=0, description="pause per row")


class Wait(Stage):
    """A pause per row and a profile's worth of bytes; COUNT_FILE, if set, gets one byte per computed row."""

    name: ClassVar[str] = "wait"
    kind: ClassVar[Kind] = Kind.MAP
    Config: ClassVar[type[StageConfig]] = WaitConfig
    inputs: ClassVar[Mapping[str, Input]] = {"of": Input("rows")}

    def schema(self, config: WaitConfig, inputs: Mapping[str, Schema]) -> Schema:
        return {"profile": Field("<f4", (ROW_BYTES // 4,), "1")}

    def compute(self, config: WaitConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        profiles = np.stack([profile_after(config.seconds, int(number)) for number in batch.inputs[0]["number"]])
        if os.environ.get("COUNT_FILE"):
            with open(os.environ["COUNT_FILE"], "ab") as file:
                file.write(b"." * len(batch))
        return {"profile": profiles}


def profile_after(seconds: float, number: int) -> NDArray[np.float32]:
    """The stand-in of a feature: wait, then give ROW_BYTES bytes that depend on the number."""
    time.sleep(seconds)
    return np.full(ROW_BYTES // 4, number, np.float32)
