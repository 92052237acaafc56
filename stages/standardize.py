"""Mean and variance of each coefficient of a feature over the training rows, for detectors that standardize.

Frank et al. 2020 standardize the logarithms of DCT coefficients: per coefficient and channel, over the training split,
all classes together, with the population variance. A detector with `normalization: standardize` takes these statistics
from its own training rows; a node of this stage takes them once, for several detectors or from more rows. Either way
they are applied when rows are loaded: the stored feature stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from detectors.normalization import Moments
from pipeline.atomic import write_bytes, write_json
from pipeline.stage import FitContext, Input, Kind, Rows, Schema, Stage, StageConfig, setting
from stages.spectra import statistics_file
from stages.training.alike import check_alike
from stages.training.passes import Passes, State
from stages.training.row_order import in_order

READ_BYTES = 2**20
"""Feature values that are read at once."""


class StandardizeConfig(StageConfig):
    """Of which field."""

    feature: str = setting("dct2d", description="field of floating-point numbers, of any shape")


class Standardize(Stage):
    """Artifact: statistics.safetensors (mean and variance, float64) and card.json."""

    name: ClassVar[str] = "standardize"
    kind: ClassVar[Kind] = Kind.FIT
    makes: ClassVar[str] = "statistics"
    Config: ClassVar[type[StageConfig]] = StandardizeConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "on": Input("rows", description="rows with the feature, of all classes; only train rows are read")
    }
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "safetensors")
    uses_columns: ClassVar[tuple[str, ...]] = ("split",)
    splits: ClassVar[tuple[str, ...]] = ("train",)

    def schema(self, config: StandardizeConfig, inputs: Mapping[str, Schema]) -> Schema:
        """No rows come out; raises ValueError where the inputs lack the feature."""
        rows = inputs["on"]
        check_alike(rows, config.feature)
        field = rows.get(config.feature)
        if field is None or np.dtype(field.dtype).kind != "f":
            found = ", ".join(sorted(name for name, one in rows.items() if np.dtype(one.dtype).kind == "f")) or "none"
            raise ValueError(
                f"the rows of 'on' have no field '{config.feature}' of floating-point numbers, they have {found}; "
                "change 'feature', or compute the field in a node before"
            )
        return {}

    def promise(self, config: StandardizeConfig, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the statistics are of."""
        return statistics_file.describe(config.feature, inputs["on"][config.feature])

    def fit(self, config: StandardizeConfig, views: Mapping[str, Rows | Mapping[str, Rows]], ctx: FitContext) -> None:
        """Write the artifact; progress is kept in `ctx.scratch`."""
        view: Any = views["on"]
        rows = in_order(view.split("train"))
        field = rows.fields[config.feature]
        moments = _moments(rows, config.feature, ctx)
        mean, variance = moments.mean, moments.variance
        write_bytes(ctx.out / statistics_file.FILE, statistics_file.pack(config.feature, field, mean, variance))
        facts = {
            **statistics_file.describe(config.feature, field),
            "rows": moments.count,
            "constant": int((variance <= 0).sum()),
        }
        write_json(ctx.out / statistics_file.CARD, facts)
        ctx.facts.update(facts)


def _moments(rows: Rows, feature: str, ctx: FitContext) -> Moments:
    """One pass in blocks whose size depends on the feature alone. Raises Interrupted after saving."""

    def step(state: State, block: NDArray[Any], before: int) -> None:
        moments = _of_state(state, before)
        moments.update(block)
        state |= {"mean": moments.mean, "squares": moments.squares}

    size = max(1, READ_BYTES // rows.fields[feature].row_bytes)
    return _of_state(Passes(ctx, len(rows)).run("moments", rows, feature, size, step), len(rows))


def _of_state(state: State, count: int) -> Moments:
    moments = Moments()
    if state:
        moments.count, moments.mean, moments.squares = count, state["mean"], state["squares"]
    return moments
