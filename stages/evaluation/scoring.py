"""Scores of detectors on the rows of an evaluation: each row is read once, however many detectors want it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StageError
from pipeline.stage import FitContext, Rows
from stages.evaluation.detector_file import Detector
from stages.evaluation.known_scores import KnownScores

BLOCK_ROWS = 512


class Scorer:
    """One detector on its way through the rows. scores: variant -> (n,) float32. ctx: of its own evaluation."""

    def __init__(self, detector: Detector, ctx: FitContext) -> None:
        self.detector, self.ctx = detector, ctx
        self.scores: dict[str, NDArray[np.float32]] = {}
        self._known = KnownScores(one.path for one in ctx.earlier())
        self._open: NDArray[np.int64] = np.zeros(0, np.int64)

    def begin(self, name: str, view: Rows) -> NDArray[np.int64]:
        """Take over what is known of a variant; the positions, ascending, of the rows that are still to be scored."""
        self.scores[name], self._open = self._known.of(view)
        return self._open

    def score(self, name: str, positions: NDArray[np.int64], block: NDArray[np.generic]) -> None:
        """Score those of the rows at some positions that are open. block: their features as stored."""
        mine = np.isin(positions, self._open, assume_unique=True)
        if mine.any():
            chosen = block if mine.all() else block[mine]
            self.scores[name][positions[mine]] = self.detector.scores([chosen], self.ctx.device)

    def end(self, name: str, view: Rows) -> None:
        """Keep the scores for variants that have some of the rows too."""
        if len(self._open):
            self._known.add(view.take(self._open), self.scores[name][self._open])


def score_all(scorers: Sequence[Scorer], variants: Mapping[str, Rows]) -> None:
    """Score each variant's rows by detectors that read the same fields, with progress over all rows.

    Raises StageError where the fields differ.
    """
    fields = {one.detector.fields for one in scorers}
    if len(fields) > 1:
        raise StageError(f"detectors that read {' and '.join(sorted(map(str, fields)))} cannot share rows")
    total, done = sum(len(view) for view in variants.values()), 0
    for name, view in variants.items():
        wanted = np.unique(np.concatenate([one.begin(name, view) for one in scorers]))
        done += len(view) - len(wanted)
        _report(scorers, done, total)
        start = 0
        for block in scorers[0].detector.rows(view.take(wanted)).blocks(BLOCK_ROWS):
            positions = wanted[start : start + len(block)]
            for one in scorers:
                one.score(name, positions, block)
            start += len(block)
            _report(scorers, done + start, total)
        done += len(wanted)
        for one in scorers:
            one.end(name, view)


def _report(scorers: Sequence[Scorer], done: int, total: int) -> None:
    for one in scorers:
        one.ctx.report(done, total)
