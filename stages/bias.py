"""Does a detector look at the generator, or at the history of the file? What small changes do to its probabilities.

Rows are pictures as the detector's own steps begin with them after crop and resize. Each is scored as it is and after
each change (recompression, scaling there and back, a shift, blur, noise); see `stages.evaluation.score_shifts` for the
verdicts, and `stages.images.disturbances` for the changes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.digests import hash_rank
from pipeline.errors import StageError
from pipeline.stage import (
    FAKE,
    REAL,
    FitContext,
    Input,
    Kind,
    Promise,
    Rows,
    Schema,
    Stage,
    StageConfig,
    setting,
)
from stages.evaluation.score_shifts import summary
from stages.images.image_field import image_size
from stages.predicting.ways import Class

FORMAT = 1
RESULTS = "bias.json"


class BiasConfig(StageConfig):
    """Which rows, and how many."""

    count: int = setting(100, ge=2, description="rows of each class, chosen by hash; all where there are fewer")
    split: Literal["test", "val"] = setting("test", description="rows that are looked at")
    as_class: Class | None = setting(None, description="whose steps images pass, if the classes' differ")


class Bias(Stage):
    """One detector and rows of pictures of both classes in, `bias.json` out."""

    name: ClassVar[str] = "bias"
    kind: ClassVar[Kind] = Kind.REDUCE
    makes: ClassVar[str] = "bias"
    Config: ClassVar[type[StageConfig]] = BiasConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "model": Input("artifact", description="a 'train' node", takes="detector"),
        "on": Input("rows", description="pictures as the detector's features are made of them: an 'equalize' node"),
    }
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "scipy", "pillow")
    network: ClassVar[bool] = True
    uses_columns: ClassVar[tuple[str, ...]] = ("label", "split", "group")
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def libraries_of(self, config: BiasConfig, models: Mapping[str, Promise] = MappingProxyType({})) -> Any:
        """Those of the changes, and the detector's."""
        return (*self.libraries, *(name for model in models.values() for name in model.facts["libraries"]))

    def schema(self, config: BiasConfig, inputs: Mapping[str, Any]) -> Schema:
        """No rows come out; raises ValueError where the rows are no pictures."""
        image_size(inputs["on"], self.name)
        return {}

    def check_rows(self, config: BiasConfig, counts: Mapping[str, Mapping[tuple[str, int], int]]) -> None:
        """Rows of both classes."""
        for label, name in ((REAL, "real"), (FAKE, "fake")):
            if not counts["on"].get((config.split, label)):
                raise ValueError(f"'on' holds no {name} rows of split '{config.split}'; add some")

    def fit(self, config: BiasConfig, views: Mapping[str, Rows | Mapping[str, Rows]], ctx: FitContext) -> None:
        """Write `bias.json`."""
        from stages.images.disturbances import BAND, DISTURBANCES
        from stages.predict import load

        (model,) = ctx.artifacts["model"]
        rows: Any = views["on"]
        rows = rows.split(config.split)
        rows = rows.take(chosen(rows, config.count))
        asked = load(model.path, device=ctx.device, as_class=config.as_class).of_pictures()
        scores = []
        pictures = (picture for block in rows.blocks("image", 64) for picture in block)
        for done, one in enumerate(asked.scored(pictures, DISTURBANCES), 1):
            if one.error or len(one.scores) != 1 + len(DISTURBANCES):
                reason = one.error or "a change of it has no score"
                raise StageError(f"{one.name} of 'on' cannot be scored by {model.node}: {reason}")
            scores.append(one.scores)
            ctx.report(done, len(rows))
        card = asked.detector.card
        found = summary(
            np.array(scores), list(DISTURBANCES), list(BAND), np.asarray(rows.column("label"), np.uint8),
            rows.column("group"), asked.threshold(),
        )  # fmt: skip
        about = {"node": model.node, "key": model.key, "detector": card["detector"], "trained_on": card["trained_on"]}
        results = {"format": FORMAT, "model": about, "split": config.split, **found}
        text = json.dumps(results, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        (ctx.out / RESULTS).write_text(text, encoding="utf-8", errors="backslashreplace")
        ctx.facts["verdicts"] = {one["change"]: one["verdict"] for one in found["changes"]}


def chosen(rows: Rows, count: int) -> NDArray[np.int64]:
    """Positions of `count` rows of each class, in order: those of the lowest rank by hash."""
    ranks, labels = hash_rank(rows.ids, "bias", 0), rows.column("label")
    parts = []
    for label in (REAL, FAKE):
        mine = np.flatnonzero(labels == label)
        parts.append(mine[np.argsort(ranks[mine], kind="stable")[:count]])
    return np.sort(np.concatenate(parts))
