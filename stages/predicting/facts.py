"""What an image has that a model's training rows did not: in its file, and in its picture.

Codec, color mode, size and JPEG quality tell the reader what is new; after its own first steps a model sees none of
them, so they decide nothing. A picture (after the model's last picture step) is far outside where a statistic of the
audit lies beyond the range of the training rows and more than a tenth of that range away: ends of a range are not known
well, and with forty statistics one in nine pictures of the same source would lie beyond one of them (measured on
photographs of clothing; with the tenth one in thirty).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StageError
from stages.evaluation.json_file import read_json
from stages.training.kept_facts import FILE, FORMAT

MARGIN = 0.1
"""Of a range, beyond its ends."""

LEAST_MARGIN = 1e-3
"""In the units of a statistic, for one that all training rows have alike."""


@dataclass(frozen=True)
class Outside:
    """Something that the training rows did not have. far: so that the verdict is not to be trusted."""

    fact: str
    value: str | float
    seen: str | list[float]
    far: bool = False

    def as_data(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"fact": self.fact, "value": self.value, "seen": self.seen, "far": self.far}


@dataclass(frozen=True)
class TrainingFacts:
    """Of a model's training rows.

    validation_reals  (n,) scores of the validation rows that are real
    files             values of codec and mode, ranges of width, height and quality; nothing if they were no files
    statistics        statistic of the audit -> its range
    """

    validation_reals: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    files: Mapping[str, Any] = field(default_factory=dict)
    statistics: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def outside(self, content: bytes | None, picture: NDArray[np.uint8] | None) -> list[Outside]:
        """What an image has that the training rows did not. picture: after the model's last picture step."""
        return [*(self._of_file(content) if content is not None else ()), *self._of_picture(picture)]

    def _of_file(self, content: bytes) -> list[Outside]:
        """Facts of a file that none of the training files had."""
        from stages.images.containers import inspect
        from stages.images.jpeg_quality import nearest_quality

        if not self.files:
            return []
        container, found = inspect(content), []
        for name, value in (("codec", container.codec), ("mode", container.mode)):
            if value not in self.files.get(name, [value]):
                found.append(Outside(name, value, ", ".join(self.files[name])))
        sides = {"width": container.width, "height": container.height}
        if any(_beyond(side, self.files.get(name)) for name, side in sides.items()):
            seen = " and ".join(f"{name} {self.files[name][0]} to {self.files[name][1]}" for name in sides)
            found.append(Outside("size", f"{container.width}x{container.height}", seen))
        luma = container.quantization[0]
        if luma.any() and _beyond(nearest_quality(luma), self.files.get("quality")):
            qualities = [float(one) for one in self.files["quality"]]
            found.append(Outside("quality", float(nearest_quality(luma)), qualities))
        return found

    def _of_picture(self, picture: NDArray[np.uint8] | None) -> list[Outside]:
        """Statistics far beyond their range."""
        from stages.auditing.pixels import STATISTICS
        from stages.training.kept_facts import statistics_of

        if picture is None or not self.statistics:
            return []
        found = []
        for name, value in zip(STATISTICS, statistics_of(picture).tolist(), strict=True):
            if name in self.statistics:
                low, high = self.statistics[name]
                margin = max(MARGIN * (high - low), LEAST_MARGIN)
                if not low - margin <= value <= high + margin:
                    found.append(Outside(name, value, [low, high], True))
        return found


def _beyond(value: float, seen: Any) -> bool:
    return seen is not None and not seen[0] <= value <= seen[1]


def read_facts(folder: Path) -> TrainingFacts | None:
    """The facts in a model's folder; None: of an earlier version. Raises StageError for a damaged file."""
    path = folder / FILE
    if not path.exists():
        return None
    data: Mapping[str, Any] = read_json(path)
    if data.get("format") != FORMAT:
        raise StageError(f"{path} has another format than {FORMAT}, which this version reads; train again")
    scores, files, statistics = (data.get(name) for name in ("validation_reals", "files", "statistics"))
    if not isinstance(scores, list) or not all(_number(one) and 0 <= one <= 1 for one in scores):
        raise StageError(f"{path} holds no scores of validation reals between 0 and 1; train again")
    if not isinstance(statistics, dict) or not all(_is_range(one) for one in statistics.values()):
        raise StageError(f"{path} holds no ranges of statistics; train again")
    if not isinstance(files, dict) or not all(
        isinstance(one, list) and (all(isinstance(word, str) for word in one) if name in WORDS else _is_range(one))
        for name, one in files.items()
    ):
        raise StageError(f"{path} holds no facts of files; train again")
    ranges = {name: (float(low), float(high)) for name, (low, high) in statistics.items()}
    return TrainingFacts(np.array(scores, np.float32), files, ranges)


WORDS = ("codec", "mode")


def _number(one: Any) -> bool:
    return type(one) in (int, float) and math.isfinite(one)


def _is_range(one: Any) -> bool:
    return isinstance(one, list) and len(one) == 2 and all(map(_number, one)) and one[0] <= one[1]
