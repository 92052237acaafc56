"""Rows of a figure, told apart by label, source and the steps that they went through."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.stage import Rows
from stages.evaluation.class_differences import processing
from stages.reporting.tables import steps_text


@dataclass(frozen=True)
class Series:
    """Rows of one source that went through the same steps, sorted by id."""

    label: int
    source: str
    steps: str  # from the origin to here, as short as tells it from the source's other series
    alone: bool  # whether the source has no other series
    rows: Rows

    @property
    def name(self) -> str:
        return self.source if self.alone else f"{self.source} ({self.steps})"


def series(rows: Rows) -> list[Series]:
    """Rows by label, source and steps: perturbed images are never mixed with those that they were made from."""
    parts = [processing(part.steps) for part in rows.parts]
    full = np.array([steps_text(steps) for steps in parts])[rows.part_numbers]
    names = {steps_text(steps): " → ".join(step["stage"] for step in steps) for steps in parts}
    labels, sources = rows.column("label"), rows.column("source")
    columns = (labels.tolist(), sources.tolist(), full.tolist())
    keys = sorted(set(zip(*columns, strict=True)), key=lambda key: (*key[:2], key[2].count("→"), key[2]))
    found = []
    for label, source, text in keys:
        mine = np.flatnonzero((labels == label) & (sources == source) & (full == text))
        words = np.ascontiguousarray(rows.ids[mine]).view(">u8").reshape(-1, 2)
        others = [key[2] for key in keys if key[:2] == (label, source) and key[2] != text]
        short = text if names[text] in [names[other] for other in others] else names[text]
        chosen = rows.take(mine[np.lexsort((words[:, 1], words[:, 0]))])
        found.append(Series(int(label), str(source), short or "as generated or read", not others, chosen))
    return found
