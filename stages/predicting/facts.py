"""What a model's training rows were like, in a file beside its card: `train` writes it, `predict` compares with it.

Facts of files (codec, color mode, size, JPEG quality) tell the reader what is new; a model sees none of them after its
own first steps, so they decide nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StageError
from stages.evaluation.json_file import read_json

FILE = "facts.json"
FORMAT = 1


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
    """validation_reals: (n,) scores of the validation rows that are real."""

    validation_reals: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))

    def outside(self, content: bytes | None, picture: NDArray[np.uint8] | None) -> list[Outside]:
        """What an image has that the training rows did not. picture: after the model's last picture step."""
        return []


def write_facts(folder: Path, validation_reals: NDArray[np.float32]) -> None:
    """Write the file into a model's folder."""
    data = {"format": FORMAT, "validation_reals": np.sort(validation_reals).tolist()}
    (folder / FILE).write_text(json.dumps(data, sort_keys=True) + "\n", encoding="utf-8")


def read_facts(folder: Path) -> TrainingFacts | None:
    """The facts in a model's folder; None: of an earlier version. Raises StageError for a damaged file."""
    path = folder / FILE
    if not path.exists():
        return None
    data: Mapping[str, Any] = read_json(path)
    if data.get("format") != FORMAT:
        raise StageError(f"{path} has another format than {FORMAT}, which this version reads; train again")
    scores = data.get("validation_reals")
    if not isinstance(scores, list) or not all(type(one) in (int, float) and 0 <= one <= 1 for one in scores):
        raise StageError(f"{path} holds no scores of validation reals between 0 and 1; train again")
    return TrainingFacts(np.array(scores, np.float32))
