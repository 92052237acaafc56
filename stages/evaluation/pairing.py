"""Scores that an evaluation has kept, and two detectors on the rows that both have scored."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.stage import FAKE, POOLED, REAL
from stages.evaluation.intervals import difference
from stages.evaluation.json_file import read_json
from stages.evaluation.metrics import Interval

SCORES, RESULTS = "scores.npz", "results.json"

Key = tuple[int, str, bytes]
"""Label, source and id of a row: samples of two generators that were made from one seed have one id."""


@dataclass(frozen=True)
class Rows:
    """Rows of one comparison: scores (n,), labels (n,) and groups (n,) V16, each row under its key."""

    keys: list[Key]
    scores: NDArray[np.float32]
    labels: NDArray[np.uint8]
    groups: NDArray[np.void]

    def take(self, places: list[int]) -> Rows:
        keys = [self.keys[place] for place in places]
        return Rows(keys, self.scores[places], self.labels[places], self.groups[places])


class Scored:
    """An evaluation's folder."""

    def __init__(self, place: Path) -> None:
        self.place = place

    @cached_property
    def results(self) -> dict[str, Any]:
        """`results.json`."""
        return dict(read_json(self.place / RESULTS))

    @cached_property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """`scores.npz`."""
        with np.load(self.place / SCORES, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    def rows(self, variant: str, source: str = POOLED) -> Rows:
        """Rows that a line of the results is of: the fakes of a source in a variant, and the reals beside them."""
        arrays, known = self.arrays, self.arrays["variants"].tolist()
        reals = known.index(self.results["variants"][variant]["reals_from"])
        sources = arrays["sources"][arrays["source"]]
        fake = (arrays["label"] == FAKE) & (arrays["variant"] == known.index(variant))
        if source != POOLED:
            fake &= sources == source
        chosen = np.flatnonzero(fake | ((arrays["label"] == REAL) & (arrays["variant"] == reals)))
        labels = arrays["label"][chosen]
        ids = [bytes(one) for one in arrays["id"][chosen]]
        keys = list(zip(labels.tolist(), sources[chosen].tolist(), ids, strict=True))
        return Rows(keys, arrays["score"][chosen], labels, arrays["group"][chosen])

    @property
    def threshold(self) -> float:
        """That of the detector."""
        return float(self.results["model"]["threshold"])


@dataclass(frozen=True)
class Compared:
    """Metric -> difference of the first to the second and its interval, on `rows` rows that both have scored."""

    rows: int
    differences: dict[str, tuple[float, Interval]]


def _once(keys: list[Key]) -> dict[Key, int]:
    """Key -> place of those that stand there once, in their order."""
    count = Counter(keys)
    return {key: place for place, key in enumerate(keys) if count[key] == 1}


def compared(first: Scored, second: Scored, variant: str, source: str = POOLED, turned: bool = False) -> Compared:
    """Two detectors on the same rows of a line of the results.

    A row that a variant holds in several ways, as two perturbations of one image, has no partner and is left out.

    turned: take the scores of the second with the opposite sign, so that its areas are those of the other direction
    """
    one, two = first.rows(variant, source), second.rows(variant, source)
    mine_once, places = _once(one.keys), _once(two.keys)
    common = [place for key, place in mine_once.items() if key in places]
    mine, theirs = one.take(common), two.take([places[one.keys[place]] for place in common])
    groups = np.unique(mine.groups.view("S16"), return_inverse=True)[1]
    scores = -theirs.scores if turned else theirs.scores
    found = difference(mine.scores, scores, mine.labels, groups, (first.threshold, second.threshold))
    return Compared(len(common), found)
