"""A process that is killed in the midst of writing a small file."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from pipeline import atomic
from pipeline.inputs import statcache
from pipeline.planning import pins
from pipeline.stage import Artifact


def killed_writer(case: dict[str, str]) -> None:
    """case: what is written ("file", "stats" or "pin"), its place, and a folder that an artifact has."""
    place = Path(case["place"])

    def die(*_arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = os.replace = os.rename = Path.replace = die  # type: ignore[assignment, method-assign]
    if case["what"] == "file":
        atomic.write_bytes(place, b"half of it")
    elif case["what"] == "stats":
        cache = statcache.StatCache(place)
        cache.put("key", statcache.EMPTY)
        cache.save()
    else:
        artifact = Artifact("node", "ab" * 16, Path(case["source"]), {})
        pins.write_pin(place, "node", artifact, {"artifact.json": "0" * 64})
