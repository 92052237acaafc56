"""Stages that show what the engine hands to them: the order of views and artifacts, and the columns of rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipeline.stage import FitContext, Input, Kind, Stage, StageConfig


class Collect(Stage):
    """A reduce that writes what it was given, in the order in which it was given."""

    name, kind, Config = "collect", Kind.REDUCE, StageConfig
    inputs = {"test": Input("views"), "of": Input("artifacts", required=False)}  # noqa: RUF012
    uses_columns = ("label",)

    def fit(self, config: Any, views: Mapping[str, Any], ctx: FitContext) -> None:
        """Names of views, nodes of artifacts, and columns."""
        said = {
            "views": list(views["test"]),
            "models": [one.node for one in ctx.artifacts.get("of", ())],
            "columns": {name: sorted(view.columns) for name, view in views["test"].items()},
        }
        (ctx.out / "said.json").write_text(json.dumps(said))


class Learn(Stage):
    """A fit that may use an artifact."""

    name, kind, Config = "learn", Kind.FIT, StageConfig
    inputs = {"on": Input("rows"), "mean": Input("artifact", required=False)}  # noqa: RUF012

    def fit(self, config: Any, views: Mapping[str, Any], ctx: FitContext) -> None:
        """Write something."""
        (ctx.out / "learned.json").write_text("{}")


class Leak(Stage):
    """A reduce that reads all rows and looks like the toy mean."""

    name, kind, Config = "leak", Kind.REDUCE, StageConfig
    inputs = {"on": Input("rows")}  # noqa: RUF012

    def fit(self, config: Any, views: Mapping[str, Any], ctx: FitContext) -> None:
        """The mean of all values."""
        (ctx.out / "mean.json").write_text(json.dumps({"mean": float(views["on"].array("value").mean())}))
