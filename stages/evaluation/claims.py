"""What a paper claims of cells of its tables, and whether evaluated cells bear it out.

A cell is one detector on the fakes of one source in one variant, against the reals of that variant. A claim says that
the mean (or the least) of a metric over some cells exceeds that over others, or a number. Its interval is that of the
difference under resamples of whole groups (`stages.evaluation.intervals`) that all cells share: what makes a
photograph hard for both sides is no difference between them. Detectors are as they were trained: an interval tells
what other test rows would change, and not what another training would. Single numbers that stand beside detectors
(`measure`) are cells, too, and no claim about detectors means them: a pattern chooses them where it fits no detector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline import ids
from pipeline.sentences import closest
from pipeline.stage import FAKE, POOLED, REAL
from stages.evaluation.intervals import FEW_GROUPS, LEAST, Resamples, values
from stages.evaluation.single_numbers import is_baseline

Verdict = Literal["holds", "does not hold", "cannot tell"]
Over = Literal["mean", "minimum", "minimum of means"]
"""What stands for several cells. The means are over detectors: one for each variant and source."""


@dataclass(frozen=True)
class Cell:
    """Scores of one detector in one variant against one source of fakes.

    scores (n,), labels (n,) of 0 real and 1 fake, groups (n,) V16; threshold: that of validation; baseline: whether
    the detector is a single number
    """

    node: str
    variant: str
    source: str
    scores: NDArray[np.float32]
    labels: NDArray[np.uint8]
    groups: NDArray[np.void]
    threshold: float
    baseline: bool = False

    @property
    def name(self) -> str:
        """As sentences call it."""
        return f"{self.node} on {self.source} ({self.variant})"


@dataclass(frozen=True)
class Chosen:
    """Patterns (`*`, `?`, several with `|`) of the node, the variant and the source of cells."""

    node: str = "*"
    variant: str = "raw"
    source: str = POOLED

    def of(self, cells: Sequence[Cell]) -> list[Cell]:
        """The cells that fit. Raises ValueError with one sentence where none does."""
        found = list(cells)
        for part in ("node", "variant", "source"):
            pattern = getattr(self, part)
            known = sorted({getattr(cell, part) for cell in found})
            found = _fitting(found, part, pattern)
            if not found:
                meant = closest(pattern, known) or f"; there {'is' if len(known) == 1 else 'are'} {', '.join(known)}"
                raise ValueError(f"no evaluated cell has the {part} '{pattern}'{meant}")
        return found


def _fitting(cells: Sequence[Cell], part: str, pattern: str) -> list[Cell]:
    """Cells whose part fits one of the patterns; a node's pattern leaves out single numbers where it fits a detector.

    Brackets of a node's name stand for themselves.
    """
    chosen: set[str] = set()
    for one in pattern.split("|"):
        fit = [cell for cell in cells if fnmatchcase(getattr(cell, part), one.replace("[", "[[]"))]
        detectors = [cell for cell in fit if part != "node" or not cell.baseline]
        chosen.update(getattr(cell, part) for cell in detectors or fit)
    return [cell for cell in cells if getattr(cell, part) in chosen]


@dataclass(frozen=True)
class Judged:
    """A claim with its number: `value` is what one side exceeds the other by; `interval` its 95 % interval."""

    verdict: Verdict
    value: float
    interval: tuple[float, float]
    sides: tuple[float, float]
    cells: tuple[tuple[str, ...], tuple[str, ...]]
    few_groups: bool


def read_cells(results: dict[str, Any], place: Path) -> list[Cell]:
    """Cells of one evaluation, also those that pool all sources; place: the folder of its `scores.npz`."""
    with np.load(place / "scores.npz", allow_pickle=False) as file:
        kept = {name: file[name] for name in ("label", "score", "group")}
        source, variant = file["sources"][file["source"]], file["variants"][file["variant"]]
    threshold, node, baseline = float(results["model"]["threshold"]), results["model"]["node"], is_baseline(results)
    found = []
    for row in results["rows"]:
        reals = (kept["label"] == REAL) & (variant == row["reals_from"])
        fakes = (kept["label"] == FAKE) & (variant == row["variant"])
        if row["source"] != POOLED:
            fakes &= source == row["source"]
        chosen = np.concatenate([np.flatnonzero(reals), np.flatnonzero(fakes)])
        one = {name: values[chosen] for name, values in kept.items()}
        found.append(
            Cell(node, row["variant"], row["source"], one["score"], one["label"], one["group"], threshold, baseline)
        )
    return found


def judge(
    more: Sequence[Cell] | float,
    than: Sequence[Cell] | float,
    metric: str,
    over: Over,
    margin: float,
    shared: Shared | None = None,
) -> Judged:
    """Whether the metric over the cells `more` exceeds that over `than` by more than `margin`; one may be a number.

    shared: resamples of these cells and others, for several claims that have some in common
    """
    sides = [[] if isinstance(side, float) else list(side) for side in (more, than)]
    shared = shared or Shared([*sides[0], *sides[1]])
    (ours, ours_drawn), (theirs, theirs_drawn) = (
        (side, np.zeros(1)) if isinstance(side, float) else _together(side, shared, metric, over)
        for side in (more, than)
    )
    value = ours - theirs
    error = float(np.std(ours_drawn - theirs_drawn))
    half = shared.quantile * shared.inflation * error
    if error > LEAST:
        low, high = value - half, value + half
    elif max(float(np.std(drawn)) for drawn in (ours_drawn, theirs_drawn)) <= LEAST:  # mostly perfect cells
        low, high = _without_spread(ours, theirs, sides, shared.fewest, metric)
    else:  # both sides are the same
        low, high = math.nan, math.nan
    verdict: Verdict = "holds" if low > margin else "does not hold" if high <= margin else "cannot tell"
    names = (tuple(cell.name for cell in sides[0]), tuple(cell.name for cell in sides[1]))
    return Judged(verdict, value, (low, high), (ours, theirs), names, shared.effective < FEW_GROUPS)


def _without_spread(
    ours: float, theirs: float, sides: Sequence[Sequence[Cell]], drawn: Resamples, metric: str
) -> tuple[float, float]:
    """Interval of the difference of two sides that no resample changes; a side without cells is a number."""
    if all(sides):
        return drawn.without_spread(metric, ours, theirs)
    low, high = drawn.interval(metric, ours if sides[0] else theirs, 0.0)
    return (low - theirs, high - theirs) if sides[0] else (ours - high, ours - low)


class Shared:
    """Resamples of the groups of some cells, at least one: a group has one weight wherever it is met."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        known = ids.unique(np.concatenate([cell.groups for cell in cells]))
        self.groups = {id(cell): ids.lookup(known, cell.groups) for cell in cells}
        self.whole = Resamples(
            np.concatenate([cell.labels for cell in cells]), np.concatenate([self.groups[id(cell)] for cell in cells])
        )
        self.parts: dict[int, Resamples] = {}
        first = 0
        for cell in cells:
            self.parts[id(cell)] = self.whole.part(np.arange(first, first + len(cell.labels)))
            first += len(cell.labels)
        self.fewest = min(self.parts.values(), key=lambda part: min(part.effective))
        self.effective = min(self.fewest.effective)
        self.quantile, self.inflation = self.fewest.quantile("auc"), self.fewest.inflation("auc")
        self.known: dict[tuple[int, str], NDArray[np.float64]] = {}

    def of(self, cell: Cell, metric: str) -> NDArray[np.float64]:
        """(resamples,) values of a metric."""
        key = id(cell), metric
        if key not in self.known:
            self.known[key] = self.parts[id(cell)].of(cell.scores, cell.threshold)[metric]
        return self.known[key]


def tested(cells: Sequence[Cell]) -> set[tuple[str, str]]:
    """Variants and sources that some cells are of."""
    return {(cell.variant, cell.source) for cell in cells}


def _together(cells: Sequence[Cell], shared: Shared, metric: str, over: Over) -> tuple[float, NDArray[np.float64]]:
    found = np.array([values(cell.scores, cell.labels, cell.threshold)[metric] for cell in cells])
    drawn = np.stack([shared.of(cell, metric) for cell in cells])
    if over == "minimum of means":
        mine = [[(cell.variant, cell.source) == test for cell in cells] for test in sorted(tested(cells))]
        found, drawn = (np.stack([each[one].mean(axis=0) for one in mine]) for each in (found, drawn))
    reduced = np.mean if over == "mean" else np.min
    return float(reduced(found)), reduced(drawn, axis=0)
