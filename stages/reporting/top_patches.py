"""The report's section on most predictive patches: what they show, beside what any patch shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.stage import Artifact, Input
from stages.evaluation.json_file import read_json
from stages.reporting.figures import FAKE_COLORS, REAL_COLOR, Picture, draw, png_picture
from stages.reporting.section import Given, Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHEETS = 3
"""Sheets of a class of pictures that are shown: those of the most patches."""

COLORS = {"real": REAL_COLOR, "fake": FAKE_COLORS[0]}

TEMPLATE = """\
<p class="soft">Of each picture the patch to which the detector gives the highest probability of the true class. Its
class of pixels is the one of which it holds the largest share, which favors small ones: compare with a random patch of
the same pictures, of which the exact expectation is given.</p>
{% for one in top_patches %}<h3>{{ one.node }}</h3>
<p class="soft">{{ one.about }}</p>
{{ figure(one.picture, "classes of the best patches, " ~ one.node, one.node ~ ": share of pictures whose best patch
shows a class; hollow: of random patches. Classes: " ~ one.by ~ ".") }}
<div class="wide" role="region" tabindex="0" aria-label="patches, {{ one.node }}"><table>
<thead><tr><th>picture</th><th>patch shows</th><th>best</th><th>random</th><th>ratio</th><th>95 %</th>
<th>best, by majority</th><th>random, by majority</th></tr></thead><tbody>
{% for row in one.rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
<ul>{% for line in one.boundaries %}<li>{{ line }}</li>{% endfor %}</ul>
{% for sheet in one.sheets %}{{ figure(sheet.picture, sheet.alt, sheet.alt ~ ".") }}
{% endfor %}{% endfor %}
"""


def content(given: Given) -> Mapping[str, Any]:
    """One entry per artifact of top_patches, in the order given."""
    found = [_section(artifact) for artifact in given.artifacts.get("top_patches", ())]
    return {"top_patches": found} if found else {}


def _section(artifact: Artifact) -> dict[str, Any]:
    results = read_json(artifact.path / "results.json")
    found = {kind: results["found"][kind] for kind in COLORS if kind in results["found"]}
    counts = " and ".join(f"{one['images']:,} {kind} pictures" for kind, one in found.items())
    left = f"; {results['without_parts']:,} without classes of pixels left out" if results["without_parts"] else ""
    size = " × ".join(map(str, results["geometry"]["size"]))
    sides = " × ".join(map(str, results["geometry"]["sides"]))
    return {
        "node": artifact.node,
        "about": f"{results['model']['detector']} ({results['model']['node']}): {counts}{left}. A patch is {size} px "
        f"of {sides}.",
        "by": results["segmentation"] or "numbers",
        "picture": _bars(found),
        "rows": [row for kind, one in found.items() for row in _rows(kind, one)],
        "boundaries": [_boundary(kind, one) for kind, one in found.items()],
        "sheets": _sheets(artifact, results, found),
    }


def _rows(kind: str, one: Mapping[str, Any]) -> list[list[str]]:
    """Lines of the table: classes that any patch shows."""
    lines = []
    for name, entry in one["share"].items():
        other = one["majority"][name]
        if not (entry["top"] or entry["expected"] or other["top"] or other["expected"]):
            continue
        ratio = "" if entry["ratio"] is None else f"{entry['ratio']:.2f}"
        lines.append([
            kind, name, f"{entry['top']:,}", f"{entry['expected']:,.1f}", ratio, _interval(entry["interval"]),
            f"{other['top']:,}", f"{other['expected']:,.1f}",
        ])  # fmt: skip
    return lines


def _interval(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f"{ends[0]:.2f} to {ends[1]:.2f}"


def _boundary(kind: str, one: Mapping[str, Any]) -> str:
    edge = one["boundary"]
    ratio = "" if edge["ratio"] is None else f", ratio {edge['ratio']:.2f} ({_interval(edge['interval'])})"
    return (
        f"{kind}: {edge['top']:.0%} of the best patches hold two classes or more, each on a tenth of the patch, "
        f"{edge['expected']:.0%} of random ones{ratio}."
    )


def _bars(found: Mapping[str, Any]) -> Picture:
    names = [
        name
        for name in next(iter(found.values()))["share"]
        if any(one["share"][name]["top"] or one["share"][name]["expected"] for one in found.values())
    ]
    width = 0.8 / (2 * len(found))

    def paint(figure: Figure) -> None:
        axis = figure.subplots()
        places = np.arange(len(names))
        for number, (kind, one) in enumerate(found.items()):
            for column, what in enumerate(("top", "expected")):
                heights = [one["share"][name][what] / one["images"] for name in names]
                place = places + (2 * number + column - len(found) + 0.5) * width
                color = COLORS[kind]
                fill: dict[str, Any] = {"color": color if what == "top" else "white", "edgecolor": color}
                label = f"{kind}, {'best' if what == 'top' else 'random'} patch"
                axis.bar(place, heights, width, label=label, linewidth=0.8, **fill)
        axis.set_xticks(places, names, rotation=30, ha="right")
        axis.set_ylabel("share of pictures")
        axis.legend()

    return draw(max(4.0, 0.8 * len(names) + 1.5), 2.6, "svg", paint)


def _sheets(artifact: Artifact, results: Mapping[str, Any], found: Mapping[str, Any]) -> list[dict[str, Any]]:
    shown = []
    for kind, one in found.items():
        counts = one[results["rule"]]
        for name in sorted(counts, key=lambda name: -counts[name]["top"])[:SHEETS]:
            start = f"sheet-{kind}-{results['classes'].index(name):02d}-"
            for file in sorted(path for path in artifact.path.iterdir() if path.name.startswith(start)):
                alt = f"best patches of {kind} pictures that show {name}, by {results['segmentation'] or 'numbers'}"
                shown.append({"picture": png_picture(file.read_bytes()), "alt": alt})
    return shown


SECTION = Section(
    title="Most predictive patches",
    order=36,
    template=TEMPLATE,
    content=content,
    link="Patches",
    inputs={
        "top_patches": Input(
            "artifacts",
            required=False,
            description="'top_patches' nodes: what the best patches of each picture show",
            takes="top patches",
        )
    },
)
