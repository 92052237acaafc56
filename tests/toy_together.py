"""A toy reduce that compares rows with a mean, by itself or with others in one pass over the rows; it tells of each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pipeline.stage import FitContext, Input, Kind, Stage, StageConfig, row_setting, setting

passes: list[list[float]] = []
"""The means that were compared, pass by pass."""

refused: set[float] = set()
"""Means at which a pass raises."""


class ComparedConfig(StageConfig):
    scale: float = setting(1.0, description="factor")
    called: str = row_setting("", description="a name")


class Compared(Stage):
    """Sum of the distances of all values from a mean."""

    name, kind, Config = "compared", Kind.REDUCE, ComparedConfig
    inputs: ClassVar[Any] = {"mean": Input("artifact"), "of": Input("rows")}
    shares_rows = True

    def fit(self, config: Any, views: Mapping[str, Any], ctx: FitContext) -> None:
        self.fit_together([config], views, [ctx])

    def fit_together(self, configs: Sequence[Any], views: Mapping[str, Any], contexts: Sequence[FitContext]) -> None:
        values = views["of"].array("value")
        means = [json.loads((ctx.artifacts["mean"][0].path / "mean.json").read_text())["mean"] for ctx in contexts]
        passes.append(means)
        for config, mean, ctx in zip(configs, means, contexts, strict=True):
            if mean in refused:
                raise ValueError(f"the mean {mean:g} is refused")
            ctx.facts["called"] = config.called
            (ctx.out / "sum.txt").write_text(repr(float(config.scale * abs(values - mean).sum())))
