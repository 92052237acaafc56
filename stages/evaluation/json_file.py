"""JSON files of artifacts: cards, logs, results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.errors import StageError


def read_json(path: Path, kind: type = dict) -> Any:
    """The object or list in a file. Raises StageError if there is none of that kind."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StageError(
            f"{path} is not readable as JSON ({error}); remove the folder it lies in, and the next run makes it again"
        ) from None
    if not isinstance(found, kind):
        expected = "an object" if kind is dict else f"a {kind.__name__}"
        raise StageError(
            f"{path} is a JSON {type(found).__name__}, expected {expected}; remove the folder it lies in, and the next "
            "run makes it again"
        )
    return found
