"""Random gathers straight out of the memory maps of all shards.

Looking rows up shard by shard costs more than copying a batch of 64 rows. Here the place of every row of a dataset is
worked out once per field (shard, byte offset, inner chunk). A batch of large rows is then a list of slices, joined; one
of small rows is one indexing of an array that begins at every byte from the first map to the last, of which only bytes
inside the maps are ever asked for. Numpy does that at half the speed of `take`, which wants rows side by side: once all
chunks are verified and more rows were asked for than there are, small rows are copied into one array. The memory of
their results is used for later ones when nobody holds it any more.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from pipeline.ids import distinct
from pipeline.storage.shard_reader import LARGE_ROW, ArrayReader

if TYPE_CHECKING:
    from pipeline.storage.shards import Shard

MOST_ROWS = 4096
"""Large rows per gather up to which the list of slices pays."""

MOST_SHARDS = 4096
"""Shards whose maps are held at once: a process may have some 65,000 maps."""

KEPT_BYTES = 2**27
"""Of a field of small rows that is copied at most."""

REUSED_BYTES = 2**25
"""Of results whose memory is used again, at most."""


class FieldPlan:
    """Where each row of a dataset lies, for one field."""

    def __init__(
        self,
        readers: Sequence[ArrayReader],
        shard: NDArray[np.int64],
        start: NDArray[np.int64],
        chunk: NDArray[np.int64],
        firsts: NDArray[np.int64],
    ) -> None:
        self._readers = readers
        self._views = [reader.buffer for reader in readers]
        self._files = _Files(readers)
        self._shard, self._start, self._chunk = shard, start, chunk
        self._firsts = firsts  # number of each shard's first inner chunk, and the number of all
        self._unverified = np.ones(int(firsts[-1]), dtype=bool)
        self._some_unverified = True
        layout = readers[0].layout
        assert layout is not None
        self._size, self._dtype, self._shape = layout.row_bytes, layout.dtype, layout.shape[1:]
        if self.small:
            self._everywhere, begins = _one_array(self._views, self._size)
            self._start = begins[shard] + start
        self._asked = 0  # small rows, in all
        self._kept: NDArray[np.void] | None = None  # all of them, in their order
        self._results = Reused(REUSED_BYTES)  # of those

    @property
    def small(self) -> bool:
        """Whether numpy's indexing beats copying row by row."""
        return self._size < LARGE_ROW

    def rows(self, wanted: NDArray[np.int64]) -> NDArray[Any]:
        """The rows at these positions of the dataset: (len(wanted), *shape), a fresh array."""
        if self._some_unverified:
            self._verify(self._chunk[wanted])
        if self.small:
            return self._small(wanted).view(self._dtype).reshape(len(wanted), *self._shape)
        size, views = self._size, self._views
        places = zip(self._shard[wanted].tolist(), self._start[wanted].tolist(), strict=True)
        data = bytearray().join([views[shard][start : start + size] for shard, start in places])
        return np.frombuffer(data, dtype=self._dtype).reshape(len(wanted), *self._shape)

    def rows_into(self, wanted: NDArray[np.int64], out: NDArray[Any]) -> None:
        """The same into (len(wanted), *shape), C-contiguous: large rows from the files, which lets other threads run.

        A file that is gone since it was mapped is read through its map.
        """
        if self.small:
            out[...] = self.rows(wanted)
            return
        if self._some_unverified:
            self._verify(self._chunk[wanted])
        size, target = self._size, memoryview(out.reshape(-1)).cast("B")  # type: ignore[arg-type]
        places = zip(self._shard[wanted].tolist(), self._start[wanted].tolist(), strict=True)
        for number, (shard, start) in enumerate(places):
            piece = target[number * size : (number + 1) * size]
            file = self._files.of(shard)
            if file is None or os.preadv(file, [piece], start) != size:
                piece[:] = self._views[shard][start : start + size]

    def _small(self, wanted: NDArray[np.int64]) -> NDArray[np.void]:
        self._asked += len(wanted)
        if self._kept is None:
            again = self._asked > len(self._start) and not self._some_unverified
            if not again or len(self._start) * self._size > KEPT_BYTES:
                return self._everywhere[self._start[wanted]]
            self._kept = self._everywhere[self._start]
        found = self._results.block(len(wanted) * self._size).view(self._kept.dtype)
        return self._kept.take(wanted, mode="clip", out=found)  # `Dataset` has looked at their bounds

    def _verify(self, chunks: NDArray[np.int64]) -> None:
        fresh = distinct(chunks[self._unverified[chunks]])
        if not len(fresh):
            return
        owners = np.searchsorted(self._firsts, fresh, side="right") - 1
        for owner in distinct(owners).tolist():
            self._readers[owner].verify_chunks(fresh[owners == owner] - self._firsts[owner])
        self._unverified[fresh] = False
        self._some_unverified = bool(self._unverified.any())


