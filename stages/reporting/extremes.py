"""The report's section on the easiest and hardest images of a detector, and where it looks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.stage import Artifact, Input
from stages.evaluation.json_file import read_json
from stages.reporting.figures import Picture, draw, png_picture
from stages.reporting.section import Given, Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = """\
<p class="soft">Each map is stretched from its least value, blue, to its largest, red. Easiest: those of the true class
that are told right with the most confidence.</p>
{% for one in extremes %}<h3>{{ one.node }}</h3><p class="soft">{{ one.about }}</p>
{% if one.means %}{{ figure(one.means, "mean maps of " ~ one.node, one.node ~ ": mean maps of the easiest images;
combined: where both classes are told right, smoothed.") }}{% endif %}
{% for strip in one.strips %}{{ figure(strip.picture, strip.alt ~ ", " ~ one.node, strip.about) }}
{% endfor %}
{% if one.latents %}{{ figure(one.latents, "maps of one latent", one.node ~ ": in each line fakes of one latent, a
column for each source.") }}
<ul>{% for line in one.lines %}<li>{{ line }}</li>{% endfor %}</ul>{% endif %}
{% endfor %}
"""


def content(given: Given) -> Mapping[str, Any]:
    """One entry per artifact of extremes, in the order given."""
    found = [_section(artifact) for artifact in given.artifacts.get("extremes", ())]
    return {"extremes": found} if found else {}


def _section(artifact: Artifact) -> dict[str, Any]:
    results = read_json(artifact.path / "extremes.json")
    classes = results["classes"]
    counts = "; ".join(f"{one['right']:,} of {one['rows']:,} {kind} images are told right, the mean is over "
                       f"{one['easiest']['count']:,}" for kind, one in sorted(classes.items()))  # fmt: skip
    strips = []
    for kind in ("real", "fake"):
        for which in ("easiest", "hardest"):
            path = artifact.path / f"{which}-{kind}.png"
            if path.is_file():
                scores = ", ".join(f"{score:.2f}" for score in classes[kind][which]["scores"][:12])
                alt = f"{which} {kind} images"
                strips.append({"picture": png_picture(path.read_bytes()), "alt": alt,
                               "about": f"{alt.capitalize()}; scores {scores}."})  # fmt: skip
    latents = artifact.path / "latents.png"
    return {
        "node": artifact.node,
        "about": f"{results['model']['detector']} ({results['model']['node']}): {results['maps']}; {counts}.",
        "means": _means(artifact),
        "strips": strips,
        "latents": png_picture(latents.read_bytes()) if latents.is_file() else None,
        "lines": [_line(one) for one in results["latents"]],
    }


def _line(one: Mapping[str, Any]) -> str:
    first, second = one["sources"]
    if one["spearman"] is None:
        return f"{first} and {second}: no correlation, as a map is flat."
    ends = "" if one["interval"] is None else f" ({one['interval'][0]:+.2f} to {one['interval'][1]:+.2f})"
    return f"{first} and {second}, {one['latents']} latents: Spearman of their maps {one['spearman']:+.2f}{ends}."


def _means(artifact: Artifact) -> Picture | None:
    with np.load(artifact.path / "maps.npz", allow_pickle=False) as file:
        maps = {name: file[name] for name in ("real", "fake", "combined") if name in file.files}
    if not maps:
        return None

    def paint(figure: Figure) -> None:
        axes = figure.subplots(1, len(maps), squeeze=False)[0]
        for axis, (name, values) in zip(axes, maps.items(), strict=True):
            axis.set_axis_off()
            axis.imshow(values, cmap="RdBu_r", interpolation="nearest")
            axis.set_title(f"{name}: {values.min():.2f} to {values.max():.2f}", fontsize=8)

    return draw(2.0 * len(maps), 2.1, "png", paint)


SECTION = Section(
    title="Easiest and hardest images",
    order=38,
    template=TEMPLATE,
    content=content,
    link="Extremes",
    inputs={
        "extremes": Input(
            "artifacts",
            required=False,
            description="'extremes' nodes: easiest and hardest images, and where a detector looks",
            takes="extremes",
        )
    },
)
