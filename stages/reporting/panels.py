"""Small pictures of one kind side by side, one per detector."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.evaluation.pairing import Rows, Scored
from stages.evaluation.single_numbers import is_baseline
from stages.reporting.figures import Picture, draw, wrapped
from stages.reporting.names import Name, named
from stages.reporting.section import Given, Results
from stages.reporting.tables import base_variant, variants

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HIGH = 1.15
"""Inches of a panel."""

COLUMNS, MOST = 4, 12
"""Panels beside each other, and in one picture: a printed page holds two."""


def panels(titles: Sequence[str], paint: Callable[[Axes, int], None], below: str, beside: str) -> list[Picture]:
    """Pictures in which `paint` fills a panel for each title; the legend is that of the first panel."""
    bounds = [*range(0, len(titles), MOST), len(titles)]
    return [_picture(range(first, end), titles, paint, below, beside) for first, end in pairwise(bounds)]


def _picture(
    numbers: range, titles: Sequence[str], paint: Callable[[Axes, int], None], below: str, beside: str
) -> Picture:
    columns = min(COLUMNS, len(numbers))
    lines = -(-len(numbers) // columns)
    names = [wrapped(titles[number], 36) for number in numbers]
    gap = 0.35 + 0.12 * max(name.count("\n") + 1 for name in names)  # inches, for ticks and titles

    def painted(figure: Figure) -> None:
        axes = figure.subplots(lines, columns, squeeze=False)
        for axis in axes.ravel()[len(numbers) :]:
            axis.set_axis_off()
        for axis, number, name in zip(axes.ravel(), numbers, names, strict=False):
            paint(axis, number)
            axis.set_title(name, loc="left", fontsize=7)
            axis.grid(True, linewidth=0.6)
            axis.tick_params(labelsize=7)
        place = {"fontsize": 8, "transform": figure.transFigure}
        axes[0, 0].text(0.5, -0.35 / height, below, ha="center", va="top", **place)
        axes[0, 0].text(-0.4 / width, 0.5, beside, ha="right", va="center", rotation=90, **place)
        legend: Any = axes[0, 0].get_legend_handles_labels()
        if legend[0]:
            figure.legend(*legend, loc="lower left", bbox_to_anchor=(0, 1 + gap / height), ncols=len(legend[0]))
        figure.subplots_adjust(0, 0, 1, 1, wspace=0.22, hspace=gap / HIGH)

    width, height = 2.5 * columns, HIGH * lines + gap * (lines - 1)
    return draw(width, height, "svg", painted, layout=None)


def scored(given: Given, baselines: bool = True) -> list[tuple[Results, Name, Rows]]:
    """Each evaluation, its name, and the rows of `base_variant` that it has scored; of its first one if it lacks it."""
    base = base_variant(given.evaluations)
    found = []
    for results, name, place in zip(given.evaluations, named(given.evaluations), given.places, strict=True):
        if baselines or not is_baseline(results):
            variant = base if base in results["variants"] else variants([results])[0]
            found.append((results, name, Scored(place).rows(variant)))
    return found


def in_unit(rows: Iterable[Rows]) -> bool:
    """Whether all scores are between 0 and 1, as probabilities are."""
    return all(len(one.scores) and np.min(one.scores) >= 0 and np.max(one.scores) <= 1 for one in rows)
