"""The report's section of samples: the rows with the smallest ids of each source and kind of processing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.stage import Rows
from stages.reporting import figures
from stages.reporting.section import IMAGES, Given, Section
from stages.reporting.series import series

COLUMNS = 12
SHOWN_PIXELS = 88
"""Width of one sample on the page."""

TEMPLATE = """\
<p class="soft">The rows with the smallest ids of each source and kind of processing; ids are digests, so nobody chose
them.</p>
{% for strip in strips %}<div class="strip"><div><span class="tag
{{ 'good' if strip.kind == 'real' else 'plain' }}">{{ strip.kind }}</span> {{ strip.source }}
<span class="soft">{{ strip.about }}</span></div>{{ figure(strip.picture, "samples of " ~ strip.name) }}</div>
{% endfor %}
"""


def content(given: Given) -> Mapping[str, Any]:
    """A strip of samples for each series of rows."""
    rows = given.rows.get("images")
    strips = [] if rows is None else _strips(rows, given.config.samples)
    return {"strips": strips} if strips else {}


def _strips(rows: Rows, samples: int) -> list[dict[str, Any]]:
    if "image" not in rows.fields:
        return []
    strips = []
    for one in series(rows):
        images = one.rows.array("image", np.arange(min(samples, len(one.rows))))
        columns = min(COLUMNS, len(images))
        strips.append({
            "source": one.source,
            "name": one.name,
            "kind": "fake" if one.label else "real",
            "about": f"{len(one.rows)} rows after {one.steps}, {images.shape[2]} × {images.shape[1]} px",
            "picture": figures.contact_sheet(images, columns, SHOWN_PIXELS),
        })  # fmt: skip
    return strips


SECTION = Section(
    title="Samples",
    order=40,
    template=TEMPLATE,
    content=content,
    link="Samples",
    inputs={"images": IMAGES},
    fields={"images": ("image",)},
)
