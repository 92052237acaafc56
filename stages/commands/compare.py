"""The verb `compare`: two reports or two pipelines, which cells moved, and what changed before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pipeline.commands.options import Json, give, note, read, say, verb
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from stages.evaluation.comparison import Moved, Side

PLACE = "a report.html, its folder in the store, or a pipeline file whose evaluations are made"
LINES = 20
"""Cells and changes that are printed; all of them are in --json."""


@verb(
    "touchstone compare pipeline.yaml pipeline.yaml --fail-on moved",
    "touchstone compare pipeline.yaml pipeline.yaml --metric balanced_accuracy",
)
def compare(
    old: Annotated[Path, typer.Argument(metavar="OLD", help=PLACE)],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="the same, later or elsewhere")],
    metric: Annotated[str, typer.Option(help="auc, ap, balanced_accuracy, accuracy, tpr or tnr")] = "auc",
    fail_on: Annotated[Literal["moved"] | None, typer.Option(help="exit with 1 if a cell moved")] = None,
    json: Json = False,
) -> None:
    """Say which cells of the matrices moved beyond their intervals, and which component of a recipe changed.

    Two pipeline files have scores: a cell of the same rows moved if the interval of its difference excludes zero.
    Reports have none: a cell moved if its two intervals have no number in common. Exit code 1 as --fail-on says.
    """
    from pipeline.sentences import nearest
    from stages.evaluation.comparison import cells_compared, changes
    from stages.reporting.matrices import METRICS

    if metric not in METRICS.values():
        raise ConfigError(f"--metric is '{metric}', which no report has{nearest(metric, METRICS.values())}")
    one, two = side(old, metric), side(new, metric)
    cells = cells_compared(one, two, metric)
    if not cells:
        raise ConfigError(
            f"{old} and {new} have no cell in common: a cell is a detector's node, a variant and a source of fakes, "
            "which both must have under the same names"
        )
    changed = changes(one, two)
    alone = [sorted(set(first.cells) - set(second.cells)) for first, second in ((one, two), (two, one))]
    for this in (one, two):
        if this.made is None:
            note(f"{this.name} does not say how its evaluations were made; make the report again to have that compared")
    if json:
        give({"metric": metric, "cells": [cell.as_data() for cell in cells], "changed": changed,
              "only_old": alone[0], "only_new": alone[1]})  # fmt: skip
    else:
        say(*_lines(metric, cells, changed if one.made and two.made else None, alone))
    raise typer.Exit(1 if fail_on == "moved" and any(cell.moved for cell in cells) else 0)


def side(place: Path, metric: str) -> Side:
    """What a report or the evaluations of a pipeline say. Raises ConfigError where they say nothing."""
    return _of_pipeline(place, metric) if place.suffix in (".yaml", ".yml") else _of_report(place, metric)


def _of_pipeline(place: Path, metric: str) -> Side:
    from pipeline.stage import POOLED
    from stages.commands.table import finished
    from stages.evaluation.comparison import Side, made, told_apart
    from stages.evaluation.json_file import read_json
    from stages.evaluation.pairing import Scored

    found = finished(read(place, None), [])
    results = [one.results for one, _ in found]
    recipes = [read_json(folder / "artifact.json").get("recipe", {}) for _, folder in found]
    rows = [(one, row, folder) for one, (_, folder) in zip(results, found, strict=True)
            for row in one["rows"] if row["source"] != POOLED]  # fmt: skip
    spots = told_apart((one["model"]["node"], row["variant"], row["source"]) for one, row, _ in rows)
    cells = {spot: None if row[metric] is None else (row[metric], *row[f"{metric}_interval"])
             for spot, (_, row, _) in zip(spots, rows, strict=True)}  # fmt: skip
    places = {folder: Scored(folder) for _, folder in found}
    scored = {spot: places[folder] for spot, (_, _, folder) in zip(spots, rows, strict=True)}
    return Side(str(place), cells, made(results, recipes), scored)


def _of_report(place: Path, metric: str) -> Side:
    from stages.evaluation.comparison import Side, told_apart
    from stages.reporting.matrices import embedded

    page = place / "report.html" if place.is_dir() else place
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(f"{page} cannot be read ({reason}); expected {PLACE}") from None
    data = embedded(text)
    if data is None:
        raise ConfigError(f"{page} is no report of Touchstone; expected {PLACE}")
    number = list(data["metrics"].values()).index(metric)
    rows = [
        ((row["node"], matrix["variant"], source), cell[number])
        for matrix in data["matrices"] for row in matrix["rows"]
        for source, cell in zip(matrix["sources"], row["cells"], strict=True)
    ]  # fmt: skip
    cells = dict(zip(told_apart(spot for spot, _ in rows), (cell for _, cell in rows), strict=True))
    return Side(str(place), cells, data.get("made"))


def _lines(metric: str, cells: list[Moved], changed: list[dict[str, Any]] | None, alone: list[Any]) -> list[str]:
    from pipeline.sentences import counted

    moved = sorted((cell for cell in cells if cell.moved), key=lambda cell: -abs(cell.new[0] - cell.old[0]))
    lines = [f"{metric}: {len(moved)} of {len(cells)} cells moved"]
    for cell in moved[:LINES]:
        detector, variant, source = cell.spot
        lines.append(f"  {detector} on {source} ({variant}): {_number(cell.old)} -> {_number(cell.new)}, by {cell.by}")
    for what, spots in zip(("the first", "the second"), alone, strict=True):
        if spots:
            lines.append(f"{len(spots)} cells are in {what} only, such as {' '.join(spots[0])}")
    if changed is None:
        return lines
    lines.append("changed: " + (counted(len(changed), "component") if changed else "nothing that the recipes know"))
    for one in changed[:LINES]:
        reach = one["detectors"]
        told = reach[0] if len(reach) == 1 else f"{len(reach)} detectors"
        lines.append(f"  {one['where']} ({one['cause']}): {one['what']}; reaches {told}")
    if len(moved) > LINES or len(changed) > LINES:
        lines.append("the rest is in --json")
    return lines


def _number(cell: Any) -> str:
    value, low, high = cell
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
