"""The report's section on trainings: losses by epoch, the epoch that was kept, and what the last epoch cut off."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.stage import Artifact, Input
from stages.evaluation.json_file import read_json
from stages.reporting.figures import FAKE_COLORS, REAL_COLOR
from stages.reporting.panels import panels
from stages.reporting.section import Given, Section

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOG, CARD = "log.jsonl", "card.json"
LINES = (("loss", "training", REAL_COLOR, "-"), ("validation_loss", "validation", FAKE_COLORS[0], "-"))

TEMPLATE = """\
{% if cut %}<div class="amber"><b>Stopped by the last epoch, not by the validation loss.</b>
<ul>{% for line in cut %}<li>{{ line }}</li>{% endfor %}</ul></div>{% endif %}
{% for picture in pictures %}{{ figure(picture, "losses of trainings by epoch", about) }}
{% endfor %}
"""

DETECTORS = Input(
    "artifacts",
    required=False,
    description="'train' nodes: losses by epoch and licenses are shown",
    takes="detector",
)


def content(given: Given) -> Mapping[str, Any]:
    """A panel per detector that kept a log of epochs, and the names of those that were cut off."""
    found = [(one, epochs) for one in given.artifacts.get("detectors", ()) if (epochs := _epochs(one))]
    if not found:
        return {}
    states = [read_json(one.path / CARD).get("state", {}) for one, _ in found]
    ended = [state.get("ended_by") == "epochs" for state in states]

    def paint(axis: Axes, number: int) -> None:
        epochs = found[number][1]
        for key, label, color, style in LINES:
            points = [(entry["epoch"], entry[key]) for entry in epochs if entry.get(key) is not None]
            axis.plot([x for x, _ in points], [y for _, y in points], style, color=color, label=label)
        if states[number].get("epoch"):
            axis.axvline(states[number]["epoch"], color="#6b7280", linewidth=0.8)

    titles = [f"{one.node}{' (stopped by the last epoch)' if cut else ''}"
              for (one, _), cut in zip(found, ended, strict=True)]  # fmt: skip
    return {
        "pictures": panels(titles, paint, "epoch", "loss"),
        "about": f"Losses of {len(found)} trainings on training and validation rows; the line: the epoch kept.",
        "cut": [f"{one.node}, after {epochs[-1]['epoch']} epochs"
                for (one, epochs), cut in zip(found, ended, strict=True) if cut],
    }  # fmt: skip


def _epochs(artifact: Artifact) -> list[dict[str, Any]]:
    """Entries of the log that are epochs; nothing where a training kept none."""
    if not (artifact.path / LOG).is_file():
        return []
    lines = (artifact.path / LOG).read_text(encoding="utf-8").splitlines()
    return [entry for entry in map(json.loads, lines) if "epoch" in entry and "loss" in entry]


SECTION = Section(
    title="Trainings",
    order=32,
    template=TEMPLATE,
    content=content,
    link="Trainings",
    inputs={"detectors": DETECTORS},
)
