"""One table of several evaluations: detectors down, training source, test source and variant across.

Names are short where the pipeline file says them. A row is what the evaluation's setting `called` says, or the words of
the matrix of the detector's node but the one of its axis `train`, which heads the columns; with the node's own name
before them where no axis is `detector`. A source `fakes[progan-R]` is `progan` in
the variant R, as `fakes[progan-raw]` is in every other one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.stage import POOLED
from stages.evaluation.pairing import Scored, compared

RAW, TEST = "raw", "test"
TRAIN, DETECTOR = "train", "detector"
"""Axes of a matrix of detectors that say what they were trained on, and what they are."""


class Column(NamedTuple):
    """Where a detector was trained, on whose fakes it was tested, and in which variant."""

    trained: str
    tested: str
    variant: str

    def __str__(self) -> str:
        place = self.tested if self.trained == self.tested else f"{self.trained} > {self.tested}"
        return f"{place} {self.variant}"


@dataclass(frozen=True)
class Cell:
    """A value with its interval, None where a class was missing; few: the interval is a hint."""

    value: float | None
    low: float | None = None
    high: float | None = None
    few: bool = False


@dataclass(frozen=True)
class Evaluation:
    """Results of one `evaluate` node, and the words of its detector in the pipeline file."""

    node: str
    results: Mapping[str, Any]
    called: str | None
    entry: str
    axes: Mapping[str, Any]  # of the detector's node

    @property
    def trained(self) -> str:
        """What the detector was trained on, in short."""
        if TRAIN in self.axes:
            return short(str(self.axes[TRAIN]), RAW)
        return ", ".join(short(source, RAW) for source in self.results["model"]["trained_on"])

    @property
    def row(self) -> str:
        """Name of the detector among those of the same training."""
        words = "-".join(str(value) for axis, value in self.axes.items() if axis != TRAIN and "." not in axis)
        return self.called or (words if DETECTOR in self.axes else f"{self.entry} {words}".rstrip())


@dataclass
class Table:
    """Cells by row and column, both in the order in which they were met.

    null: row and training -> null result, of raw rows where there are some
    marked: columns of fakes whose generator misses a gate
    apart: a sentence for each difference that has no image of both
    """

    metric: str
    columns: list[Column] = field(default_factory=list)
    marked: set[Column] = field(default_factory=set)
    cells: dict[str, dict[Column, Cell]] = field(default_factory=dict)
    null: dict[tuple[str, str], Cell] = field(default_factory=dict)
    apart: list[str] = field(default_factory=list)

    def put(self, row: str, column: Column, cell: Cell) -> bool:
        """False where the place is taken."""
        if column not in self.columns:
            self.columns.append(column)
        taken = column in self.cells.setdefault(row, {})
        self.cells[row].setdefault(column, cell)
        return not taken

    def values(self, row: str) -> list[float]:
        """Numbers of a row."""
        found = (self.cells.get(row, {}).get(column) for column in self.columns)
        return [cell.value for cell in found if cell is not None and cell.value is not None]

    def mean(self, row: str) -> float:
        """Of all cells that have a value; NaN without any."""
        values = self.values(row)
        return sum(values) / len(values) if values else math.nan

    def least(self, row: str) -> float:
        """The minimum, which an average hides."""
        return min(self.values(row), default=math.nan)


def short(source: str, variant: str) -> str:
    """`progan` of `fakes[progan-R]` in the variant R, and of `fakes[progan-raw]` in any; `web` of `web[raw]`."""
    entry, _, words = source.partition("[")
    name = words.rstrip("]")
    name = entry if name in ("", RAW, variant) else name
    for ending in (f"-{variant}", f"-{RAW}"):
        if name.endswith(ending) and name != ending:
            return name.removesuffix(ending)
    return name


class Columns:
    """Where lines of the results of some evaluations stand.

    A source keeps its whole name where another one of the same variant of one evaluation has the same short name.
    """

    def __init__(self, evaluations: Sequence[Evaluation]) -> None:
        self.shared: set[tuple[str, str]] = set()
        for one in evaluations:
            places = Counter((row["variant"], short(row["source"], row["variant"])) for row in one.results["rows"])
            self.shared |= {place for place, count in places.items() if count > 1}

    def of(self, one: Evaluation, row: Mapping[str, Any]) -> Column:
        """row: a line of the evaluation's results."""
        source, variant = row["source"], row["variant"]
        name = short(source, variant)
        return Column(one.trained, source if (variant, name) in self.shared else name, variant)


