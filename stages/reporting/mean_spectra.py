"""The report's section on mean spectra: a figure per picture and definition, sources side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.stage import Artifact, Input
from stages.evaluation.class_differences import processing
from stages.evaluation.json_file import read_json
from stages.reporting import figures
from stages.reporting.section import Given, Section

TITLES = {
    "high_pass": "gray less its 5 × 5 median, FFT",
    "fft2d": "gray, FFT",
    "dct2d": "gray, DCT",
}
MEANS = {
    "mean_complex": "mean of complex spectra: only what is locked to the pixel grid stays",
    "mean_signed": "mean of signed coefficients: only what is locked to the pixel grid stays",
    "mean_mag_log": "logarithm of the mean magnitude",
    "mean_logmag": "mean of the logarithms",
}

TEMPLATE = """\
<p class="soft">Zero frequency in the middle for FFT, top left for DCT. Below each picture: its distance to the mean of
the reals.</p>
{% for one in mean_spectra %}<h3>{{ one.node }}</h3>
<p class="soft">{{ one.about }}.</p>
{% if one.warnings %}<div class="amber"><ul>{% for line in one.warnings %}<li>{{ line }}</li>{% endfor %}</ul>
</div>{% endif %}
{% for picture in one.figures %}<h4>{{ picture.title }}</h4>
{{ figure(picture.picture, picture.title ~ ", " ~ one.node, one.node ~ ": " ~ one.about ~ ".") }}
{% endfor %}{% endfor %}
"""


def content(given: Given) -> Mapping[str, Any]:
    """One entry per artifact of mean_spectra, in the order given."""
    found = [_section(artifact) for artifact in given.artifacts.get("mean_spectra", ())]
    return {"mean_spectra": found} if found else {}


def _section(artifact: Artifact) -> dict[str, Any]:
    card = read_json(artifact.path / "card.json")
    names = _names(card["series"])
    labels = {name: int(one["label"] == "fake") for name, one in zip(names, card["series"], strict=True)}
    shown = []
    for picture, about in card["pictures"].items():
        for mean in about["means"]:
            maps = {}
            for name, one in zip(names, card["series"], strict=True):
                with np.load(artifact.path / one["file"], allow_pickle=False) as file:
                    maps[name] = file[f"{picture}/{mean}"].astype(np.float64)
            shown.append({
                "title": f"{TITLES[picture]}: {MEANS[mean]}",
                "picture": figures.map_figure(maps, labels, shifted=False),
            })  # fmt: skip
    rows = ", ".join(f"{one['rows']} of {name}" for name, one in zip(names, card["series"], strict=True))
    about = f"{rows}, {card['width']} × {card['height']} px"
    return {"node": artifact.node, "about": about, "figures": shown, "warnings": card["warnings"]}


def _names(series: Sequence[Mapping[str, Any]]) -> list[str]:
    """The source; its steps too where a source has several chains, and a number where even these are alike."""
    sources = [one["source"] for one in series]
    steps = [" → ".join(step["stage"] for step in processing(one["steps"])) for one in series]
    names = [
        f"{source} ({text or 'as generated or read'})" if sources.count(source) > 1 else source
        for source, text in zip(sources, steps, strict=True)
    ]
    return [f"{name}, {number + 1}" if names.count(name) > 1 else name for number, name in enumerate(names)]


SECTION = Section(
    title="Mean spectra in three definitions",
    order=60,
    template=TEMPLATE,
    content=content,
    link="Mean spectra",
    inputs={
        "mean_spectra": Input(
            "artifacts",
            required=False,
            description="'mean_spectra' nodes: their pictures, sources side by side",
            takes="mean spectra",
        )
    },
)
