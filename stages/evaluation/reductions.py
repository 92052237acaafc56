"""By what factors images were reduced between their origin and a detector, step by step, from what `equalize` recorded.

A row may pass several `equalize` nodes. Each of them resamples, so each is looked at: an audit that saw the last one
only would find no difference between photographs that were reduced before it and samples that were not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.stage import Rows
from stages.evaluation.class_differences import Difference, Step, origin

STAGE, FIELD = "equalize", "reduction"

Range = tuple[float, float]


class Reductions:
    """Least and largest factor per `equalize` step of a lineage, label and source."""

    def __init__(self, rows: Rows | None) -> None:
        """rows: rows of nodes that all have the field `reduction`, or None."""
        self.seen: list[tuple[list[Step], int, str, Range]] = []
        if rows is None:
            return
        numbers, labels, sources = rows.part_numbers, rows.column("label"), rows.column("source")
        factors = rows.array(FIELD)
        for number, label, source in sorted(set(zip(numbers.tolist(), labels.tolist(), sources.tolist(), strict=True))):
            chosen = factors[(numbers == number) & (labels == label) & (sources == source)]
            steps = json.loads(json.dumps(rows.parts[number].steps))  # as evaluations write them
            self.seen.append((steps, label, source, (float(chosen.min()), float(chosen.max()))))

    def along(self, steps: Sequence[Step], label: int, source: str) -> list[Range] | None:
        """Factors of each `equalize` step after the origin, in order; None where one of them was not seen."""
        found: list[Range] = []
        for end in range(origin(steps) + 1, len(steps)):
            if steps[end]["stage"] == STAGE:
                ranges = [
                    known
                    for part, its_label, its_source, known in self.seen
                    if (its_label, its_source) == (label, source) and _ends(steps, end, part)
                ]
                if not ranges:
                    return None
                found.append((min(low for low, _ in ranges), max(high for _, high in ranges)))
        return found

    def differences(self, results: Mapping[str, Any]) -> list[Difference]:
        """Factors that are not the same for the real and the fake rows of one evaluation."""
        found = []
        for variant, facts in results["variants"].items():
            reals = self._told(results, results["variants"][facts["reals_from"]]["parts"], 0)
            fakes = self._told(results, facts["parts"], 1)
            for real in dict.fromkeys(reals.values()):
                found += [
                    Difference("reduction", real, fake, (variant,), (source,))
                    for source, fake in fakes.items()
                    if fake != real
                ]
        return found

    def unseen(self, results: Mapping[str, Any]) -> list[tuple[int, str]]:
        """(label, source) of evaluated rows of which some step's factors are not known; reals first."""
        return sorted({
            (label, source)
            for facts in results["variants"].values()
            for part in facts["parts"]
            for label, kind in enumerate(("real", "fake"))
            for source in part["sources"]
            if part[kind] and self.along(results["steps"][part["chain"]], label, source) is None
        })  # fmt: skip

    def _told(self, results: Mapping[str, Any], parts: Sequence[Mapping[str, Any]], label: int) -> dict[str, str]:
        """Source -> its factors in words, where they are known."""
        found = {}
        for part in parts:
            for source in part["sources"] if part["fake" if label else "real"] else ():
                ranges = self.along(results["steps"][part["chain"]], label, source)
                if ranges is not None:
                    found[source] = told(ranges)
        return found


def told(ranges: Sequence[Range]) -> str:
    """`native size`, `reduced by 2`, `reduced by 1.5 to 3, then by 2`; factors below 1 enlarge."""
    words = [_factor(*one) for one in ranges if one != (1.0, 1.0)]
    return f"reduced by {', then by '.join(words)}" if words else "native size"


def _factor(low: float, high: float) -> str:
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"


def _ends(steps: Sequence[Step], end: int, part: list[Step]) -> bool:
    """Whether the lineage `part` is that of the step `end`: with two inputs, the lineages of both stand in a row."""
    return list(steps[max(end + 1 - len(part), 0) : end + 1]) == part
