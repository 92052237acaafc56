"""Toy stages that wait: for a stop, for ever, or for each other; and one that wants a GPU but never uses it."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pipeline.errors import Interrupted
from pipeline.stage import Batch, Context, Field, FitContext, Input, Kind, Stage, StageConfig

BESIDE = threading.Event()
"""Set by `Beside` after its last row, waited for by `Network` where `Network.waits`."""

ROWS: list[bytes] = []
"""What `Beside` has computed."""


class Patient(Stage):
    """A fit that tells of its first step, then goes on until it is stopped; the second attempt ends at once."""

    name, kind, Config = "patient", Kind.FIT, StageConfig
    inputs: ClassVar[Any] = {"on": Input("rows")}

    def fit(self, config: Any, views: Mapping[str, Any], ctx: FitContext) -> None:
        learned = ctx.scratch / "epoch"
        if not learned.exists():
            ctx.report(3, 10)
            while not ctx.stopping():
                np.linalg.norm(views["on"].array("value"))
            learned.write_text("3")
            raise Interrupted("patient stopped; its epochs are kept")
        (ctx.out / "epochs").write_text(learned.read_text())
        ctx.facts["from"] = learned.read_text()


class Empty(Stage):
    """A fit that comes back with nothing when it is stopped."""

    name, kind, Config = "empty", Kind.FIT, StageConfig
    inputs: ClassVar[Any] = {"on": Input("rows")}

    def fit(self, config: Any, views: Mapping[str, Any], ctx: FitContext) -> None:
        ctx.report(1, 10)
        while not ctx.stopping():
            np.linalg.norm(views["on"].array("value"))


class Row(Stage):
    """A map of one number."""

    kind, Config = Kind.MAP, StageConfig
    inputs: ClassVar[Any] = {"of": Input("rows")}

    def schema(self, config: Any, inputs: Mapping[str, Any]) -> dict[str, Field]:
        return {"value": Field("<f8", (), "1")}


class Stuck(Row):
    """Rows that never end: it says so in the named pipe that TOY_BEGUN names, and reads another one for ever."""

    name = "stuck"

    def compute(self, config: Any, batch: Batch, ctx: Context) -> dict[str, Any]:
        Path(os.environ["TOY_BEGUN"]).write_text("begun")
        Path(os.environ["TOY_NEVER"]).read_text()
        return {"value": np.zeros(len(batch))}


class Network(Row):
    """Wants a GPU."""

    name, network = "network", True
    waits: ClassVar[bool] = False

    def compute(self, config: Any, batch: Batch, ctx: Context) -> dict[str, Any]:
        if self.waits and not BESIDE.wait(timeout=20):
            raise RuntimeError("nothing was computed beside the task for the GPU")
        return {"value": batch.inputs[0]["value"] + 1}


class Beside(Row):
    """Wants no GPU."""

    name = "beside"

    def compute(self, config: Any, batch: Batch, ctx: Context) -> dict[str, Any]:
        ROWS.extend(bytes(row) for row in batch.ids)
        if len(ROWS) == 24:
            BESIDE.set()
        return {"value": batch.inputs[0]["value"] - 1}


class Wild(Row):
    """Says of a row that is not there that it failed."""

    name = "wild"
    row: ClassVar[int] = -1

    def compute(self, config: Any, batch: Batch, ctx: Context) -> dict[str, Any]:
        ctx.fail(self.row, "no such row")
        return {"value": np.zeros(len(batch))}
