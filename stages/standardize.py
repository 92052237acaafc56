"""Mean and variance of each coefficient of a feature over the training rows, for detectors that standardize.

Frank et al. 2020 standardize the logarithms of DCT coefficients: per coefficient and channel, over the training split,
all classes together, with the population variance. A detector with `normalization: standardize` takes these statistics
from its own training rows; a node of this stage takes them once, for several detectors or from more rows. Either way
they are applied when rows are loaded: the stored feature stays as it is.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from detectors.normalization import Moments
from pipeline.atomic import write_bytes
from pipeline.errors import Interrupted
from pipeline.stage import FitContext, Input, Kind, Schema, Stage, StageConfig, setting
from stages.spectra import statistics_file
from stages.training.alike import check_alike
from stages.training.row_order import in_order

if TYPE_CHECKING:
    from pipeline.dataset import Dataset

PROGRESS = "progress.npz"
READ_BYTES, SAVE_ROWS = 2**20, 4096
"""Feature values that are read at once; rows between two savings of the progress."""


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

    def fit(
        self, config: StandardizeConfig, views: Mapping[str, Dataset | Mapping[str, Dataset]], ctx: FitContext
    ) -> None:
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
        write_bytes(ctx.out / statistics_file.CARD, (json.dumps(facts, indent=2, sort_keys=True) + "\n").encode())
        ctx.facts.update(facts)


def _moments(rows: Dataset, feature: str, ctx: FitContext) -> Moments:
    """One pass in blocks whose size depends on the feature alone. Raises Interrupted after saving."""
    path = ctx.scratch / PROGRESS
    moments = Moments()
    if path.is_file():
        with np.load(path, allow_pickle=False) as file:
            moments.count, moments.mean, moments.squares = int(file["count"]), file["mean"], file["squares"]
    step = max(1, READ_BYTES // rows.fields[feature].row_bytes)
    for first in range(moments.count, len(rows), step):
        last = min(first + step, len(rows))
        moments.update(rows.array(feature, np.arange(first, last)))
        stopping = ctx.stopping()
        if stopping or last // SAVE_ROWS > first // SAVE_ROWS:
            buffer = io.BytesIO()
            np.savez(buffer, count=np.array(moments.count), mean=moments.mean, squares=moments.squares)
            write_bytes(path, buffer.getvalue())
        if stopping:
            raise Interrupted("taking statistics stopped; the rows so far are kept and the same command goes on")
        ctx.report(last, len(rows))
    return moments
