"""Tables of all evaluations: `table.json`, the counts on top of the page, and how a step is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.stage import POOLED
from stages.evaluation.class_differences import text
from stages.reporting.section import Results


def flat(evaluations: Sequence[Results]) -> list[dict[str, Any]]:
    """One entry per detector, training source, variant and test source, with everything that `evaluate` found."""
    return [
        {
            "node": results["model"]["node"],
            "model": results["model"]["key"],
            "detector": results["model"]["detector"],
            "family": results["model"]["family"],
            "feature": results["model"]["config"]["feature"],
            "trained_on": results["model"]["trained_on"],
            "chains": results["model"]["chains"],
            "split": results["split"],
            **row,
        }
        for results in evaluations
        for row in results["rows"]
    ]


def null_results(evaluations: Sequence[Results]) -> list[dict[str, Any]]:
    """One entry per evaluation and variant that has reals: one half of them against the other."""
    return [{"node": one["model"]["node"], **half} for one in evaluations for half in one["null"]]


def head(evaluations: Sequence[Results], places: Sequence[Path]) -> dict[str, Any]:
    """Counts on top; rows are counted once, in one variant."""
    named = variants(evaluations)
    splits = sorted({results["split"] for results in evaluations})
    sources = {row["source"] for results in evaluations for row in results["rows"]} - {POOLED}
    variant = base_variant(evaluations)
    reals, fakes = _distinct_rows(evaluations, places, variant)
    split = " and ".join(splits)
    of = f" of variant {variant}" if len(named) > 1 else ""
    values = [
        ("detectors" if len(evaluations) != 1 else "detector", len(evaluations)),
        ("sources of fakes" if len(sources) != 1 else "source of fakes", len(sources)),
        ("variants" if len(named) != 1 else "variant", len(named)),
        (f"real {split} rows{of}", reals),
        (f"fake {split} rows{of}", fakes),
    ]
    return {
        "subtitle": f"Scores of fake-image detectors on rows of split {split}.",
        "counts": " · ".join(f"{value:,} {name}" for name, value in values),
    }


def _distinct_rows(evaluations: Sequence[Results], places: Sequence[Path], variant: str) -> tuple[int, int]:
    """How many different real and fake rows the evaluations scored in a variant (reals where it borrows them).

    Samples of two generators that were made from one seed have one id, so a row is told by its source and id.
    """
    found: tuple[set[tuple[str, bytes]], set[tuple[str, bytes]]] = (set(), set())
    for results, place in zip(evaluations, places, strict=True):
        facts = results["variants"].get(variant)
        if facts is None:
            continue
        with np.load(place / "scores.npz", allow_pickle=False) as file:
            ids, labels, numbers, known = (file[name] for name in ("id", "label", "variant", "variants"))
            sources = file["sources"][file["source"]]
        for label, name in enumerate((facts["reals_from"], variant)):
            chosen = (labels == label) & (numbers == known.tolist().index(name))
            found[label].update(zip(sources[chosen].tolist(), ids[chosen].tolist(), strict=True))
    return len(found[0]), len(found[1])


def variants(evaluations: Sequence[Results]) -> list[str]:
    """In the order in which evaluations list their rows."""
    return list(dict.fromkeys(row["variant"] for results in evaluations for row in results["rows"]))


def base_variant(evaluations: Sequence[Results]) -> str:
    """The one that figures and counts are of: `raw`, or else the first."""
    found = variants(evaluations)
    return "raw" if "raw" in found else found[0]


def steps_text(steps: Sequence[Mapping[str, Any]]) -> str:
    """`ingest → equalize(size 64)`."""
    return " → ".join(_step(step) for step in steps)


def _step(step: Mapping[str, Any]) -> str:
    """`equalize(size 64)`: the settings that are short and set."""
    config = step.get("config") or {}
    shown = [f"{name} {text(value)}" for name, value in config.items() if _short(value)]
    return f"{step['stage']}({', '.join(shown[:4])}{', …' if len(shown) > 4 else ''})" if shown else str(step["stage"])


def _short(value: Any) -> bool:
    return value is not None and not isinstance(value, bool | Mapping) and len(text(value)) <= 24 and value != []
