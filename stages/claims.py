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
from stages.evaluation.claims import Cell, Chosen, Judged, Over, Shared, judge, read_cells, tested
from stages.evaluation.intervals import METRICS
from stages.evaluation.json_file import read_json

FORMAT = 1
CLAIMS, LINES = "claims.json", "claims.md"

Metric = Literal[METRICS]  # type: ignore[valid-type]


class Cells(BaseModel):
    """Which cells: patterns with `*` and `?`, several with `|`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    node: str = setting(
        "*",
        description="the detector's node, e.g. detectors[stylegan,*]; a pattern that fits detectors leaves out single "
        "numbers (`measure`)",
    )
    variant: str = setting("raw", description="variant of the test rows")
    source: str = setting(
        "all", description="source of the fakes; all: the row that pools them, which a mere * fits, too"
    )

    def chosen(self) -> Chosen:
        """The same for cells that were read."""
        return Chosen(self.node, self.variant, self.source)


class Claim(BaseModel):
    """One claim: `more` exceeds `than` in `metric` by more than `margin`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    says: str = setting(description="the claim in one sentence")
    where: str = setting("", description="where it is made, e.g. Wang et al. 2020, Figure 2")
    more: Cells | float = setting(description="cells that should have more; or a number, of which cells stay below")
    than: Cells | float = setting(description="cells that should have less, or a number")
    metric: Metric = setting("ap", description="metric of a cell")
    over: Over = setting(
        "mean",
        description="what stands for several cells; minimum of means: of each variant and source the mean over "
        "detectors, which are one of several seeds, say, and of these the least",
    )
    margin: float = setting(0.0, description="by how much more")
    each: list[str] | None = setting(
        None,
        description="patterns of nodes: the claim is judged against each, in the place of the node of `than`, on the "
        "same variants and sources as `more`; its sentence ends in the pattern",
        min_length=1,
    )

    @model_validator(mode="after")
    def _about_cells(self) -> Claim:
        if isinstance(self.more, float) and isinstance(self.than, float):
            raise ValueError("'more' and 'than' are both numbers; name cells in one of them")
        if self.each is not None and (isinstance(self.more, float) or isinstance(self.than, float)):
            raise ValueError("'each' has no effect on a number; name cells in 'more' and 'than'")
        return self

    def against(self) -> list[Claim]:
        """One claim for each of `each`; or this one alone."""
        if self.each is None or isinstance(self.than, float):
            return [self]
        than = [self.than.model_copy(update={"node": node}) for node in self.each]
        return [self.model_copy(update={"says": f"{self.says}: {one.node}", "than": one, "each": None}) for one in than]


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
        judged: list[dict[str, Any]] = []
        shared = None
        for claim in config.claims:
            found, shared = _judged(claim, cells, shared)
            judged += found
        text = json.dumps({"format": FORMAT, "claims": judged}, indent=2, ensure_ascii=False, allow_nan=False)
        (ctx.out / CLAIMS).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
        lines = "".join(f"- {line(one)}\n" for one in judged)
        (ctx.out / LINES).write_text(lines, encoding="utf-8", errors="backslashreplace")
        for verdict in ("holds", "does not hold", "cannot tell"):
            ctx.facts[verdict] = sum(one["verdict"] == verdict for one in judged)


def _judged(claim: Claim, cells: list[Cell], before: Shared | None) -> tuple[list[dict[str, Any]], Shared]:
    """A claim, or one for each of `each`, and the resamples that they share.

    before: those of the claim before, which are taken up where this one is of the same cells
    """
    claims = claim.against()
    sides = [_sides(one, cells) for one in claims]
    if claim.each is not None:
        _check_alike(claims, sides)
    chosen = {id(cell): cell for pair in sides for side in pair if not isinstance(side, float) for cell in side}
    shared = before if before is not None and before.parts.keys() == chosen.keys() else Shared(list(chosen.values()))
    found = [
        _plain(one, judge(more, than, one.metric, one.over, one.margin, shared))
        for one, (more, than) in zip(claims, sides, strict=True)
    ]
    return found, shared


def _sides(claim: Claim, cells: list[Cell]) -> tuple[list[Cell] | float, list[Cell] | float]:
    try:
        more, than = (side if isinstance(side, float) else side.chosen().of(cells) for side in (claim.more, claim.than))
    except ValueError as error:
        raise StageError(f"the claim '{claim.says}': {error}; correct 'more' or 'than'") from None
    return more, than


def _check_alike(claims: list[Claim], sides: list[tuple[Any, Any]]) -> None:
    """Raise StageError where a side has other variants and sources than the other: means of these say nothing."""
    for claim, (more, than) in zip(claims, sides, strict=True):
        if apart := sorted(tested(more) ^ tested(than)):
            variant, source = apart[0]
            raise StageError(
                f"the claim '{claim.says}': {len(apart)} variants and sources are on one side alone, first {source} "
                f"({variant}); name in 'each' detectors that were evaluated on the rows of 'more'"
            )


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
