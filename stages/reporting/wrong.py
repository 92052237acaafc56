"""The report's section of the twelve images that most detectors get wrong, with source and id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.stage import Rows
from stages.evaluation.pairing import Key
from stages.reporting import figures
from stages.reporting.panels import scored
from stages.reporting.section import IMAGES, Given, Section
from stages.reporting.tables import base_variant

SHOWN, PIXELS = 12, 150

TEMPLATE = """\
<p class="soft">Of variant {{ variant }}, ranked by the share of detectors that call them wrong at their own thresholds,
then by how far the scores are on the wrong side. Detectors that are single numbers are left out.
`touchstone explain NODE ID` tells the file of an image.</p>
<ul class="gallery">{% for one in wrong %}<li>{{ figure(one.picture, one.name, one.about) }}</li>
{% endfor %}</ul>
"""


@dataclass
class Judged:
    """What detectors said of one row."""

    wrong: int = 0
    total: int = 0
    margin: float = 0.0  # sum over detectors, larger is further on the wrong side
    score: float = 0.0


def content(given: Given) -> Mapping[str, Any]:
    """The most wrong images that the report was given; nothing where there are none."""
    images = given.rows.get("images")
    if images is None or "image" not in images.fields:
        return {}
    judged = _judged(given)
    places = _places(images)
    wrong = [key for key, one in judged.items() if one.wrong and key in places]
    wrong.sort(key=lambda key: (-judged[key].wrong / judged[key].total, -judged[key].margin / judged[key].total, key))
    shown = [_shown(images, places[key], key, judged[key]) for key in wrong[:SHOWN]]
    return {"wrong": shown, "variant": base_variant(given.evaluations)} if shown else {}


def _judged(given: Given) -> dict[Key, Judged]:
    found: dict[Key, Judged] = {}
    for results, _, rows in scored(given, baselines=False):
        threshold = float(results["model"]["threshold"])
        for key, score in zip(rows.keys, rows.scores.tolist(), strict=True):
            one = found.setdefault(key, Judged())
            fake = bool(key[0])
            one.wrong += (score >= threshold) != fake
            one.total += 1
            one.margin += threshold - score if fake else score - threshold
            one.score += score
    return found


def _places(images: Rows) -> dict[Key, int]:
    """Where the image of each row stands, with the fewest steps: before it was perturbed."""
    lengths = np.array([len(part.steps) for part in images.parts])[images.part_numbers]
    labels, sources, ids = images.column("label").tolist(), images.column("source").tolist(), images.ids
    found: dict[Key, int] = {}
    for place in np.argsort(-lengths, kind="stable").tolist():
        found[labels[place], sources[place], bytes(ids[place])] = place
    return found


def _shown(images: Rows, place: int, key: Key, judged: Judged) -> dict[str, Any]:
    label, source, row = key
    name = f"{source} {row.hex()[:12]}"
    kind = "fake" if label else "real"
    return {
        "picture": figures.contact_sheet(images.array("image", np.array([place])), 1, PIXELS),
        "name": name,
        "about": f"{name}: {kind}, of {source}. Wrong for {judged.wrong} of {judged.total} detectors, "
        f"mean score {judged.score / judged.total:.2f}.",
    }


SECTION = Section(
    title="The most wrong images",
    order=33,
    template=TEMPLATE,
    content=content,
    link="Most wrong",
    inputs={"images": IMAGES},
    fields={"images": ("image",)},
)
