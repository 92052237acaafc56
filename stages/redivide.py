"""Stage `redivide`: the detector of a `train` node anew on many random divisions of the rows.

With twenty pictures one division into rows to learn from and rows to be tested on says little: Durall et al. 2019 take
the mean of ten. Here each division draws so many rows of each class anew from all splits, whole groups to one part, and
learns from some of them, chooses a threshold by others and is tested on the rest. Nothing that a division is tested on
has it learned from; splits of the pipeline play no part.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from detectors.calibration import best_threshold
from detectors.choosing import family_module
from detectors.contract import Control, DetectorConfig, Diverged
from pipeline.errors import Interrupted, StageError
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
from stages.evaluation.detector_file import load_detector
from stages.evaluation.divisions import PARTS, described, divided, quotas
from stages.evaluation.intervals import FEW_GROUPS, effective_groups, values
from stages.training.feature_fields import check_feature, fields_read
from stages.training.row_order import in_order

FORMAT = 1
RESULTS = "divisions.json"
Metric = Literal["accuracy", "accuracy_at_half", "auc"]
METRICS: tuple[Metric, ...] = ("accuracy", "accuracy_at_half", "auc")


class Expected(BaseModel):
    """A claim: the mean over the divisions is above a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    says: str = setting(description="the claim in one sentence")
    where: str = setting("", description="where it is made, e.g. Durall et al. 2019, Faces-HQ")
    metric: Metric = setting("accuracy", description="of a division's test rows")
    than: float = setting(description="what the mean is above")


class RedivideConfig(StageConfig):
    """How many rows and divisions."""

    rows: int = setting(description="rows of a division, half of them real", ge=8)
    divisions: int = setting(200, description="random divisions", ge=1, le=100_000)
    val: float = setting(
        0.2, ge=0, lt=1, description="share of the rows that calibrate and choose the threshold; 0: rows to learn from"
    )
    test: float = setting(0.2, gt=0, lt=1, description="share of the rows that are tested")
    claims: list[Expected] = setting([], description="what is claimed of the mean")

    @model_validator(mode="after")
    def _enough(self) -> RedivideConfig:
        quotas(self.rows, self.shares)
        return self

    @property
    def shares(self) -> dict[str, float]:
        """Of val and test."""
        return {"val": self.val, "test": self.test, "train": 1.0}


class Redivide(Stage):
    """Artifact: divisions.json, metrics of each division and their means with intervals."""

    name: ClassVar[str] = "redivide"
    kind: ClassVar[Kind] = Kind.REDUCE
    makes: ClassVar[str] = "divisions"
    Config: ClassVar[type[StageConfig]] = RedivideConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "model": Input("artifact", description="a 'train' node: its detector and settings", takes="detector"),
        "on": Input("rows", description="rows of both classes with the detector's feature, of all splits"),
    }
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "scipy", "scikit-learn")
    random: ClassVar[bool] = True
    uses_columns: ClassVar[tuple[str, ...]] = ("label", "split", "group")
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def libraries_of(
        self, config: RedivideConfig, models: Mapping[str, Promise] = MappingProxyType({})
    ) -> tuple[str, ...]:
        """Those of the metrics, and the detector's."""
        return (*self.libraries, *(name for model in models.values() for name in model.facts["libraries"]))

    def reads(self, config: RedivideConfig, models: Mapping[str, Promise]) -> Mapping[str, tuple[str, ...]]:
        """The feature of the detector."""
        return {"on": fields_read(models["model"])}

    def schema(self, config: RedivideConfig, inputs: Mapping[str, Any]) -> Schema:
        """No rows come out; raises ValueError for a network, or rows without the feature."""
        model = inputs["model"]
        if model.facts["runs_network"] or "members" in model.facts:
            raise ValueError(
                f"redivide trains the detector of {model} {config.divisions} times, but it is a network or a fusion; "
                "name a detector of another family"
            )
        check_feature(model, "the rows of 'on'", inputs["on"])
        return {}

    def check_rows(self, config: RedivideConfig, counts: Mapping[str, Mapping[tuple[str, int], int]]) -> None:
        """As many rows of each class as a division has."""
        for label, name in ((REAL, "real"), (FAKE, "fake")):
            found = sum(number for (_, one), number in counts["on"].items() if one == label)
            if found < config.rows // 2:
                raise ValueError(f"'on' holds {found} {name} rows, but a division has {config.rows // 2}; lower rows")

    def fit(self, config: RedivideConfig, views: Mapping[str, Rows | Mapping[str, Rows]], ctx: FitContext) -> None:
        """Write the artifact."""
        (model,) = ctx.artifacts["model"]
        view: Any = views["on"]
        rows, detector = in_order(view), load_detector(model.path)
        if set(detector.config.fit_fields.values()) != {detector.config.feature}:
            raise StageError(f"'{model.node}' learns from more fields than its feature; redivide knows only that one")
        labels = np.asarray(rows.column("label"), np.uint8)
        drawn = Drawn(rows.array(detector.config.feature), labels, rows.fields[detector.config.feature].axes)
        wanted, groups = quotas(config.rows, config.shares), rows.column("group")
        found: list[dict[str, float]] = []
        tested = np.zeros(len(rows), np.bool_)
        for number in range(config.divisions):
            if ctx.stopping():
                raise Interrupted("divisions stopped; the same command begins them anew")
            try:
                parts = divided(labels, groups, wanted, ctx.rng(number.to_bytes(16, "big"), "division"))
                found.append(_tested(detector.config, drawn, parts, number))
            except (Diverged, ValueError) as error:
                raise StageError(f"division {number}: {error}") from None
            tested[parts["test"]] = True
            ctx.report(number + 1, config.divisions)
        measures = {name: [one[name] for one in found] for name in METRICS}
        sizes = {part: 2 * wanted[part] for part in PARTS}
        effective = effective_groups(labels[tested], groups[tested])
        said = {name: described(each, sizes["test"], sizes["train"], sum(effective)) for name, each in measures.items()}
        few = min(effective) < FEW_GROUPS
        results = {
            "format": FORMAT, "model": {"node": model.node, "detector": detector.card["detector"]},
            "rows": config.rows, "divisions": config.divisions, "parts": sizes,
            "metrics": said, "values": measures,
            "claims": [_judged(one, said[one.metric], model.node, config, few) for one in config.claims],
        }  # fmt: skip
        text = json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        (ctx.out / RESULTS).write_text(text, encoding="utf-8", errors="backslashreplace")
        ctx.facts.update({name: one["mean"] for name, one in said.items()})