class Reused:
    """Blocks of memory for results, in turn: one that nobody holds any more is given again.

    The system clears fresh pages, which takes as long as to copy rows into them.
    """

    def __init__(self, most: int) -> None:
        """most: bytes of blocks that are remembered."""
        self._most, self._held = most, 0
        self._blocks: deque[NDArray[np.uint8]] = deque()
        self._lock = Lock()

    def block(self, size: int) -> NDArray[np.uint8]:
        """(size,) uint8 of any value, which no other living array shares."""
        with self._lock:
            if self._blocks and len(self._blocks[0]) >= size and _holders(self._blocks) == _NOBODY:
                self._blocks.rotate(-1)
                return self._blocks[-1][:size]
            fresh = np.empty(size, dtype=np.uint8)
            self._blocks.append(fresh)
            self._held += size
            while self._held > self._most:
                self._held -= len(self._blocks.popleft())
            return fresh[:]


def _holders(blocks: deque[NDArray[np.uint8]]) -> int:
    """References to the first block."""
    return sys.getrefcount(blocks[0])


_NOBODY = _holders(deque([np.empty(0, np.uint8)]))
"""As many as the list itself makes."""


class _Files:
    """Descriptors of the files of shards, opened when they are first asked for and closed with this object."""

    def __init__(self, readers: Sequence[ArrayReader]) -> None:
        self._readers, self._lock = readers, Lock()
        self._open: dict[int, int | None] = {}
        finalize(self, _close, self._open)

    def of(self, number: int) -> int | None:
        """None where it cannot be opened any more."""
        with self._lock:
            if number not in self._open:
                try:
                    self._open[number] = os.open(self._readers[number].path, os.O_RDONLY)
                except OSError:
                    self._open[number] = None
            return self._open[number]


def _close(files: dict[int, int | None]) -> None:
    for one in files.values():
        if one is not None:
            os.close(one)


def plan_field(
    open_shard: Callable[[int], Shard], field: str, shard: NDArray[np.int32], row: NDArray[np.int64]
) -> FieldPlan | None:
    """The plan of a field for rows in the shards number `shard`; None where they are too many or no plain bytes."""
    used, numbers = np.unique(shard, return_inverse=True)
    if len(used) > MOST_SHARDS:
        return None
    readers = [open_shard(number).reader(field) for number in used.tolist()]
    if not readers or not all(reader.complete and reader.layout for reader in readers):
        return None
    layouts = [reader.layout for reader in readers if reader.layout is not None]
    start, chunk = np.empty(len(row), dtype=np.int64), np.empty(len(row), dtype=np.int64)
    firsts = np.cumsum([0, *(layout.chunks for layout in layouts)])
    for number, reader in enumerate(readers):
        mine = np.flatnonzero(numbers == number)
        start[mine], chunk[mine] = reader.spans(row[mine])
        chunk[mine] += firsts[number]
    return FieldPlan(readers, numbers.astype(np.int64), start, chunk, firsts)


def _one_array(views: Sequence[memoryview], size: int) -> tuple[NDArray[np.void], NDArray[np.int64]]:
    """An array with a row of `size` bytes at every byte of all views, and the position at which each view begins.

    It holds for as long as the views do; between them is memory of others, or none.
    """
    places = np.array([np.frombuffer(view, np.uint8).ctypes.data for view in views], dtype=np.int64)
    base = int(places.min())
    span = max(int(place) + len(view) for place, view in zip(places, views, strict=True)) - base
    memory: Any = (ctypes.c_char * span).from_address(base)
    rows: NDArray[np.void] = np.ndarray((span - size + 1,), f"V{size}", memory, strides=(1,))
    return rows, places - base
