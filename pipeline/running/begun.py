"""Long tasks: what they have computed is kept while they go on, and who begins one again goes on from there.

A killed process, or a lost worker, then costs seconds of its work (LOST_S) and not a whole shard. A row is taken up
only if it is of the same chain and was computed from the same values of its inputs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import ids as row_ids
from pipeline.running.compute import Values
from pipeline.stage import Schema
from pipeline.storage import kept_rows
from pipeline.storage.kept_rows import KeptRows

LOST_S = 4.0
"""Seconds of computing that may be lost; a shard that is being written beside it may cost one more."""

FIRST_ROWS = 64
"""Rows of the first block of a task, before it is known how long one takes."""


@dataclass(frozen=True)
class Begun:
    """Rows of a task that an earlier attempt has computed.

    rows    (k,) positions in the task
    arrays  one per field, (k, *shape)
    files   that hold nothing but rows of the task
    """

    rows: NDArray[np.int64]
    arrays: Mapping[str, NDArray[Any]]
    files: tuple[Path, ...] = ()


NOT_BEGUN = Begun(np.empty(0, np.int64), {})


def take_up(root: Path, chain: bytes, schema: Schema, ids: NDArray[np.void], parents: NDArray[np.void] | None) -> Begun:
    """What the store has of these rows, if it was computed from the same values.

    ids, parents: (n,) V16 of the rows that are wanted; parents: `shards.parent_digests`.
    """
    order = row_ids.order(ids)
    free = np.ones(len(ids), dtype=bool)
    parts: list[tuple[NDArray[np.int64], Mapping[str, NDArray[Any]]]] = []
    files = []
    for path, named in kept_rows.found(root, chain):
        places = row_ids.lookup(ids[order], named)
        if (places < 0).all():
            continue
        if (places >= 0).all():
            files.append(path)
        kept = kept_rows.read(path, chain, schema)
        if kept is None or (kept.parents is None) != (parents is None):
            continue
        rows = order[places]
        usable = (places >= 0) & free[rows]
        if parents is not None and kept.parents is not None:
            usable &= parents[rows] == kept.parents
        free[rows[usable]] = False
        parts.append((rows[usable], {name: values[usable] for name, values in kept.arrays.items()}))
    rows = np.concatenate([np.empty(0, np.int64), *(found for found, _ in parts)])
    arrays = {
        name: np.concatenate([np.empty((0, *field.shape), field.dtype), *(values[name] for _, values in parts)])
        for name, field in schema.items()
    }
    return Begun(rows, arrays, tuple(files))


class Keeper:
    """The pace of a task: blocks of at most half of LOST_S, and a file of rows before more than LOST_S are at stake.

    ids, parents  of the rows that are computed; as in `take_up`
    prove         called before rows are kept; raises where they are not what the recipe says
    """

    def __init__(
        self,
        root: Path,
        chain: bytes,
        schema: Schema,
        ids: NDArray[np.void],
        parents: NDArray[np.void] | None,
        prove: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place = root, chain, schema
        self._ids, self._parents = ids, parents
        self._prove, self._clock = prove, clock
        self._looked = self._kept = clock()  # when the last block ended, and when rows were kept last
        self._seconds = 0.0  # of a row
        self._count = 0  # rows that are kept or were tried to
        self._next = 0  # rows of the next block
        self.files: list[Path] = []

    def rows(self, most: int, least: int) -> int:
        """Rows of the next block."""
        fitting = LOST_S / 2 / self._seconds if self._seconds else FIRST_ROWS
        self._next = max(int(min(most, fitting)) // least, 1) * least
        self._most = most, least
        return self._next

    def done(self, rows: int, values: Values, last: bool) -> None:
        """Keep what was computed since the last time if the next block might be one too many."""
        now = self._clock()
        self._seconds, self._looked = (now - self._looked) / rows, now
        if last or now - self._kept + self.rows(*self._most) * self._seconds <= LOST_S:
            return
        self._keep(values)
        self._looked = self._kept = self._clock()

    def _keep(self, values: Values) -> None:
        fresh = slice(self._count, len(values.done))
        rows = values.done[fresh]
        self._count = len(values.done)
        if len(rows):
            self._prove()
            root, chain, schema = self._place
            arrays = {name: array[fresh] for name, array in values.arrays.items()}
            parents = None if self._parents is None else self._parents[rows]
            path = kept_rows.keep(root, chain, schema, KeptRows(self._ids[rows], parents, arrays))
            self.files += [] if path is None else [path]
