"""The report's section on spectrum equalizations (+E): what was learned from, the gap that is left, PSNR, profiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.stage import Artifact, Input
from stages.evaluation.json_file import read_json
from stages.reporting.figures import FAKE_COLORS, REAL_COLOR, Picture, draw
from stages.reporting.section import Given, Section
from stages.spectra.equalization_file import CARD, FILE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINES = (
    ("profile_target", "reals", REAL_COLOR, "-"),
    ("profile_source", "fakes", FAKE_COLORS[0], "-"),
    ("profile_rounded", "fakes, equalized", FAKE_COLORS[1], "--"),
)

TEMPLATE = """\
<p class="soft">Measured on the training fakes. Gap: mean absolute difference between the mean log amplitudes of fakes
and reals over rings and channels, in nepers (0.1: about 10 % in amplitude), before equalization, after it in exact
numbers, and after rounding to 8 bits. Zeros: amplitudes of exactly zero, which no gain lifts; without any, the gap in
exact numbers is round-off. PSNR: of equalized fakes against those that they were made from.</p>
<div class="wide" role="region" tabindex="0" aria-label="equalizations"><table>
<caption>Equalizations</caption>
<thead><tr><th scope="col">Node</th><th scope="col">Learned from</th><th scope="col">Settings</th>
<th scope="col" class="number">Gains</th>
<th scope="col" class="number">Gap before</th><th scope="col" class="number">unrounded</th>
<th scope="col" class="number">rounded</th><th scope="col" class="number">largest</th>
<th scope="col" class="number">Zeros</th>
<th scope="col" class="number">PSNR, dB</th><th scope="col" class="number">least</th></tr></thead>
<tbody>{% for one in equalizations %}<tr><td><code>{{ one.node }}</code></td><td>{{ one.learned }}</td>
<td>{{ one.settings }}</td><td class="number">{{ one.gains }}</td>
{% for gap in one.gaps %}<td class="number">{{ gap }}</td>{% endfor %}<td class="number">{{ one.largest }}</td>
<td class="number">{{ one.empty }}</td>
<td class="number">{{ one.psnr }}</td><td class="number">{{ one.least_psnr }}</td></tr>
{% endfor %}</tbody></table></div>
{% for one in equalizations %}{% if one.warnings %}<div
class="amber"><b>{{ one.node }}</b><ul>{% for line in one.warnings %}<li>{{ line }}</li>{% endfor %}</ul>
</div>{% endif %}
{{ figure(one.curves, "profiles of " ~ one.node, "Profiles of " ~ one.node ~ ": mean over " ~ one.learned ~ ".") }}
{% endfor %}
"""


def content(given: Given) -> Mapping[str, Any]:
    """One entry per artifact of fit_equalization, in the order given."""
    found = [_section(artifact) for artifact in given.artifacts.get("equalizations", ())]
    return {"equalizations": found} if found else {}


def _section(artifact: Artifact) -> dict[str, Any]:
    import safetensors.numpy

    card = read_json(artifact.path / CARD)
    arrays = safetensors.numpy.load_file(artifact.path / FILE)
    gaps, ratio = card["gap_nepers"], card["psnr_db"]
    return {
        "node": artifact.node,
        "settings": _settings(card),
        "learned": f"{_sources(card['counts']['real'])} as reals, {_sources(card['counts']['fake'])} as fakes, "
        f"{card['width']} × {card['height']} px",
        "gaps": [_number(gaps[name]) for name in ("before", "before_rounding", "after_rounding")],
        "largest": _number(gaps["largest_after_rounding"]),
        "psnr": f"{ratio['mean']:.1f}",
        "least_psnr": f"{ratio['least']:.1f}",
        "empty": card["empty_amplitudes"],
        "gains": f"{card['gains']['least']:.2f} to {card['gains']['largest']:.2f}",
        "warnings": card["warnings"],
        "curves": curves(arrays),
    }


def _settings(card: Mapping[str, Any]) -> str:
    """`gain per ring, from the set's mean, R, G and B separately`."""
    words = [
        "a gain per ring" if card["shape"] == "radial" else "a gain per frequency",
        "from the mean of the fakes" if card["gain_per"] == "set" else "from each image's own spectrum",
        "R, G and B apart" if card["channels"] == "separate" else "luma's for all channels",
    ]
    if card["pool_below"] > 2:
        words.append(f"one gain for rings 1 to {card['pool_below'] - 1}")
    if card["largest"] is not None:
        words.append(f"gains up to {card['largest']:g}")
    return ", ".join(words)


def _sources(counts: Mapping[str, int]) -> str:
    return " and ".join(f"{number} of {name}" for name, number in counts.items())


def _number(value: float) -> str:
    return f"{value:.2g}" if value < 0.001 else f"{value:.3f}"


def curves(arrays: Mapping[str, Any]) -> Picture:
    """Mean profiles of reals, fakes and equalized fakes, and how far the fakes are from the reals."""

    def paint(figure: Figure) -> None:
        whole, gap = figure.subplots(1, 2)
        target = arrays["profile_target"].mean(axis=0)
        radius = np.arange(1, len(target))
        for name, label, color, style in LINES:
            profile = arrays[name].mean(axis=0)
            whole.plot(radius, profile[1:], color=color, linestyle=style, label=label)
            gap.plot(radius, (profile - target)[1:], color=color, linestyle=style)
        whole.set_title("mean ln |F|")
        whole.legend()
        gap.set_title("difference to the reals, nepers")
        for panel in (whole, gap):
            panel.set_xlabel("radius, cycles per image")
            panel.grid(visible=True)

    return draw(7.2, 2.2, "svg", paint)


SECTION = Section(
    title="Spectrum equalization (+E)",
    order=80,
    template=TEMPLATE,
    content=content,
    link="Equalization",
    inputs={
        "equalizations": Input(
            "artifacts",
            required=False,
            description="'fit_equalization' nodes: the gap between the classes' spectra before and after, PSNR",
            takes="equalization",
        )
    },
)
