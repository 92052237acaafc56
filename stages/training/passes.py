"""Passes over the rows of a view, block by block: what was taken in survives a kill, and memory stays the same.

The state of each pass is one file in scratch, replaced as a whole. A pass that goes on from it sees the same blocks as
one that was never interrupted, so its result is the same to the bit.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import write_bytes
from pipeline.errors import Interrupted
from pipeline.stage import FitContext, Rows

SAVE_ROWS = 4096
"""Rows between two savings."""

State = dict[str, NDArray[Any]]
Step = Callable[[State, NDArray[Any], int], None]
"""Takes a block of rows into a state (empty before the first); the number is that of the rows before."""


class Passes:
    """Passes that a fit or reduce makes one after the other, over `total` rows all together."""

    def __init__(self, ctx: FitContext, total: int) -> None:
        self.ctx, self.total, self.done = ctx, total, 0

    def run(self, name: str, rows: Rows, field: str, size: int, step: Step) -> State:
        """The state after all rows in their order, in blocks of `size`. Raises Interrupted after saving.

        name  of the pass, and of its file in scratch
        """
        path = self.ctx.scratch / f"{name}.npz"
        state: State = {}
        if path.is_file():
            with np.load(path, allow_pickle=False) as file:
                state = dict(file)
        start = int(state.pop("rows", 0))
        if 0 < start == len(rows):
            self.ctx.report(self.done + start, self.total)
        for first in range(start, len(rows), size):
            last = min(first + size, len(rows))
            step(state, rows.array(field, np.arange(first, last)), first)
            stopping = self.ctx.stopping()
            if stopping or last == len(rows) or last // SAVE_ROWS > first // SAVE_ROWS:
                write_bytes(path, packed({**state, "rows": np.array(last)}))
            if stopping:
                raise Interrupted(f"{self.ctx.stage} stopped; the rows so far are kept and the same command goes on")
            self.ctx.report(self.done + last, self.total)
        self.done += len(rows)
        return state


def packed(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays as one .npz file; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
