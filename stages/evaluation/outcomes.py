"""Scored rows of a variant, and votes: what was made of one file or sample, as frames of a video, decides together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import ids
from pipeline.stage import REAL, Rows
from stages.evaluation.halves import null_result
from stages.evaluation.known_scores import chains_of

HALF = 0.5
"""Share of votes from which on a file or sample is called fake."""


@dataclass(frozen=True)
class Outcomes:
    """One entry per row: scores float32, labels, sources, groups V16, ids V16, digests of values V16, chains in hex."""

    scores: NDArray[np.float32]
    labels: NDArray[np.uint8]
    sources: NDArray[np.str_]
    groups: NDArray[np.void]
    ids: NDArray[np.void]
    digests: NDArray[np.void]
    chains: NDArray[np.str_]

    @classmethod
    def of(cls, view: Rows, scores: NDArray[np.float32]) -> Outcomes:
        """scores: (n,) of the rows of the view."""
        label, source, group = (view.column(name) for name in ("label", "source", "group"))
        return cls(scores, label, source, group, view.ids, view.digests(), chains_of(view))

    def where(self, chosen: NDArray[Any]) -> Outcomes:
        """Some of the rows, by a mask or by their positions."""
        return Outcomes(**{name: column[chosen] for name, column in vars(self).items()})

    def halves(self) -> dict[str, Any]:
        """The null result of its reals."""
        reals = self.where(self.labels == REAL)
        return null_result(reals.scores, reals.groups, numbers(reals.groups))

    def voted(self, origins: NDArray[np.void], threshold: float) -> Outcomes:
        """An entry per origin, label and source, whose score is the share of its rows at or above the threshold.

        origins: (n,) V16, the id of the file or sample that each row was made of; an entry has it as its id. Digests
        are 0: no row has such a score.
        """
        words, places = np.unique(self.sources, return_inverse=True)
        key = (numbers(origins) * len(words) + places) * 2 + self.labels
        _, first, entry = np.unique(key, return_index=True, return_inverse=True)
        share = np.bincount(entry, self.scores >= threshold) / np.bincount(entry)
        found = {name: column[first] for name, column in vars(self).items()}
        found |= {"scores": share.astype(np.float32), "ids": origins[first], "digests": np.zeros(len(first), "V16")}
        return Outcomes(**found)


def numbers(names: NDArray[np.void]) -> NDArray[np.int64]:
    """(n,) the same number for the same V16."""
    return ids.lookup(ids.unique(names), names)
