"""The matrices of the results, one per variant: detectors down, sources of fakes across, mean and minimum at the end.

What the page shows is the first metric; the others lie in the data that the page offers as a download, from which its
script shows them.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.stage import POOLED
from stages.reporting.names import Name
from stages.reporting.section import Results
from stages.reporting.tables import variants

METRICS = {
    "AUC": "auc",
    "AP": "ap",
    "Balanced accuracy": "balanced_accuracy",
    "Accuracy": "accuracy",
    "TPR": "tpr",
    "TNR": "tnr",
}
"""Word of the switch -> metric of `evaluate`."""

SHADES = 20
"""Steps of color from 0 to 1: half of them is neutral, as 0.5 is chance or a coin's rate."""

DIGITS = 6


def data(evaluations: Sequence[Results], names: Sequence[Name]) -> dict[str, Any]:
    """Plain data of all matrices: of each cell the value, and the ends of its interval, of every metric; null: none."""
    found = []
    for variant in variants(evaluations):
        sources = sources_of(evaluations, variant)
        rows = []
        for results, name in zip(evaluations, names, strict=True):
            cells = {row["source"]: row for row in results["rows"] if row["variant"] == variant}
            if cells:
                rows.append({
                    "detector": name.detector,
                    "trained_on": results["model"]["trained_on"],
                    "node": results["model"]["node"],
                    "key": results["model"]["key"],
                    "cells": [_cell(cells.get(source)) for source in sources],
                })  # fmt: skip
        found.append({
            "variant": variant, "reals": reals_of(evaluations, variant), "sources": sources, "rows": rows,
        })  # fmt: skip
    return {"metrics": METRICS, "shades": SHADES, "matrices": found}


def _cell(row: Mapping[str, Any] | None) -> list[list[float] | None]:
    return [None if row is None or row[name] is None else _rounded(row[name], *row[f"{name}_interval"])
            for name in METRICS.values()]  # fmt: skip


def _rounded(*values: float) -> list[float]:
    return [round(value, DIGITS) for value in values]


def shown(matrices: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the template prints of each matrix, in the first metric."""
    return [
        {**matrix, "called": " ".join(filter(None, (matrix["variant"], matrix["reals"] and f"({matrix['reals']})"))),
         "rows": [_row(row, matrix["sources"]) for row in matrix["rows"]]}
        for matrix in matrices["matrices"]
    ]  # fmt: skip


def _row(row: Mapping[str, Any], sources: Sequence[str]) -> dict[str, Any]:
    values = [None if cell[0] is None else cell[0][0] for cell in row["cells"]]
    known = [value for value in values if value is not None]
    ends = [sum(known) / len(known), min(known)] if known else [None, None]
    return {
        "detector": row["detector"],
        "trained_on": ", ".join(row["trained_on"]),
        "anchor": f"model-{row['key'][:12]}",
        "cells": [{"home": source in row["trained_on"], **_shown(value)}
                  for source, value in zip(sources, values, strict=True)],
        "ends": [_shown(value) for value in ends],
    }  # fmt: skip


def _shown(value: float | None) -> dict[str, str]:
    if value is None:
        return {"text": "", "shade": ""}
    return {"text": f"{value:.3f}", "shade": f"s{int(value * SHADES + 0.5)}"}


def shades() -> str:
    """Style of the cells: half is neutral, blue above and orange below; far from it the letters are light."""
    lines = []
    for shade in range(SHADES + 1):
        share = round(200 * abs(shade / SHADES - 0.5))
        color = "--high" if 2 * shade > SHADES else "--low"
        letters = "; color: #ffffff" if share >= 70 else ""
        lines.append(
            f".s{shade} {{ background: color-mix(in srgb, var({color}) {share}%, var(--plain-wash)){letters}; }}"
        )
    return "\n".join(lines) + "\n"


def sources_of(evaluations: Sequence[Results], variant: str) -> list[str]:
    """Sources of fakes of a variant."""
    found = {row["source"] for one in evaluations for row in one["rows"] if row["variant"] == variant}
    return sorted(found - {POOLED})


def reals_of(evaluations: Sequence[Results], variant: str) -> str:
    """`reals of raw` where a variant has none of its own, so that fakes alone were perturbed or equalized; else ""."""
    found = {one["variants"][variant]["reals_from"] for one in evaluations if variant in one["variants"]} - {variant}
    return f"reals of {' or '.join(sorted(found))}" if found else ""


def as_json(matrices: Mapping[str, Any]) -> str:
    """Data URI."""
    return _uri("application/json", json.dumps(matrices, ensure_ascii=False, separators=(",", ":")))


def as_csv(evaluations: Sequence[Results], names: Sequence[Name], metrics: Sequence[str]) -> str:
    """Data URI: a line per detector, variant and source, with every metric and the ends of its interval."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    ends = [f"{name}{end}" for name in metrics for end in ("", "_low", "_high")]
    writer.writerow(["detector", "trained_on", "node", "variant", "source", "n_real", "n_fake", "few_groups", *ends])
    for results, name in zip(evaluations, names, strict=True):
        for row in results["rows"]:
            about = [row["variant"], row["source"], row["n_real"], row["n_fake"], row["few_groups"]]
            numbers = [number for metric in metrics
                       for number in (row.get(metric), *(row.get(f"{metric}_interval") or (None, None)))]  # fmt: skip
            writer.writerow([name.detector, name.trained_on, results["model"]["node"], *about, *numbers])
    return _uri("text/csv;charset=utf-8", buffer.getvalue())


def embedded(page: str) -> dict[str, Any] | None:
    """The data of all matrices that a page offers as a download; None where it has none."""
    found = re.search(r'id="matrices" href="data:application/json;base64,([A-Za-z0-9+/=]+)"', page)
    try:
        data = json.loads(base64.b64decode(found[1])) if found else None
    except ValueError:
        return None
    return data if isinstance(data, dict) and {"metrics", "matrices"} <= set(data) else None


def _uri(kind: str, text: str) -> str:
    coded = base64.b64encode(text.encode("utf-8", "backslashreplace")).decode("ascii")
    return f"data:{kind};base64,{coded}"
