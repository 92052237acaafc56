"""The report's section of ROC curves, a panel per variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.evaluation import metrics
from stages.reporting import figures
from stages.reporting.section import Given, Results, Section

TEMPLATE = """\
<p class="soft">All fakes of a variant together.</p>
<img class="figure" alt="ROC curves" src="{{ rocs }}">
"""


def content(given: Given) -> Mapping[str, Any]:
    """Data URI of the figure."""
    return {"rocs": _rocs(given.evaluations, given.places)}


def _rocs(evaluations: Sequence[Results], places: Sequence[Path]) -> str:
    """Pooled curves per variant; reals of another variant where the evaluation says so."""
    panels: dict[str, list[tuple[str, Any, Any]]] = {}
    names = _names(evaluations)
    for results, place, name in zip(evaluations, places, names, strict=True):
        with np.load(place / "scores.npz", allow_pickle=False) as file:
            arrays = {key: file[key] for key in ("label", "score", "variant", "variants")}
        known = arrays["variants"].tolist()
        for variant, facts in results["variants"].items():
            fake = (arrays["variant"] == known.index(variant)) & (arrays["label"] == 1)
            real = (arrays["variant"] == known.index(facts["reals_from"])) & (arrays["label"] == 0)
            chosen = np.flatnonzero(fake | real)
            false, true = metrics.roc_points(arrays["score"][chosen], arrays["label"][chosen])
            panels.setdefault(variant, []).append((name, false, true))
    order = list(dict.fromkeys(row["variant"] for results in evaluations for row in results["rows"]))
    return figures.roc_figure({variant: panels[variant] for variant in order})


def _names(evaluations: Sequence[Results]) -> list[str]:
    """Detector and training source; the node too where two would be called the same."""
    names = [f"{one['model']['detector']}, trained on {', '.join(one['model']['trained_on'])}" for one in evaluations]
    return [
        f"{name} ({one['model']['node']})" if names.count(name) > 1 else name
        for name, one in zip(names, evaluations, strict=True)
    ]


SECTION = Section(title="ROC curves", order=30, template=TEMPLATE, content=content, link="ROC curves")
