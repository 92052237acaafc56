"""Rows that show one picture twice: equal pixels, look-alikes, and the clusters they form.

Thumbnails of 16 px whose correlation is above 0.93 are candidates; they are look-alikes if at 32 px, smoothed, over
shifts by up to one pixel, some correlation is above 0.985.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Pairs = NDArray[np.int64]
"""(k, 2): positions of rows, the smaller one first."""

CANDIDATE, ALIKE = 0.93, 0.985
PORTION = 512
MOST_CANDIDATES = 24
"""Candidates that are looked at for each row."""


def exact(digests: Sequence[bytes | None]) -> Pairs:
    """Each row with the first one of equal pixels."""
    first: dict[bytes, int] = {}
    pairs = []
    for row, digest in enumerate(digests):
        if digest is not None and first.setdefault(digest, row) != row:
            pairs.append((first[digest], row))
    return np.array(pairs, np.int64).reshape(-1, 2)


def members(digests: Sequence[bytes | None]) -> list[list[int]]:
    """Rows of equal pixels, two or more."""
    found: dict[bytes, list[int]] = defaultdict(list)
    for row, digest in enumerate(digests):
        if digest is not None:
            found[digest].append(row)
    return [rows for rows in found.values() if len(rows) > 1]


def near(thumbnails: NDArray[np.uint8]) -> Pairs:
    """Look-alikes among (n, 32, 32, 3) thumbnails; pictures of one color look like nothing."""
    count = len(thumbnails)
    if count < 2:
        return np.zeros((0, 2), np.int64)
    small = _unit(thumbnails.reshape(count, 16, 2, 16, 2, 3).mean((2, 4), dtype=np.float32).reshape(count, -1))
    found = []
    for start in range(0, count, PORTION):
        likeness = small[start : start + PORTION] @ small.T
        for row in range(len(likeness)):
            likeness[row, : start + row + 1] = -1
        best = np.argpartition(-likeness, min(MOST_CANDIDATES, count - 1), axis=1)[:, :MOST_CANDIDATES]
        rows, place = np.nonzero(np.take_along_axis(likeness, best, 1) > CANDIDATE)
        pairs = np.stack([start + rows, best[rows, place]], 1)
        for at in range(0, len(pairs), PORTION):
            some = pairs[at : at + PORTION]
            found.append(some[_alike(thumbnails[some[:, 0]], thumbnails[some[:, 1]])])
    return np.concatenate(found).astype(np.int64) if found else np.zeros((0, 2), np.int64)


def _unit(rows: NDArray[np.floating]) -> NDArray[np.floating]:
    """Rows without their mean, of length 1."""
    rows = rows - rows.mean(1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1.0)


def _alike(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether pairs of (k, 32, 32, 3) thumbnails agree at some shift by at most one pixel, in steps of half a one."""
    still = _moved(_moved(one.astype(np.float32), 0, 1), 0, 2)[:, 2:-2, 2:-2]
    middle = _unit(still.reshape(len(one), -1))
    best = np.zeros(len(one))
    for y in range(-2, 3):
        down = _moved(other.astype(np.float32), y, 1)
        for x in range(-2, 3):
            moved = _moved(down, x, 2)[:, 2:-2, 2:-2]
            best = np.maximum(best, np.einsum("ij,ij->i", middle, _unit(moved.reshape(len(other), -1))))
    return best > ALIKE


def _moved(pictures: NDArray[np.floating], halves: int, axis: int) -> NDArray[np.floating]:
    """Smoothed by 1 2 1, and moved by some half pixels; a mean of two neighbors smooths about as much."""
    whole = halves // 2
    if halves % 2:
        return (np.roll(pictures, whole, axis) + np.roll(pictures, whole + 1, axis)) / 2
    near = np.roll(pictures, whole - 1, axis) + np.roll(pictures, whole + 1, axis)
    return near / 4 + np.roll(pictures, whole, axis) / 2


def clusters(count: int, links: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """(count,): number of the cluster of each row, where linked rows lie in one."""
    parent = list(range(count))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for one, other in links:
        parent[max(root(one), root(other))] = min(root(one), root(other))
    return np.array([root(row) for row in range(count)], np.int64)
