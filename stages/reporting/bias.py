"""The report's section on what small changes of pictures do to each detector's probabilities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from pipeline.stage import Input
from stages.evaluation.json_file import read_json
from stages.reporting.section import Given, Section

TEMPLATE = """\
<p class="soft">Mean change of the probability of being fake on reals and on fakes, with its 95 % interval by groups.
Invariant: within 0.05 in both classes; towards real or fake: beyond it in both, which a corpus that treats its classes
unlike turns into accuracy; fragile: else. Flips: share of images whose verdict changes. The band is what
<code>touchstone predict</code> tells: an image is decided where its least and greatest probability lie on one side of
the threshold.</p>
{% for one in biases %}<details><summary>{{ one.detector }} <code>{{ one.node }}</code>
<span class="soft">{{ one.invariant }}</span></summary>
<p class="soft">{{ one.about }}</p>
<div class="wide" role="region" tabindex="0" aria-label="changes, {{ one.node }}"><table>
<caption>Changes and what they do to {{ one.node }}</caption>
<thead><tr><th scope="col">Change</th><th scope="col">Verdict</th><th scope="col" class="number">Reals</th>
<th scope="col" class="number">flips</th>
<th scope="col" class="number">Fakes</th><th scope="col" class="number">flips</th></tr></thead>
<tbody>{% for row in one.rows %}<tr><td>{{ row.change }}</td><td>{{ row.verdict }}</td>
{% for kind in row.classes %}<td class="number">{{ kind.shift }}</td><td class="number">{{ kind.flips }}</td>
{% endfor %}
</tr>{% endfor %}</tbody></table></div></details>
{% endfor %}
"""


def content(given: Given) -> Mapping[str, Any]:
    """One entry per artifact of the stage `bias`, in the order given."""
    found = [_entry(read_json(artifact.path / "bias.json")) for artifact in given.artifacts.get("biases", ())]
    return {"biases": found} if found else {}


def _entry(results: Mapping[str, Any]) -> dict[str, Any]:
    counts, groups, band = results["counts"], results["groups"], results["band"]
    rows = " and ".join(f"{counts[kind]} {kind} rows in {groups[kind]} groups" for kind in ("real", "fake"))
    sure = "" if band["accuracy_decided"] is None else f", {band['accuracy_decided']:.0%} of them rightly"
    verdicts = Counter(one["verdict"] for one in results["changes"])
    return {
        "invariant": ", ".join(f"{verdict} {count}" for verdict, count in sorted(verdicts.items())),
        "detector": results["model"]["detector"],
        "node": results["model"]["node"],
        "about": f"{rows}. The band decides {band['decided']:.0%} of them{sure}; "
        f"without it {band['accuracy']:.0%} are right.",
        "rows": [
            {
                "change": one["change"].replace("_", " "),
                "verdict": one["verdict"],
                "classes": [_class(one[kind]) for kind in ("real", "fake")],
            }
            for one in results["changes"]
        ],
    }


def _class(one: Mapping[str, Any]) -> dict[str, str]:
    low, high = one["interval"]
    return {"shift": f"{one['mean']:+.3f} [{low:+.3f}, {high:+.3f}]", "flips": f"{one['flips']:.0%}"}


SECTION = Section(
    title="What changes that nobody sees do",
    order=35,
    template=TEMPLATE,
    content=content,
    link="Robustness",
    inputs={
        "biases": Input(
            "artifacts", required=False, description="'bias' nodes: what small changes do to scores", takes="bias"
        )
    },
)
