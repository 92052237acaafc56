"""Toy stages that want a GPU, or none, and say in the file that TOY_LANES names which process they are in."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import toy
import toy_waiting

from pipeline.stage import Batch, Context, FitContext, Input, Kind, Stage, StageConfig, setting

LONGEST_S = 30.0


class Said(NamedTuple):
    """What a stage says of itself; gpus: its CUDA_VISIBLE_DEVICES, or "-"."""

    stage: str
    process: int
    gpus: str


def say(stage: str) -> None:
    if "TOY_LANES" in os.environ:
        with open(os.environ["TOY_LANES"], "a", encoding="utf-8") as file:
            file.write(f"{stage} {os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES', '-')}\n")


def said() -> set[Said]:
    """All that the stages have said."""
    words = (line.split() for line in Path(os.environ["TOY_LANES"]).read_text(encoding="utf-8").splitlines())
    return {Said(stage, int(process), gpus) for stage, process, gpus in words}


class Where(toy_waiting.Row):
    """Wants no GPU."""

    name = "where"

    def compute(self, config: Any, batch: Batch, ctx: Context) -> dict[str, Any]:
        say(self.name)
        return {"value": batch.inputs[0]["value"] * 3}


class LaneConfig(StageConfig):
    meet: int = setting(1, description="processes that have begun before any of them goes on")


class Lane(toy_waiting.Row):
    """Runs a network."""

    name, network, Config = "lane", True, LaneConfig

    def compute(self, config: LaneConfig, batch: Batch, ctx: Context) -> dict[str, Any]:
        say(self.name)
        toy.die_once()
        deadline = time.monotonic() + LONGEST_S
        while "TOY_LANES" in os.environ and len({one.process for one in said() if one.stage == "lane"}) < config.meet:
            assert time.monotonic() < deadline, "the other processes have nothing to do"
            time.sleep(0.1)
        return {"value": batch.inputs[0]["value"] + 1}


class Fit(Stage):
    """A training that runs a network."""

    name, kind, Config, network = "lane_fit", Kind.FIT, StageConfig, True
    inputs: ClassVar[Any] = {"on": Input("rows")}

    def fit(self, config: Any, views: Mapping[str, Any], ctx: FitContext) -> None:
        say(self.name)
        (ctx.out / "sum.txt").write_text(repr(float(views["on"].array("value").sum())))


def gpu_of_worker(dask_worker: Any) -> dict[str, str]:
    """In place of `devices.gpu_here`: a GPU that is called by the worker that is asked."""
    return {"model": f"that of {dask_worker.name}", "cuda": "", "cudnn": ""}