@dataclass(frozen=True, eq=False)
class Drawn:
    """Features in memory as a detector family reads them (`detectors.contract.Examples`): `features` (n, ...)."""

    features: NDArray[Any]
    labels: NDArray[np.uint8]
    axes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a row."""
        return self.features.shape[1:]

    def __len__(self) -> int:
        return len(self.labels)

    def array(self) -> NDArray[Any]:
        """All rows."""
        return self.features

    def blocks(self, size: int) -> Iterator[NDArray[Any]]:
        """At most `size` rows each."""
        for start in range(0, len(self), size):
            yield self.features[start : start + size]

    def batches(self, size: int, seed: int, balanced: bool, device: str) -> Any:
        """Nothing: networks alone ask for them, and `redivide` refuses those."""
        raise TypeError("rows of a division come whole")

    def field(self, name: str) -> Drawn:
        """The one field that there is."""
        del name
        return self

    def take(self, places: NDArray[np.int64]) -> Drawn:
        """The rows at these positions."""
        return Drawn(self.features[places], self.labels[places], self.axes)


def _tested(
    config: DetectorConfig, drawn: Drawn, parts: Mapping[str, NDArray[np.int64]], seed: int
) -> dict[str, float]:
    """`METRICS` of one division's test rows."""
    family = family_module(config.family)
    train, val, test = (drawn.take(parts[name]) for name in ("train", "val", "test"))
    val = val if len(val) else train
    state = family.fit(config, train, val, Control(seed))
    threshold = best_threshold(family.score(config, state, val.array(), "cpu"), val.labels)
    scores = family.score(config, state, test.array(), "cpu")
    return {name: value for name, value in values(scores, test.labels, threshold).items() if name in METRICS}


def _judged(
    claim: Expected, found: Mapping[str, Any], node: str, config: RedivideConfig, few_groups: bool
) -> dict[str, Any]:
    """A claim in the form that the stage `claims` writes."""
    low, high = (end - claim.than for end in found["interval"])
    return {
        "says": claim.says, "where": claim.where, "metric": claim.metric, "over": "mean", "margin": 0.0,
        "verdict": "holds" if low > 0 else "does not hold" if high <= 0 else "cannot tell",
        "value": found["mean"] - claim.than, "interval": [low, high], "sides": [found["mean"], claim.than],
        "more": [f"{node}, {config.divisions} divisions of {config.rows} rows"], "than": [], "few_groups": few_groups,
    }  # fmt: skip
