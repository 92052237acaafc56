"""What lies under the cells of a patch network: the class of each cell's window, and which cell says most.

A window is what a cell sees (`detectors.networks.receptive_field`), cut at the border of the picture: padding counts
for nothing. By the rule of Chai et al. 2020 (section 4.2) it shows the class of which it holds the largest share, not
the one with most of its pixels, so that small classes win; both rules are here. Of equal classes the one counts that is
met first, row by row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.networks.receptive_field import Field

NOTHING = 255
"""In maps of classes: no pixel of the picture; of a cell: a window without any."""

EDGE = 0.1
"""Share of a window that two classes or more must have each, so that it lies on a boundary."""

Ints = NDArray[np.int64]
Ends = tuple[Ints, Ints]
"""First place of each window along one axis, and the one behind its last."""


def windows(cells: int, field: Field, side: int) -> Ends:
    """Of `cells` cells in a row, cut to 0..side; an empty one has equal ends."""
    first = np.arange(cells) * field.stride + field.first
    return first.clip(0, side), (first + field.size).clip(0, side)


def counted(parts: NDArray[np.uint8], rows: Ends, columns: Ends, classes: int) -> Ints:
    """(classes, h, w): pixels of each class in the window of each cell."""
    found = np.empty((classes, len(rows[0]), len(columns[0])), np.int64)
    sums = np.zeros((parts.shape[0] + 1, parts.shape[1] + 1), np.int64)
    (top, bottom), (left, right) = rows, columns
    for number in range(classes):
        np.cumsum(np.cumsum(parts == number, axis=0), axis=1, out=sums[1:, 1:])
        found[number] = (
            sums[bottom[:, None], right] - sums[top[:, None], right] - sums[bottom[:, None], left]
            + sums[top[:, None], left]
        )  # fmt: skip
    return found


def by_share(counts: Ints, parts: NDArray[np.uint8], rows: Ends, columns: Ends) -> NDArray[np.uint8]:
    """(h, w): the class of whose pixels in the picture the largest share lies in the window."""
    totals = np.bincount(parts.ravel(), minlength=NOTHING + 1)[: len(counts)]
    return _winners(counts / np.maximum(totals, 1)[:, None, None], parts, rows, columns)


def by_majority(counts: Ints, parts: NDArray[np.uint8], rows: Ends, columns: Ends) -> NDArray[np.uint8]:
    """(h, w): the class of most pixels in the window."""
    return _winners(counts, parts, rows, columns)


def _winners(scores: NDArray[Any], parts: NDArray[np.uint8], rows: Ends, columns: Ends) -> NDArray[np.uint8]:
    """Quotients of whole numbers are rounded alike where they are equal, so that ties are found."""
    best = scores.max(axis=0)
    found = scores.argmax(axis=0).astype(np.uint8)
    tied = (scores == best).sum(axis=0) > 1
    for row, column in np.argwhere(tied & (best > 0)).tolist():
        inside = parts[rows[0][row] : rows[1][row], columns[0][column] : columns[1][column]].ravel()
        equal = np.flatnonzero(scores[:, row, column] == best[row, column])
        found[row, column] = inside[np.isin(inside, equal).argmax()]
    found[best == 0] = NOTHING
    return found


def on_boundary(counts: Ints, merged: Ints) -> NDArray[np.bool_]:
    """(h, w): whether two merged classes or more have a tenth of a window each. merged: number of each class's."""
    together = np.zeros((int(merged.max()) + 1, *counts.shape[1:]), np.int64)
    np.add.at(together, merged, counts)
    within = np.maximum(counts.sum(axis=0), 1)
    result: NDArray[np.bool_] = (together >= EDGE * within).sum(axis=0) > 1
    return result & (counts.sum(axis=0) > 0)


def top_cells(probability: NDArray[np.floating[Any]]) -> Ints:
    """(n, 2): rows and columns of the cells with the largest value, row by row."""
    return np.argwhere(probability == probability.max())


def fractions(labels: NDArray[np.uint8], merged: Ints, count: int) -> NDArray[np.float64]:
    """(count,): shares of the cells whose windows show each merged class, which is what a random cell shows on average.

    Cells of empty windows are none.
    """
    shown = labels[labels != NOTHING]
    return np.bincount(merged[shown], minlength=count) / max(len(shown), 1)
