"""Which detectors are baselines: those that read nothing but single numbers of an image or its file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MEASURE = "measure"
"""Stage whose fields are such numbers."""


def is_baseline(results: Mapping[str, Any]) -> bool:
    """Whether `results.json` of an evaluation is of a detector whose rows all come from the stage `measure`."""
    made_from = results["model"].get("made_from")
    return bool(made_from) and all(step["stage"] == MEASURE for step in made_from)
