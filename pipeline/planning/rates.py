"""Recorded speeds of stages, for the estimates of `plan`: a disposable file in the store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pipeline import atomic


def read_rates(root: Path) -> dict[str, float]:
    """Stage -> rows per second of one worker; empty if nothing was recorded (or the file is damaged)."""
    try:
        found = json.loads((root / ".cache" / "rates.json").read_bytes())
        return {str(stage): float(rate) for stage, rate in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def record_rates(root: Path, done: Mapping[str, tuple[int, float]]) -> None:
    """done: stage -> (rows, seconds of work)."""
    fresh = {stage: rows / seconds for stage, (rows, seconds) in done.items() if rows and seconds > 0}
    if fresh:
        data = json.dumps({**read_rates(root), **fresh}, indent=2, sort_keys=True).encode()
        atomic.write_bytes(root / ".cache" / "rates.json", data, durable=False)
