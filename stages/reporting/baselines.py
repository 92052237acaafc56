"""The report's section on single numbers that separate the classes as well as a detector does.

A share of clipped values or a slope of a spectrum is no knowledge of generators. Where one of them does as well as a
detector, on the same images, the detector has not been shown to do more; that stands first. The direction of a number
does not count: whoever looks finds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.stage import POOLED
from stages.evaluation.pairing import Scored, compared
from stages.evaluation.single_numbers import is_baseline
from stages.reporting.section import Given, Results, Section

OF_IMAGES, OF_FILES = ("clipped", "border-step", "spectral-slope"), "bytes-per-pixel"
"""Detectors that are single numbers: of all images, and of files as they came."""

TEMPLATE = """\
{% if lines %}<p class="alarm"><b>A single number of an image separates the classes as well as
{{ "a detector" if lines | length == 1 else "detectors" }} here.</b> These detectors have not been shown to know more
than it.</p>
<details{% if lines | length <= 6 %} open{% endif %}><summary>{{ lines | length }} pairs of a number and a
detector</summary>
<ul>{% for line in lines %}<li>{{ line }}</li>
{% endfor %}</ul></details>{% endif %}
{% if missing %}<p class="soft">No single number stands beside the detectors{{ missing }}: a node of the stage measure
and detectors clipped, border-step and spectral-slope on it would.</p>{% endif %}
"""


def content(given: Given) -> Mapping[str, Any]:
    """A line per detector and baseline, and the variants that have no baseline."""
    numbered = [(one, Scored(place)) for one, place in zip(given.evaluations, given.places, strict=True)]
    baselines = [pair for pair in numbered if is_baseline(pair[0])]
    cells: dict[tuple[str, str], list[str]] = {}
    total: dict[str, int] = {}
    for results, scored in numbered:
        if is_baseline(results):
            continue
        node = results["model"]["node"]
        for row in _lines_of(results):
            if not row["auc_interval"][0] > 0.5:
                continue
            total[node] = total.get(node, 0) + 1
            best = _as_good(row, scored, baselines)
            if best:
                cells.setdefault((node, best), []).append(f"{row['source']} ({row['variant']})")
    given.facts["baselines_as_good"] = sum(map(len, cells.values()))
    found = [f"{name} does as well as {node} in {len(places)} of {total[node]} comparisons that the detector wins over "
             f"chance: {_shown(places)}." for (node, name), places in cells.items()]  # fmt: skip
    covered = {(row["variant"], row["source"]) for results, _ in baselines for row in _lines_of(results)}
    wanted = [(row["variant"], row["source"]) for results, _ in numbered for row in _lines_of(results)]
    lacking = list(dict.fromkeys(variant for variant, source in wanted if (variant, source) not in covered))
    missing = "" if not lacking else f" in {', '.join(lacking)}"
    return {"lines": found, "missing": missing} if found or missing else {}


def lacking(evaluations: Mapping[str, Results]) -> dict[tuple[str, ...], dict[str, list[str]]]:
    """Single numbers that do not stand beside detectors: those -> name of the evaluation -> variants that lack them.

    A number stands beside a detector where it was evaluated in the same variant on the fakes of the same source.
    """
    covered = {
        (results["model"]["config"]["feature"].replace("_", "-"), line["variant"], line["source"])
        for results in evaluations.values() if is_baseline(results) for line in _lines_of(results)
    }  # fmt: skip
    found: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for name, results in evaluations.items():
        if is_baseline(results):
            continue
        for variant in dict.fromkeys(line["variant"] for line in _lines_of(results)):
            sources = [line["source"] for line in _lines_of(results) if line["variant"] == variant]
            wanted = (*OF_IMAGES, OF_FILES) if _of_files(results, variant) else OF_IMAGES
            absent = tuple(one for one in wanted if any((one, variant, source) not in covered for source in sources))
            if absent:
                found.setdefault(absent, {}).setdefault(name, []).append(variant)
    return found


def _of_files(results: Results, variant: str) -> bool:
    """Whether all rows of a variant were files once, and nothing was done to them on purpose since."""
    steps = [results["steps"][part["chain"]] for part in results["variants"][variant]["parts"]]
    return all(chain[0].get("content") and not any(step.get("variant") for step in chain) for chain in steps if chain)


def _lines_of(results: Results) -> Iterator[Mapping[str, Any]]:
    """Lines of results with a single source of fakes and both classes."""
    for row in results["rows"]:
        alone = {one["source"] for one in results["rows"] if one["variant"] == row["variant"]} <= {POOLED}
        if (row["source"] != POOLED or alone) and row["auc"] is not None:
            yield row


def _as_good(row: Mapping[str, Any], scored: Scored, baselines: Sequence[tuple[Results, Scored]]) -> str:
    """The number that separates best in this line, if the detector is not better on the same rows; else ""."""
    found = []
    for results, other in baselines:
        for line in results["rows"]:
            if (line["variant"], line["source"]) == (row["variant"], row["source"]):
                found.append((max(line["auc"], 1 - line["auc"]), line["auc"] < 0.5, results, other))
    if not found:
        return ""
    area, turned, results, other = max(found, key=lambda one: one[0])
    if area < row["auc_interval"][0]:
        return ""  # so far below that pairing changes nothing
    both = compared(scored, other, row["variant"], row["source"], turned)
    low, _ = both.differences["auc"][1]
    return "" if low > 0 or not both.rows else str(results["model"]["config"]["feature"])


def _shown(places: Sequence[str], most: int = 6) -> str:
    rest = len(places) - most
    return ", ".join(places[:most]) + (f" and {rest} more" if rest > 0 else "")


SECTION = Section(title="Single numbers", order=7, template=TEMPLATE, content=content)
