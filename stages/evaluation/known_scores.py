"""Scores that an evaluation of the same detector has made before: of rows that are still the same, none is made again.

A row is the same where its chain, its id and the digest of its values are: then so is its score, since the bytes of a
score depend on no neighbor. Whatever else a row is by now (its variant, group or split) is no business of its score.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline import ids
from pipeline.stage import Rows

SCORES = "scores.npz"
"""File of an evaluation with an entry per scored row."""


class _Kept(NamedTuple):
    """Rows of a chain, sorted by id: (n,) V16, digests of their values (n,) V16, and scores (n,) float32."""

    ids: NDArray[np.void]
    digests: NDArray[np.void]
    scores: NDArray[np.float32]


class KnownScores:
    """Scores by chain and row. folders: earlier evaluations, opened one by one as long as a score is wanted."""

    def __init__(self, folders: Iterator[Path]) -> None:
        self._folders = folders
        self._chains: dict[str, list[_Kept]] = {}

    def of(self, view: Rows) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores (n,) of the rows, and the positions of those that nobody has scored yet, whose entries say nothing."""
        scores, open_rows = np.zeros(len(view), np.float32), np.arange(len(view))
        digests, chains = view.digests(), chains_of(view)
        while True:
            open_rows = self._fill(scores, open_rows, view.ids, digests, chains)
            folder = next(self._folders, None) if len(open_rows) else None
            if folder is None:
                return scores, open_rows
            with suppress(FileNotFoundError):  # another process removed it
                self._read(folder)

    def add(self, view: Rows, scores: NDArray[np.float32]) -> None:
        """Scores (n,) of rows."""
        self._keep(chains_of(view), view.ids, view.digests(), scores)

    def _read(self, folder: Path) -> None:
        with np.load(folder / SCORES, allow_pickle=False) as file:
            chains = file["chains"][file["chain"]] if len(file["chain"]) else np.zeros(0, str)
            self._keep(chains, file["id"], file["digest"], file["score"])

    def _keep(
        self, chains: NDArray[np.str_], rows: NDArray[np.void], digests: NDArray[np.void], scores: NDArray[np.float32]
    ) -> None:
        for chain in np.unique(chains).tolist():
            mine = np.flatnonzero(chains == chain)
            mine = mine[ids.order(rows[mine])]
            self._chains.setdefault(chain, []).append(_Kept(rows[mine], digests[mine], scores[mine]))

    def _fill(
        self,
        scores: NDArray[np.float32],
        open_rows: NDArray[np.int64],
        rows: NDArray[np.void],
        digests: NDArray[np.void],
        chains: NDArray[np.str_],
    ) -> NDArray[np.int64]:
        """Enter what is known of the open rows; returns those that stay open."""
        for chain in np.unique(chains[open_rows]).tolist():
            for kept in self._chains.get(chain, ()):
                mine = open_rows[chains[open_rows] == chain]
                places = ids.lookup(kept.ids, rows[mine])
                same = places >= 0
                same[same] = kept.digests[places[same]] == digests[mine[same]]
                scores[mine[same]] = kept.scores[places[same]]
                open_rows = np.setdiff1d(open_rows, mine[same], assume_unique=True)
        return open_rows


def chains_of(view: Rows) -> NDArray[np.str_]:
    """(n,) chain of each row, in hexadecimal digits."""
    chains = np.array([bytes(part.chain).hex() for part in view.parts] or [""])
    return chains[view.part_numbers]