def tabulated(evaluations: Sequence[Evaluation], metric: str) -> Table:
    """The table of a metric of `evaluate`. Two evaluations for one place are told apart by their nodes."""
    table = Table(metric)
    names, columns = _rows(evaluations), Columns(evaluations)
    for one, name in zip(evaluations, names, strict=True):
        for row in one.results["rows"]:
            sources = {other["source"] for other in one.results["rows"] if other["variant"] == row["variant"]}
            if row["source"] == POOLED and len(sources) > 1:
                continue
            low, high = row[f"{metric}_interval"]
            table.put(name, columns.of(one, row), Cell(row[metric], low, high, row["few_groups"]))
        for half in one.results["null"]:
            if half["variant"] == RAW or (name, one.trained) not in table.null:
                low, high = half["auc_interval"]
                table.null[name, one.trained] = Cell(half["auc"], low, high, half["few_groups"])
    blocks = {(column.trained, column.tested): place for place, column in reversed(list(enumerate(table.columns)))}
    table.columns.sort(key=lambda column: (column.trained != column.tested, blocks[column.trained, column.tested]))
    return table


def columns_of(evaluations: Sequence[Evaluation], sources: Collection[str]) -> set[Column]:
    """The columns of some sources of fakes."""
    columns = Columns(evaluations)
    return {columns.of(one, row) for one in evaluations for row in one.results["rows"] if row["source"] in sources}


def differences(evaluations: Sequence[tuple[Evaluation, Path]], metric: str, against: str) -> Table:
    """Values less those of the row `against` in the same column, on the images that both have scored."""
    names = _rows([one for one, _ in evaluations])
    scored = [Scored(place) for _, place in evaluations]
    reference = {
        (one.trained, row["variant"], row["source"]): kept
        for (one, _), name, kept in zip(evaluations, names, scored, strict=True) if name == against
        for row in one.results["rows"]
    }  # fmt: skip
    whole, columns = tabulated([one for one, _ in evaluations], metric), Columns([one for one, _ in evaluations])
    table = Table(metric, list(whole.columns))
    for (one, _), name, kept in zip(evaluations, names, scored, strict=True):
        for row in one.results["rows"] if name != against else ():
            column = columns.of(one, row)
            base = reference.get((one.trained, row["variant"], row["source"]))
            if base is not None and column in table.columns:
                found = compared(kept, base, row["variant"], row["source"])
                value, (low, high) = found.differences[metric]
                cell = Cell(value, low, high, row["few_groups"]) if found.rows else Cell(None)
                table.put(name, column, cell)
                if not found.rows:
                    table.apart.append(
                        f"{name} and {against} have scored no image of {column} alike, so there is no difference"
                    )
    return table


def _rows(evaluations: Sequence[Evaluation]) -> list[str]:
    """A name of each evaluation's detector: with the entry, or the node, where else two would share a place.

    Where splits differ, with that of rows that were not kept for the test.
    """
    names = [one.row for one in evaluations]
    for wanted in (lambda one: f"{one.entry} {one.row}", lambda one: one.node):
        places = [(name, one.trained, _variants(one)) for name, one in zip(names, evaluations, strict=True)]
        names = [
            wanted(one) if any(_overlap(place, other) for other in (*places[:number], *places[number + 1 :])) else name
            for number, (name, one, place) in enumerate(zip(names, evaluations, places, strict=True))
        ]
    splits = [str(one.results.get("split", TEST)) for one in evaluations]
    several = len(set(splits)) > 1
    return [f"{name} ({split})" if several and split != TEST else name
            for name, split in zip(names, splits, strict=True)]  # fmt: skip


def _variants(one: Evaluation) -> frozenset[tuple[str, str]]:
    return frozenset((row["variant"], row["source"]) for row in one.results["rows"])


def _overlap(one: tuple[str, str, frozenset[Any]], other: tuple[str, str, frozenset[Any]]) -> bool:
    return one[:2] == other[:2] and bool(one[2] & other[2])


def from_paper(data: Mapping[str, Any]) -> Table:
    """Published cells as shares: `cells` maps row -> "TRAINED -> TESTED" -> variant -> value, in percent if so said."""
    table = Table(str(data["metric"]))
    scale = 100 if data.get("percent") else 1
    for row, blocks in data["cells"].items():
        for block, variants in blocks.items():
            trained, _, tested = (part.strip() for part in str(block).partition("->"))
            for variant, value in variants.items():
                table.put(str(row), Column(trained, tested or trained, str(variant)), Cell(value / scale))
    return table


def beside(ours: Table, paper: Table) -> list[str]:
    """What one of the tables has and the other lacks: sentences."""
    rows = [row for row in paper.cells if row not in ours.cells], [row for row in ours.cells if row not in paper.cells]
    columns = [one for one in paper.columns if one not in ours.columns]
    found = []
    for what, names in (
        ("rows of the paper that this table lacks", rows[0]),
        ("rows that the paper lacks", rows[1]),
        ("columns of the paper that this table lacks", columns),
    ):
        if names:
            found.append(f"{what}: {', '.join(map(str, names))}")
    return found
