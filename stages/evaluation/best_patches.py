"""The best patch of each picture: where it lies, what it shows, and how that compares with any patch of the picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors import cells
from pipeline.errors import StageError
from pipeline.stage import FAKE, FitContext, Rows
from stages.evaluation import patch_parts
from stages.evaluation.bootstrap import ratio_intervals
from stages.evaluation.detector_file import Detector
from stages.evaluation.patch_parts import NOTHING
from stages.evaluation.seen_frame import SeenFrame
from stages.segmentation import classes

BLOCK_ROWS = 64
RULES = {"share": patch_parts.by_share, "majority": patch_parts.by_majority}


@dataclass(frozen=True)
class Looking:
    """A detector that decides by cells, and how it sees pictures.

    sides, fields  of its input: height and width, and what a cell sees along each axis
    frame          which place of a picture a pixel of the input shows
    """

    detector: Detector
    sides: tuple[int, int]
    fields: tuple[Any, Any]
    frame: SeenFrame
    shows_pictures: bool

    @classmethod
    def at(cls, detector: Detector, rows: Rows) -> Looking:
        """Raises StageError where the detector has no cells."""
        config: Any = detector.config
        field = rows.fields[config.feature]
        try:
            sides, fields = cells.seen(config, detector.state, field.shape)
        except ValueError as error:
            raise StageError(f"the detector has no patches: {error}") from None
        picture = field.dtype == "uint8" and len(field.shape) == 3 and field.shape[2] == 3
        height, width = field.shape[:2] if picture else field.shape[-2:]
        return cls(detector, sides, fields, SeenFrame.of(config.preprocessing, (height, width), sides), picture)

    def geometry(self) -> dict[str, Any]:
        """As plain data, in pixels of the input."""
        names = ("size", "stride", "first")
        return {"sides": list(self.sides)} | {name: [getattr(one, name) for one in self.fields] for name in names}

    def windows(self, shape: tuple[int, ...]) -> list[patch_parts.Ends]:
        """Of the cells of a map (h, w), along rows and columns."""
        axes = zip(shape, self.fields, self.sides, strict=True)
        return [patch_parts.windows(count, field, side) for count, field, side in axes]


@dataclass(frozen=True)
class Named:
    """Classes of pixels: who told them, the names that count, and the number among these of each value of a map."""

    about: str
    names: tuple[str, ...]
    merged: NDArray[np.int64]

    @classmethod
    def of(cls, units: str) -> Named:
        """Of the units of a field; where they say nothing, values are their own names."""
        about, known = classes.read(units)
        words = [classes.MERGED.get(name, name) for name in known or map(str, range(classes.MOST))]
        names = tuple(dict.fromkeys(words))
        return cls(about, names, np.array([names.index(word) for word in words], dtype=np.int64))


@dataclass(frozen=True)
class Patches:
    """Arrays of one entry per picture, (n, ...).

    place     position of the picture in the rows that were looked at; id, label, source, group: of its row
    cell      of the best patch, row and column; window: its first and last rows and columns, cut at the border
    value     probability that the best cell gives to the true class
    RULE      number of what the best patch shows, by share or majority; RULE_drawn: of a random one; RULE_expected
              (n, names): shares of all patches
    boundary  whether the best patch lies on one; boundary_expected: share of all patches that do
    """

    values: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.values["value"])

    def take(self, places: NDArray[np.int64]) -> Patches:
        return Patches({name: value[places] for name, value in self.values.items()})

    def best(self, label: int, most: int) -> Patches:
        """Of a class the pictures with the highest values, in this order; of equal ones those of the smaller id."""
        mine = np.flatnonzero(self.values["label"] == label)
        words = np.ascontiguousarray(self.values["id"][mine]).view(">u8").reshape(-1, 2)
        return self.take(mine[np.lexsort((words[:, 1], words[:, 0], -self.values["value"][mine]))][:most])

    def summary(self, names: tuple[str, ...], seed: int) -> dict[str, Any]:
        """Counts by both rules, of the best patches and of random ones, and their ratio with its interval."""
        found: dict[str, Any] = {"images": len(self)}
        groups = np.unique(self.values["group"], return_inverse=True)[1]
        for rule in RULES:
            top = self.values[rule][:, None] == np.arange(len(names))
            expected = self.values[f"{rule}_expected"]
            drawn = (self.values[f"{rule}_drawn"][:, None] == np.arange(len(names))).sum(axis=0)
            found[rule] = {}
            for name, *numbers, (ratio, interval) in zip(
                names, top.sum(axis=0).tolist(), expected.sum(axis=0).tolist(), drawn.tolist(),
                ratio_intervals(top, expected, groups, seed), strict=True,
            ):  # fmt: skip
                entry = dict(zip(("top", "expected", "drawn"), numbers, strict=True))
                found[rule][name] = {**entry, "ratio": ratio, "interval": interval}
        on, expected = self.values["boundary"][:, None], self.values["boundary_expected"][:, None]
        ((ratio, interval),) = ratio_intervals(on, expected, groups, seed)
        shares = {"top": float(on.mean()), "expected": float(expected.mean())}
        return found | {"boundary": {**shares, "ratio": ratio, "interval": interval}}


def best_patches(looking: Looking, rows: Rows, maps: Rows, named: Named, ctx: FitContext) -> Patches:
    """Of the pictures `rows`, each of which has its classes of pixels in the row of `maps` at the same position."""
    config: Any = looking.detector.config
    state = looking.detector.state
    labels, entries = rows.column("label"), list[dict[str, Any]]()
    for start in range(0, len(rows), BLOCK_ROWS):
        block = np.arange(start, min(start + BLOCK_ROWS, len(rows)))
        fake = cells.probabilities(config, state, rows.array(config.feature, block), ctx.device)
        for row, said, parts in zip(block.tolist(), fake, maps.array("parts", block), strict=True):
            true = said if labels[row] == FAKE else 1 - said
            seen = looking.frame.resampled(parts, NOTHING)
            entries.append(_patch(looking, true, seen, named, bytes(rows.ids[row]), ctx))
        ctx.report(len(entries), len(rows))
    columns = {name: rows.column(name) for name in ("label", "source", "group")}
    values = {name: np.array([one[name] for one in entries]) for name in entries[0]}
    return Patches({**values, **columns, "id": rows.ids, "place": np.arange(len(rows))})


def _patch(
    looking: Looking,
    true: NDArray[np.float64],
    parts: NDArray[np.uint8],
    named: Named,
    row_id: bytes,
    ctx: FitContext,
) -> dict[str, Any]:
    """One entry of `Patches`. true: (h, w) probability of the own class; parts: classes of the network's input."""
    down, over = looking.windows(true.shape)
    counts = patch_parts.counted(parts, down, over, len(named.merged))
    equal = patch_parts.top_cells(true)
    best = tuple(equal[ctx.rng(row_id, "tie").integers(len(equal)) if len(equal) > 1 else 0].tolist())
    drawn = divmod(int(ctx.rng(row_id, "patch").integers(true.size)), true.shape[1])
    boundary = patch_parts.on_boundary(counts, named.merged)
    number = np.full(NOTHING + 1, NOTHING)
    number[: len(named.merged)] = named.merged
    found: dict[str, Any] = {
        "cell": best,
        "value": float(true[best]),
        "window": (down[0][best[0]], down[1][best[0]], over[0][best[1]], over[1][best[1]]),
        "boundary": bool(boundary[best]),
        "boundary_expected": float(boundary.mean()),
    }
    for rule, shown in RULES.items():
        labels = shown(counts, parts, down, over)
        found[rule], found[f"{rule}_drawn"] = number[labels[best]], number[labels[drawn]]
        found[f"{rule}_expected"] = patch_parts.fractions(labels, named.merged, len(named.names))
    return found
