"""Files of golden vectors as tests read them; what a set lacks is told at the end of the run."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

MISSING: list[str] = []


class Golden:
    """One .npz file of reference vectors; keys that it lacks are reported at the end of the run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with np.load(path, allow_pickle=False) as file:
            self.arrays: dict[str, np.ndarray[Any, Any]] = {key: file[key] for key in file.files}

    def __contains__(self, key: str) -> bool:
        if key in self.arrays:
            return True
        MISSING.append(f"{self.path.name}: {key}")
        return False

    def __getitem__(self, key: str) -> np.ndarray[Any, Any]:
        return self.arrays[key]

    def keys(self) -> list[str]:
        return list(self.arrays)

    def matches(self, pattern: str) -> list[re.Match[str]]:
        """Of all keys that match as a whole, so that numbers in them may be others; a file without any fails."""
        found = [match for match in (re.fullmatch(pattern, key) for key in self.arrays) if match]
        assert found, f"{self.path.name} has no key {pattern}"
        return found


class GoldenDocument:
    """One .json file of reference values, and the arrays that lie beside it."""

    def __init__(self, path: Path) -> None:
        self.path, self.content = path, document(path)

    def __contains__(self, key: str) -> bool:
        if key in self.content:
            return True
        MISSING.append(f"{self.path.name}: {key}")
        return False

    def __getitem__(self, key: str) -> Any:
        return self.content[key]

    def beside(self, name: str) -> dict[str, np.ndarray[Any, Any]]:
        """Arrays of an .npz file of the same folder."""
        return Golden(self.path.parent / name).arrays


@cache
def document(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
