"""Recorded speeds of stages and durations of fits, for the estimates of `plan`: a disposable file in the store.

The first task of a process imports and compiles what later ones find ready, so the speed of a stage is that of its
fastest task, and a run of a few rows does not replace what a longer one has measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from pipeline import atomic

FEW = 64
"""Rows; a speed that was measured on fewer says little."""


@dataclass(frozen=True)
class Rates:
    """rows: stage -> rows per second of one worker. fits: node -> (stage, seconds of its last artifact)."""

    rows: Mapping[str, float] = field(default_factory=dict)
    fits: Mapping[str, tuple[str, float]] = field(default_factory=dict)

    def seconds_of_fit(self, node: str, stage: str) -> float | None:
        """What an artifact of a node took last; else the mean of those of its stage; None: none was ever made."""
        if node in self.fits:
            return self.fits[node][1]
        alike = [seconds for other, seconds in self.fits.values() if other == stage]
        return fmean(alike) if alike else None


def read_rates(root: Path) -> Rates:
    """What was recorded; nothing if the file is missing or damaged."""
    try:
        found = json.loads((root / ".cache" / "rates.json").read_bytes())
        rows = {str(stage): float(rate) for stage, rate in found["rows"].items()}
        fits = {str(node): (str(stage), float(seconds)) for node, (stage, seconds) in found["fits"].items()}
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return Rates()
    return Rates(rows, fits)


def record_rates(
    root: Path, tasks: Mapping[str, list[tuple[int, float]]], fits: Mapping[str, tuple[str, float]]
) -> None:
    """tasks: stage -> rows and seconds of each of its tasks; fits: node -> (stage, seconds)."""
    before = read_rates(root)
    fresh = {}
    for stage, done in tasks.items():
        rates = [rows / seconds for rows, seconds in done if rows and seconds > 0]
        if rates and (stage not in before.rows or sum(rows for rows, _ in done) >= FEW):
            fresh[stage] = max(rates)
    if fresh or fits:
        found = {"rows": {**before.rows, **fresh}, "fits": {**before.fits, **fits}}
        data = json.dumps(found, indent=2, sort_keys=True).encode()
        atomic.write_bytes(root / ".cache" / "rates.json", data, durable=False)
