"""The report's section on spectra: mean profiles and maps of each series of rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.stage import Input, Rows
from stages.reporting import figures
from stages.reporting.section import Given, Section
from stages.reporting.series import series

MAPS = {"fft2d": ("Mean log FFT magnitude, zero frequency in the middle", True),
        "dct2d": ("Mean log DCT magnitude, zero frequency top left", False)}  # fmt: skip

PROJECTIONS = {"column_profile": "Horizontal frequencies, means over the vertical ones",
               "row_profile": "Vertical frequencies, means over the horizontal ones"}  # fmt: skip

BELOW = "Below each map: its distance to the mean of the reals; colors end at percentiles of all maps."

TEMPLATE = """\
{% for one in spectra %}<h3>{{ one.title }}</h3>{{ figure(one.picture, one.title, one.about) }}
{% endfor %}
"""


def content(given: Given) -> Mapping[str, Any]:
    """A figure per field of the rows."""
    rows = given.rows.get("spectra")
    found = [] if rows is None else _spectra(rows)
    return {"spectra": found} if found else {}


def _spectra(rows: Rows) -> list[dict[str, Any]]:
    counts = ", ".join(f"{len(one.rows):,} images of {one.name}" for one in series(rows))
    parts = {one.name: one.rows for one in series(rows)}
    labels = {one.name: one.label for one in series(rows)}
    found: list[dict[str, Any]] = []
    if "profile" in rows.fields:
        means = {name: figures.moments(mine, "profile") for name, mine in parts.items()}
        picture = figures.profile_figure(means, labels, rows.fields["profile"].units)
        found.append({"title": "Azimuthal profiles", "picture": picture, "about": f"Means over {counts}."})
    for field, title in PROJECTIONS.items():
        if field in rows.fields:
            curves = {name: figures.moments(mine, field)[0] for name, mine in parts.items()}
            picture = figures.projection_figure(curves, labels, title)
            about = f"Reals dashed. Means over {counts}."
            found.append({"title": title, "picture": picture, "about": about})
    for field, (title, shifted) in MAPS.items():
        if field in rows.fields:
            maps = {name: figures.moments(mine, field)[0] for name, mine in parts.items()}
            picture = figures.map_figure(maps, labels, shifted)
            found.append({"title": title, "picture": picture, "about": f"{BELOW} Means over {counts}."})
    return found


SECTION = Section(
    title="Mean spectra",
    order=50,
    template=TEMPLATE,
    content=content,
    link="Spectra",
    inputs={
        "spectra": Input(
            "rows", required=False, description="rows with profile, projections, dct2d or fft2d, for mean spectra"
        )
    },
    fields={"spectra": ("profile", "row_profile", "column_profile", "dct2d", "fft2d")},
)
