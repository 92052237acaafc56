"""Small stages for tests of the engine: numbers instead of images, and a log of what was computed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pipeline.stage import (
    Batch,
    Context,
    Field,
    FitContext,
    Input,
    Kind,
    SourceRows,
    Stage,
    StageConfig,
    file_setting,
    row_setting,
    setting,
)


def log(name: str, batch: Batch) -> None:
    """One line per computed row in the file that TOY_LOG names; read back by `computed`."""
    path = os.environ.get("TOY_LOG")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write("".join(f"{name} {bytes(row).hex()}\n" for row in batch.ids))


def listed(variable: str) -> set[float]:
    """The numbers in the JSON file that an environment variable names."""
    path = Path(os.environ.get(variable, "/nonexistent"))
    return set(json.loads(path.read_text())) if path.exists() else set()


def die_once() -> None:
    """Kill this process if the file that TOY_DIE names exists; the file goes first, so that only one dies."""
    path = Path(os.environ.get("TOY_DIE", "/nonexistent"))
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return
    os.kill(os.getpid(), signal.SIGKILL)


def log_fit(name: str) -> None:
    """One line per fit in the file that TOY_LOG names."""
    path = os.environ.get("TOY_LOG")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{name} fit\n")


class NumbersConfig(StageConfig):
    count: int = row_setting(10, description="rows")
    first: int = row_setting(0, description="first number")
    label: int = row_setting(0, description="label")
    offset: float = setting(0.0, description="added to each value")


class Numbers(Stage):
    """Rows from numbers: value = number + offset; groups of two."""

    name, kind, Config = "numbers", Kind.SOURCE, NumbersConfig

    def schema(self, config: NumbersConfig, inputs: Mapping[str, Any]) -> dict[str, Field]:
        return {"value": Field("<f8", (), "1")}

    def discover(self, config: NumbersConfig, scan: Any) -> SourceRows:
        numbers = np.arange(config.first, config.first + config.count)
        ids = [hashlib.sha256(f"toy {number}".encode()).digest()[:16] for number in numbers]
        return SourceRows(
            np.frombuffer(b"".join(ids), "V16"),
            config.label,
            [f"g{n // 2}" for n in numbers],
            payload={"number": numbers},
        )

    def compute(self, config: NumbersConfig, batch: Batch, ctx: Context) -> dict[str, Any]:
        log(self.name, batch)
        return {"value": batch.payload["number"] + config.offset}


class ScaleConfig(StageConfig):
    factor: float = setting(2.0, description="multiplier")
    fail_above: float | None = row_setting(None, description="rows with a larger value fail")


class Scale(Stage):
    """value * factor."""

    name, kind, Config = "scale", Kind.MAP, ScaleConfig
    inputs: ClassVar[Any] = {"of": Input("rows")}
    block_rows = 7

    def schema(self, config: ScaleConfig, inputs: Mapping[str, Any]) -> dict[str, Field]:
        return {"value": Field("<f8", (), "1"), "vector": Field("<f4", (3,), "1")}

    def compute(self, config: ScaleConfig, batch: Batch, ctx: Context) -> dict[str, Any]:
        log(self.name, batch)
        value = batch.inputs[0]["value"] * config.factor
        die_once()
        bad, raising = listed("TOY_BROKEN"), listed("TOY_RAISING")
        for row, number in enumerate(batch.inputs[0]["value"]):
            if number in raising:
                raise ValueError(f"{number:g} is out of range")
            if number in bad:
                ctx.fail(row, f"the number {number:g} is broken")
        return {"value": value, "vector": np.repeat(value[:, None], 3, axis=1).astype(np.float32)}


class SumStage(Stage):
    """Two views joined on id, added."""

    name, kind, Config = "add", Kind.MAP, StageConfig
    inputs: ClassVar[Any] = {"of": Input("rows")}

    def schema(self, config: Any, inputs: Mapping[str, Any]) -> dict[str, Field]:
        return {"value": Field("<f8", (), "1")}

    def compute(self, config: Any, batch: Batch, ctx: Context) -> dict[str, Any]:
        log(self.name, batch)
        return {"value": batch.inputs[0]["value"] + batch.inputs[1]["value"]}


class JitterConfig(StageConfig):
    draws: int = row_setting(2, description="rows per row")


class Jitter(Stage):
    """k noisy copies of each row."""

    name, kind, Config, random = "jitter", Kind.EXPAND, JitterConfig, True
    inputs: ClassVar[Any] = {"of": Input("rows")}

    def fan_out(self, config: JitterConfig) -> int:
        return config.draws

    def schema(self, config: JitterConfig, inputs: Mapping[str, Any]) -> dict[str, Field]:
        return {"value": Field("<f8", (), "1")}

    def compute(self, config: JitterConfig, batch: Batch, ctx: Context) -> dict[str, Any]:
        log(self.name, batch)
        noise = np.array([ctx.rng(row, "noise").standard_normal() for row in batch.ids])
        return {"value": batch.inputs[0]["value"] + noise}


class Mean(Stage):
    """A fit: the mean of the training values."""

    name, kind, Config = "mean", Kind.FIT, StageConfig
    inputs: ClassVar[Any] = {"on": Input("rows")}

    def fit(self, config: Any, views: Mapping[str, Any], ctx: FitContext) -> None:
        log_fit(self.name)
        data = views["on"]
        assert set(data.column("split")) <= {"train", "val"}
        values = data.array("value")[data.column("split") == "train"]
        ctx.facts["mean"] = float(values.mean())
        (ctx.out / "mean.json").write_text(json.dumps({"mean": float(values.mean()), "rows": len(values)}))


class Center(Stage):
    """Subtract a mean that was fitted."""

    name, kind, Config = "center", Kind.MAP, StageConfig
    inputs: ClassVar[Any] = {"of": Input("rows"), "mean": Input("artifact")}

    def schema(self, config: Any, inputs: Mapping[str, Any]) -> dict[str, Field]:
        return {"value": Field("<f8", (), "1")}

    def compute(self, config: Any, batch: Batch, ctx: Context) -> dict[str, Any]:
        log(self.name, batch)
        (artifact,) = ctx.artifacts["mean"]
        return {"value": batch.inputs[0]["value"] - json.loads((artifact.path / "mean.json").read_text())["mean"]}


class OffsetConfig(StageConfig):
    table: str = file_setting(description="a text file with one number")


class Offset(Stage):
    """Add the number that stands in a file."""

    name, kind, Config = "offset", Kind.MAP, OffsetConfig
    inputs: ClassVar[Any] = {"of": Input("rows")}

    def schema(self, config: OffsetConfig, inputs: Mapping[str, Any]) -> dict[str, Field]:
        return {"value": Field("<f8", (), "1")}

    def check(self, config: OffsetConfig, files: Mapping[str, Path]) -> None:
        text = files["table"].read_text()
        if not text.strip().isdigit():
            raise ValueError(f"the table says '{text}', expected a number")

    def compute(self, config: OffsetConfig, batch: Batch, ctx: Context) -> dict[str, Any]:
        log(self.name, batch)
        return {"value": batch.inputs[0]["value"] + float(ctx.files["table"].read_text())}
