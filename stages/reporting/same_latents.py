"""The report's section on images of one latent: raw, finetuned or shifted generators side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.stage import Rows
from stages.reporting.figures import Picture, colors, draw
from stages.reporting.section import IMAGES, Given, Section
from stages.reporting.series import series

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN, COLUMNS = 3, 6
"""Latents, of more sources than columns one, and images beside each other."""

TEMPLATE = """\
<p class="soft">Fakes of several sources that were made of one latent, the ids that come first. Below them their
spectral profiles.</p>
{% for picture in same_latents %}{{ figure(picture, "images of one latent", "Images of one latent,
and their profiles.") }}
{% endfor %}
"""


def content(given: Given) -> Mapping[str, Any]:
    """A picture for each of the first latents that several sources share; nothing where there are none."""
    rows = given.rows.get("images")
    shared = {} if rows is None or "image" not in rows.fields else latents(rows)
    pictures = []
    for images in [images for _, images in sorted(shared.items())][: 1 if _many(shared) else SHOWN]:
        names = list(images)
        for start in range(0, len(names), COLUMNS):
            pictures.append(_picture({name: images[name] for name in names[start : start + COLUMNS]}))
    return {"same_latents": pictures} if pictures else {}


def _many(shared: Mapping[bytes, Mapping[str, Any]]) -> bool:
    return any(len(images) > COLUMNS for images in shared.values())


def latents(rows: Rows) -> dict[bytes, dict[str, Any]]:
    """Id -> source's name -> image, of the first ids that fakes of two sources or more have.

    Of a source that has several chains of steps the one with the fewest is taken.
    """
    fakes = [one for one in series(rows) if one.label]
    first = {one.source: one for one in reversed(fakes)}
    counts: dict[bytes, int] = {}
    for one in first.values():
        for row in one.rows.ids:
            counts[bytes(row)] = counts.get(bytes(row), 0) + 1
    wanted = sorted(row for row, count in counts.items() if count > 1)[:SHOWN]
    found: dict[bytes, dict[str, Any]] = {row: {} for row in wanted}
    for one in sorted(first.values(), key=lambda one: one.source):
        for place, row in enumerate(one.rows.ids):
            if bytes(row) in found:
                found[bytes(row)][one.source] = one.rows.array("image", np.array([place]))[0]
    return found


def _picture(images: Mapping[str, Any]) -> Picture:
    from stages.spectra.profiles import profiles

    curves = {name: profiles(image[None], "durall20")[0] for name, image in images.items()}
    shades = colors(dict.fromkeys(images, 1))

    def paint(figure: Figure) -> None:
        axes = figure.subplots(2, len(images), squeeze=False, sharey="row")
        for column, (name, image) in enumerate(images.items()):
            axes[0, column].imshow(image, interpolation="nearest")
            axes[0, column].set_axis_off()
            axes[0, column].set_title(name, fontsize=7)
            for other, curve in curves.items():
                axes[1, column].plot(curve, color="#d1d5db", linewidth=0.8)
                if other == name:
                    axes[1, column].plot(curve, color=shades[name][0], zorder=3)
            axes[1, column].tick_params(labelsize=6)

    return draw(1.5 * len(images) + 0.4, 2.9, "png", paint)


SECTION = Section(
    title="Images of one latent",
    order=45,
    template=TEMPLATE,
    content=content,
    inputs={"images": IMAGES},
    fields={"images": ("image",)},
)
