"""The report's section on residuals: maps of a few images, and how the means of all are spread (He et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.stage import Input, Rows
from stages.evaluation.metrics import roc_auc
from stages.reporting.figures import colors, draw
from stages.reporting.section import IMAGES, Given, Section
from stages.reporting.series import Series, series

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS, SHOWN = 60, 2
LEVELS = ("pixel", "stage1", "stage2", "stage3", "stage4", "stage5")

TEMPLATE = """\
{% for one in residual_means %}<h3>{{ one.title }}</h3>
{{ figure(one.picture, one.title, one.about) }}
<ul>{% for line in one.lines %}<li>{{ line }}</li>{% endfor %}</ul>
{% endfor %}
{% if residual_maps %}<h3>Maps</h3>{{ figure(residual_maps.picture, "residual maps", residual_maps.about) }}{% endif %}
"""


def content(given: Given) -> Mapping[str, Any]:
    """Histograms of each level that has means, and maps of the levels that the rows have."""
    rows = given.rows.get("residuals")
    if rows is None:
        return {}
    test = rows.split("test")
    groups = series(test if len(test) else rows)
    levels = [level for level in LEVELS if f"residual_{level}_mean" in rows.fields]
    means = [_means(level, groups) for level in levels]
    maps = _maps([level for level in ("pixel", "stage5") if f"residual_{level}" in rows.fields], groups, given)
    return {"residual_means": means, "residual_maps": maps} if means or maps else {}


def _means(level: str, groups: Sequence[Series]) -> dict[str, Any]:
    values = {one.name: one.rows.array(f"residual_{level}_mean").astype(np.float64) for one in groups}
    labels = {one.name: one.label for one in groups}
    edges = bins(list(values.values()))
    reals = [name for name in values if not labels[name]]
    lines = [_line(name, real, values[name], values[real], edges) for real in reals for name in values if labels[name]]
    counts = ", ".join(f"{len(one):,} of {name}" for name, one in values.items())

    def paint(figure: Figure) -> None:
        axis = figure.subplots()
        for name, (color, style) in colors(labels).items():
            heights = np.histogram(values[name], edges, density=True)[0]
            axis.stairs(heights, edges, color=color, linestyle=style, label=name)
        axis.set(xlabel=f"mean of the {level} residual", ylabel="density")
        axis.legend()

    title = f"Means of the {level} residual"
    return {"title": title, "picture": draw(6.0, 2.6, "svg", paint), "lines": lines,
            "about": f"{title}, {BINS} bins from the 0.5th to the 99.5th percentile of all; {counts}."}  # fmt: skip


def bins(values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """(BINS + 1,) edges between two percentiles of all values together."""
    low, high = np.percentile(np.concatenate(values), [0.5, 99.5])
    return np.linspace(low, max(high, low + 1e-9), BINS + 1)


def overlap(one: NDArray[np.float64], other: NDArray[np.float64], edges: NDArray[np.float64]) -> float:
    """Sum over bins of the smaller share of rows; 1 = alike, 0 = apart. Rows beyond the edges are left out."""
    shares = [counts / max(counts.sum(), 1) for counts in (np.histogram(values, edges)[0] for values in (one, other))]
    return float(np.minimum(*shares).sum())


def _line(name: str, real: str, fakes: Any, reals: Any, edges: Any) -> str:
    labels = np.repeat(np.array([0, 1], np.uint8), [len(reals), len(fakes)])
    area = roc_auc(np.concatenate([reals, fakes]), labels)
    alike = overlap(fakes, reals, edges)
    return f"{name} against {real}: AUC {area:.3f} (above 0.5: fakes have more), overlap {alike:.2f}."


def _maps(levels: Sequence[str], groups: Sequence[Series], given: Given) -> dict[str, Any] | None:
    """Columns: the first rows by id of each source; lines: image if there is one, and the levels."""
    if not levels:
        return None
    planes: dict[str, list[NDArray[np.float64]]] = {level: [] for level in levels}
    scales, keys, titles = {}, list[tuple[int, str, bytes]](), list[str]()
    for level in levels:
        reals = [
            one.rows.array(f"residual_{level}", np.arange(min(64, len(one.rows)))) for one in groups if not one.label
        ]
        pooled = [part.astype(np.float64).mean(axis=1).ravel() for part in reals]
        scales[level] = float(np.percentile(np.concatenate(pooled), 99.5)) if pooled else 1.0
    for one in groups:
        count = min(SHOWN, len(one.rows))
        for level in levels:
            planes[level] += list(one.rows.array(f"residual_{level}", np.arange(count)).astype(np.float64).mean(axis=1))
        keys += [(one.label, one.source, bytes(row)) for row in one.rows.ids[:count]]
        titles += [one.name, *[""] * (count - 1)]
    shown = _images(given.rows.get("images"), keys)
    lines = [*(["image"] if any(one is not None for one in shown) else []), *levels]

    def paint(figure: Figure) -> None:
        axes = figure.subplots(len(lines), len(titles), squeeze=False)
        for line, what in enumerate(lines):
            for column, title in enumerate(titles):
                axis = axes[line, column]
                axis.set_axis_off()
                if line == 0:
                    axis.set_title(title, fontsize=7)
                if what != "image":
                    top = scales[what]
                    axis.imshow(planes[what][column], cmap="magma", vmin=0, vmax=top, interpolation="nearest")
                elif shown[column] is not None:
                    axis.imshow(shown[column], interpolation="nearest")

    ends = ", ".join(f"{level} 0 to {scales[level]:.3g}" for level in levels)
    return {
        "picture": draw(1.1 * len(titles) + 0.2, 1.2 * len(lines) + 0.3, "png", paint),
        "about": f"Rows with the smallest ids of each source; mean over channels. One scale per line, to the 99.5th "
        f"percentile of the reals: {ends}.",
    }


def _images(rows: Rows | None, keys: Sequence[tuple[int, str, bytes]]) -> list[Any]:
    """The image of each row with the fewest steps; None where there is none."""
    if rows is None or "image" not in rows.fields:
        return [None] * len(keys)
    columns = (rows.column("label").tolist(), rows.column("source").tolist(), map(bytes, rows.ids))
    steps = np.array([len(part.steps) for part in rows.parts])[rows.part_numbers]
    places: dict[tuple[int, str, bytes], int] = {}
    for place, key in enumerate(zip(*columns, strict=True)):
        if key not in places or steps[place] < steps[places[key]]:
            places[key] = place
    return [rows.array("image", np.array([places[key]]))[0] if key in places else None for key in keys]


SECTION = Section(
    title="Residuals",
    order=55,
    template=TEMPLATE,
    content=content,
    link="Residuals",
    inputs={
        "images": IMAGES,
        "residuals": Input("rows", required=False, description="'residual' nodes: means and maps by source"),
    },
    fields={"residuals": tuple(f"residual_{level}{end}" for level in LEVELS for end in ("", "_mean"))},
)
