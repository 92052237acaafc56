"""Claims of a paper as tested lines: each holds, does not hold, or cannot be told from the evaluated rows.

A claim is about cells, never about detectors at large: what it says here is said of these rows. Its number is a
difference with a 95 % interval over groups; only an interval that lies on one side of the margin decides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from pipeline.errors import StageError
from pipeline.stage import FitContext, Input, Kind, Rows, Stage, StageConfig, setting
from stages.evaluation.claims import Cell, Chosen, Judged, judge, read_cells
from stages.evaluation.intervals import METRICS
from stages.evaluation.json_file import read_json

FORMAT = 1
CLAIMS, LINES = "claims.json", "claims.md"

Metric = Literal[METRICS]  # type: ignore[valid-type]


class Cells(BaseModel):
    """Which cells: patterns with `*` and `?`, several with `|`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    node: str = setting(
        "*",
        description="the detector's node, e.g. detectors[stylegan,*]; a pattern that fits detectors leaves out single "
        "numbers (`measure`)",
    )
    variant: str = setting("raw", description="variant of the test rows")
    source: str = setting("all", description="source of the fakes; all: the row that pools them")

    def chosen(self) -> Chosen:
        """The same for cells that were read."""
        return Chosen(self.node, self.variant, self.source)


class Claim(BaseModel):
    """One claim: `more` exceeds `than` in `metric` by more than `margin`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    says: str = setting(description="the claim in one sentence")
    where: str = setting("", description="where it is made, e.g. Wang et al. 2020, Figure 2")
    more: Cells | float = setting(description="cells that should have more; or a number, of which cells stay below")
    than: Cells | float = setting(description="cells that should have less, or a number")
    metric: Metric = setting("ap", description="metric of a cell")
    over: Literal["mean", "minimum"] = setting("mean", description="what stands for several cells")
    margin: float = setting(0.0, description="by how much more")

    @model_validator(mode="after")
    def _about_cells(self) -> Claim:
        if isinstance(self.more, float) and isinstance(self.than, float):
            raise ValueError("'more' and 'than' are both numbers; name cells in one of them")
        return self


class ClaimsConfig(StageConfig):
    """The claims."""

    claims: list[Claim] = setting(description="what is claimed of cells", min_length=1)


class Claims(Stage):
    """Evaluations in, `claims.json` and `claims.md` out."""

    name: ClassVar[str] = "claims"
    kind: ClassVar[Kind] = Kind.REDUCE
    makes: ClassVar[str] = "claims"
    Config: ClassVar[type[StageConfig]] = ClaimsConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "of": Input("artifacts", description="'evaluate' nodes", takes="evaluation"),
    }
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "scipy")

    def fit(self, config: ClaimsConfig, views: Mapping[str, Rows | Mapping[str, Rows]], ctx: FitContext) -> None:
        """Judge each claim. Raises StageError where no evaluated cell is what a claim speaks of."""
        places = [artifact.path for artifact in ctx.artifacts["of"]]
        cells = [cell for place in places for cell in read_cells(read_json(place / "results.json"), place)]
        judged = [_plain(claim, _judged(claim, cells)) for claim in config.claims]
        text = json.dumps({"format": FORMAT, "claims": judged}, indent=2, ensure_ascii=False, allow_nan=False)
        (ctx.out / CLAIMS).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
        lines = "".join(f"- {line(one)}\n" for one in judged)
        (ctx.out / LINES).write_text(lines, encoding="utf-8", errors="backslashreplace")
        for verdict in ("holds", "does not hold", "cannot tell"):
            ctx.facts[verdict] = sum(one["verdict"] == verdict for one in judged)


def _judged(claim: Claim, cells: list[Cell]) -> Judged:
    try:
        more, than = (side if isinstance(side, float) else side.chosen().of(cells) for side in (claim.more, claim.than))
    except ValueError as error:
        raise StageError(f"the claim '{claim.says}': {error}; correct 'more' or 'than'") from None
    return judge(more, than, claim.metric, claim.over, claim.margin)


def _plain(claim: Claim, found: Judged) -> dict[str, Any]:
    """As plain data; a number that is none is null."""
    numbers = {"value": found.value, "interval": list(found.interval), "sides": list(found.sides)}
    kept = {name: getattr(claim, name) for name in ("says", "where", "metric", "over", "margin")}
    cells = dict(zip(("more", "than"), (list(names) for names in found.cells), strict=True))
    return {**kept, "verdict": found.verdict, **finite(numbers), **cells, "few_groups": found.few_groups}


def finite(value: Any) -> Any:
    """The same with null in place of numbers that are not finite."""
    if isinstance(value, Mapping):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return value if abs(value) < float("inf") else None


def line(claim: Mapping[str, Any]) -> str:
    """One sentence: verdict, claim, number and interval."""
    low, high = ("open" if end is None else f"{end:+.3f}" for end in claim["interval"])
    value = "no number" if claim["value"] is None else f"{claim['value']:+.3f}"
    few = "; few groups" if claim["few_groups"] else ""
    where = f" ({claim['where']})" if claim["where"] else ""
    margin = f" (margin {claim['margin']:+.3f})" if claim["margin"] else ""
    return (
        f"{claim['verdict']}: {claim['says']}{where}. {claim['metric']}, {claim['over']} of "
        f"{len(claim['more'])} and {len(claim['than'])} cells: {value}{margin}, 95 % interval {low} to {high}{few}."
    )
