"""The report's section on inversions: how near a generator comes to photographs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.stage import Input
from stages.reporting import figures
from stages.reporting.figures import FAKE_COLORS, Picture, draw
from stages.reporting.section import Given, Section
from stages.reporting.series import Series, series

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS, SHOWN, COLUMNS, PIXELS = 30, 24, 12, 88

TEMPLATE = """\
<p class="soft">Of each photograph the image of a generator that comes nearest to it. A low PSNR says that the generator
cannot make such a picture; those rows still count.</p>
{% for one in inversions %}<h3>{{ one.name }}</h3><p class="soft">{{ one.about }}</p>
{{ figure(one.spread, "PSNR and distance of " ~ one.name, one.name ~ ": PSNR and relative perceptual distance of an
image to its photograph.") }}
{{ figure(one.samples, "inversions of " ~ one.name, one.name ~ ": the rows with the smallest ids.") }}
{% endfor %}
"""


def content(given: Given) -> Mapping[str, Any]:
    """One entry per source of inversions."""
    rows = given.rows.get("inversions")
    found = [] if rows is None or "psnr" not in rows.fields else [_entry(one) for one in series(rows)]
    return {"inversions": found} if found else {}


def _entry(one: Series) -> dict[str, Any]:
    psnr = one.rows.array("psnr").astype(np.float64)
    images = one.rows.array("image", np.arange(min(SHOWN, len(one.rows))))
    low, middle, high = np.percentile(psnr, [5, 50, 95])
    return {
        "name": one.name,
        "about": f"{len(psnr):,} rows; PSNR {middle:.1f} dB (median; 5 to 95 %: {low:.1f} to {high:.1f} dB).",
        "spread": _spread({"PSNR, dB": psnr, "relative distance": one.rows.array("distance").astype(np.float64)}),
        "samples": figures.contact_sheet(images, min(COLUMNS, len(images)), PIXELS),
    }


def _spread(numbers: Mapping[str, Any]) -> Picture:
    def paint(figure: Figure) -> None:
        panels: Any = figure.subplots(1, len(numbers), squeeze=False)[0]
        for panel, (name, values) in zip(panels, numbers.items(), strict=True):
            panel.hist(values, BINS, color=FAKE_COLORS[1])
            panel.set(xlabel=name, ylabel="rows")

    return draw(6.4, 2.0, "svg", paint)


SECTION = Section(
    title="Inversions",
    order=42,
    template=TEMPLATE,
    content=content,
    link="Inversions",
    inputs={"inversions": Input("rows", required=False, description="'invert' nodes: how near images come")},
    fields={"inversions": ("psnr",)},
)
