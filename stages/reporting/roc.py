"""The report's section of ROC curves, a panel per variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.evaluation import metrics
from stages.reporting import figures
from stages.reporting.matrices import sources_of
from stages.reporting.names import named
from stages.reporting.section import Given, Results, Section
from stages.reporting.tables import variants

TEMPLATE = """\
{{ figure(rocs, "ROC curves, a panel per variant", about) }}
"""


def content(given: Given) -> Mapping[str, Any]:
    """The figure, and what its curves are of."""
    about = "; ".join(f"{variant}: {', '.join(sources_of(given.evaluations, variant))}"
                      for variant in variants(given.evaluations))  # fmt: skip
    return {"rocs": _rocs(given.evaluations, given.places), "about": f"All fakes of a variant together. {about}."}


def _rocs(evaluations: Sequence[Results], places: Sequence[Path]) -> figures.Picture:
    """Pooled curves per variant; reals of another variant where the evaluation says so."""
    panels: dict[str, list[tuple[str, Any, Any]]] = {}
    names = [str(name) for name in named(evaluations)]
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
    return figures.roc_figure({variant: panels[variant] for variant in variants(evaluations)})


SECTION = Section(title="ROC curves", order=30, template=TEMPLATE, content=content, link="ROC curves")
