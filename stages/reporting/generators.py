"""The report's section on generators that were trained or finetuned in the pipeline: figures, losses, samples."""

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

LOSSES = ("discriminator", "generator")
NO_LOSSES = frozenset({"kimg", "lod"})

TEMPLATE = """\
<p class="soft">Trained in this pipeline. Profile distance: sum of absolute differences between mean spectral profiles
of samples and of training photographs. Samples: the last picture of the averaged generator, seeds in order.</p>
{% for one in generators %}<h3>{{ one.node }} <span class="tag plain">{{ one.family }}, {{ one.method }}</span></h3>
<p class="soft">{{ one.about }}.
{% for name, value in one.figures %}{{ name }} {{ value }}{{ ", " if not loop.last }}{% endfor %}{% if one.before %};
profile distance before {{ one.before }}{% endif %}{% if one.evasion %}; {{ one.evasion }}{% endif %}
{% for text in one.remarks %}; {{ text }}{% endfor %}</p>
{{ figure(one.curves, "losses of " ~ one.node, "Losses and figures of " ~ one.node ~ " by thousand images.") }}
{% if one.samples %}{{ figure(one.samples, "samples of " ~ one.node,
"Samples of " ~ one.node ~ ", the last picture of its training.") }}{% endif %}
{% endfor %}
"""


def content(given: Given) -> Mapping[str, Any]:
    """One entry per artifact of train_generator or finetune_generator, in the order given."""
    found = [_section(artifact) for artifact in given.artifacts.get("generators", ())]
    return {"generators": found} if found else {}


def _section(artifact: Artifact) -> dict[str, Any]:
    card = read_json(artifact.path / "card.json")
    log = read_json(artifact.path / "log.json", list)
    pictures = sorted(name for name in artifact.info["files"] if fnmatchcase(name, "samples-*.png"))
    return {
        "node": artifact.node,
        "family": card["family"],
        "method": card.get("method", "trained"),
        "about": f"{card['kimg']:g} thousand images of {card['photographs']} photographs, "
        f"{card['parameters']:,} parameters, on {card['device']}",
        "figures": [(name.replace("_", " "), f"{value:.4g}") for name, value in sorted(card["figures"].items())],
        "before": _text(card.get("profile_distance_before")),
        "evasion": _evasion(card.get("evasion")),
        "remarks": card.get("remarks", []),
        "curves": curves(log),
        "samples": png_picture((artifact.path / pictures[-1]).read_bytes()) if pictures else None,
    }


def _evasion(found: Mapping[str, float] | None) -> str:
    """What a classifier said before and after, of a generator that was finetuned against it."""
    if found is None:
        return ""
    return (
        f"the classifier calls {found['called_fake']:.0%} of its images fake, before "
        f"{found['called_fake_before']:.0%}; swd before {found['swd_before']:.4g}; ended after "
        f"{found['kimg']:g} thousand images"
    )


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def curves(log: Sequence[Mapping[str, float]]) -> Picture:
    """Losses of both players, if there are any, and every further number of the log in a panel of its own."""
    found = {name for entry in log for name in entry} - NO_LOSSES
    panels_of = [LOSSES] * bool(found & set(LOSSES)) + [(name,) for name in sorted(found - set(LOSSES))]

    def paint(figure: Figure) -> None:
        panels: Any = figure.subplots(1, len(panels_of), squeeze=False)[0]
        for panel, names in zip(panels, panels_of, strict=True):
            for name, color in zip(names, FAKE_COLORS, strict=False):
                points = [(entry["kimg"], entry[name]) for entry in log if name in entry]
                panel.plot([x for x, _ in points], [y for _, y in points], color=color, label=name.replace("_", " "))
            panel.set_xlabel("thousand images")
            panel.set_title(" and ".join(names).replace("_", " ") + (" loss" if names is LOSSES else ""))
            panel.grid(visible=True)
        panels[0].legend()

    return draw(2.7 * len(panels_of), 2.0, "svg", paint)


SECTION = Section(
    title="Generators",
    order=70,
    template=TEMPLATE,
    content=content,
    link="Generators",
    inputs={
        "generators": Input(
            "artifacts",
            required=False,
            description="'train_generator' and 'finetune_generator' nodes: losses, figures and samples are shown",
            takes="generator",
        )
    },
)
