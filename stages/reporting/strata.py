"""The report's section on score strata: images by score, and whether scores go with quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.stage import Artifact, Input
from stages.evaluation.json_file import read_json
from stages.reporting.figures import png_picture
from stages.reporting.section import Given, Section

TEMPLATE = """\
<p class="soft">Fakes of each source from the lowest score on the left, "more real", to the highest. In the first line
stands the image in the middle of each stratum, below it others by hash. Quality is a stand-in: how near an image
comes to a real one in the layers of a perceptual network; and, where it was given, what the generator's own
discriminator says.</p>
{% for one in strata %}<h3>{{ one.name }}</h3>
{% for source in one.sources %}<p class="soft">{{ source.about }}</p>
{{ figure(source.picture, source.alt, source.scores) }}
{% endfor %}{% endfor %}
"""


def content(given: Given) -> Mapping[str, Any]:
    """One entry per artifact of strata, in the order given."""
    found = [_section(artifact) for artifact in given.artifacts.get("strata", ())]
    return {"strata": found} if found else {}


def _section(artifact: Artifact) -> dict[str, Any]:
    results = read_json(artifact.path / "strata.json")
    name = f"{results['model']['detector']} ({results['model']['node']})"
    shown = []
    for one in results["sources"]:
        middle = ", ".join(f"{scores[0]:.2f}" for scores in one["scores"])
        shown.append({
            "about": f"{one['source']}: {one['images']:,} images. Score and quality: {_told(one)}."
            + (f" Score and discriminator: {_told(one['discriminator'])}." if "discriminator" in one else ""),
            "picture": png_picture((artifact.path / one["sheet"]).read_bytes()),
            "alt": f"images of {one['source']} by score, {artifact.node}",
            "scores": f"{one['source']}: scores in the middle of the strata {middle}.",
        })  # fmt: skip
    return {"name": name, "sources": shown}


def _told(found: Mapping[str, Any]) -> str:
    return (
        f"Spearman {_number(found['spearman'], found['spearman_interval'])}, Kendall "
        f"{_number(found['kendall_tau_b'], found['kendall_tau_b_interval'])}: {_verdict(found['spearman_interval'])}"
    )


def _number(value: float | None, interval: Sequence[float] | None) -> str:
    if value is None:
        return "none"
    return f"{value:+.2f}" + ("" if interval is None else f" ({interval[0]:+.2f} to {interval[1]:+.2f})")


def _verdict(interval: Sequence[float] | None) -> str:
    if interval is None or interval[0] <= 0 <= interval[1]:
        return "no correlation can be told"
    return "better images look more real to the detector" if interval[1] < 0 else "better images look more fake to it"


SECTION = Section(
    title="Scores and quality",
    order=34,
    template=TEMPLATE,
    content=content,
    link="Strata",
    inputs={
        "strata": Input("artifacts", required=False, description="'strata' nodes: images by score", takes="strata")
    },
)
