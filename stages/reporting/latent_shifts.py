"""The report's section on shifts of a latent space: what a detector says along them, and how images change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from pipeline.stage import Artifact, Input
from stages.evaluation.json_file import read_json
from stages.reporting.figures import FAKE_COLORS, Picture, draw, png_picture
from stages.reporting.section import Given, Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = """\
<p class="soft">One shift for all latents, along which images look more fake to a frozen detector. Scale 1 exaggerates
what it sees, -1 suppresses it. Probabilities are those of fresh latents, by the detector's own way from a picture to a
score.</p>
{% for one in latent_shifts %}<h3>{{ one.node }}</h3>
<p class="soft">{{ one.about }}</p>
{{ figure(one.curve, "probability of fake by scale, " ~ one.node, one.node ~ ": mean probability of fake by scale, with
its 95 % interval.") }}
<ul>{% for line in one.rises %}<li>{{ line }}</li>{% endfor %}</ul>
{% if one.strip %}{{ figure(one.strip, "images along the shift of " ~ one.node, one.node ~ ": in each line one latent,
moved by -3 to 3 times the shift.") }}{% endif %}
{% endfor %}
"""


def content(given: Given) -> Mapping[str, Any]:
    """One entry per artifact of latent_shift, in the order given."""
    found = [_section(artifact) for artifact in given.artifacts.get("latent_shifts", ())]
    return {"latent_shifts": found} if found else {}


def _section(artifact: Artifact) -> dict[str, Any]:
    card = read_json(artifact.path / "card.json")
    figures = card["figures"]
    strips = sorted(name for name in artifact.info.get("files", ()) if fnmatchcase(name, "samples-*.png"))
    return {
        "node": artifact.node,
        "about": f"Against {card['classifier']['detector']} ({card['classifier']['node']}), in {card['space']}, "
        f"{card['settings']['steps']:,} steps; distance: {card['distance']}. The shift is "
        f"{figures['relative_size']:.2f} times as long as a latent on average; {figures['images']:,} fresh latents.",
        "curve": _curve(figures["by_scale"]),
        "rises": [_rise(name, numbers) for name, numbers in figures["rises"].items()]
        + [_rise(name, numbers, " in log-odds") for name, numbers in figures.get("rises_in_log_odds", {}).items()],
        "strip": png_picture((artifact.path / strips[-1]).read_bytes()) if strips else None,
    }


def _rise(name: str, numbers: Sequence[float], scale: str = "") -> str:
    mean, low, high = numbers
    word = "rises" if low > 0 else "falls" if high < 0 else "cannot be told to change"
    return f"From {name} it {word}{scale}: {mean:+.4f} ({low:+.4f} to {high:+.4f})."


def _curve(by_scale: Mapping[str, Mapping[str, Any]]) -> Picture:
    scales = sorted(by_scale, key=float)
    means = [by_scale[scale]["probability_of_fake"] for scale in scales]
    ends = [by_scale[scale]["interval"] for scale in scales]
    below = [mean - low for mean, (low, _) in zip(means, ends, strict=True)]
    above = [high - mean for mean, (_, high) in zip(means, ends, strict=True)]

    def paint(figure: Figure) -> None:
        axis = figure.subplots()
        places = [float(scale) for scale in scales]
        axis.errorbar(places, means, yerr=[below, above], color=FAKE_COLORS[0], marker="o", markersize=3, capsize=3)
        axis.set(ylim=(-0.02, 1.02), xlabel="scale of the shift", ylabel="probability of fake")
        axis.grid(visible=True)

    return draw(4.0, 2.4, "svg", paint)


SECTION = Section(
    title="Latent shifts",
    order=37,
    template=TEMPLATE,
    content=content,
    link="Latent shifts",
    inputs={
        "latent_shifts": Input(
            "artifacts",
            required=False,
            description="'latent_shift' nodes: what a detector says along them",
            takes="latent shift",
        )
    },
)
