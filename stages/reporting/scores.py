"""The report's section on scores: how they are spread in each class, and whether they mean what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.evaluation.pairing import Rows
from stages.reporting.figures import FAKE_COLORS, REAL_COLOR
from stages.reporting.names import Name
from stages.reporting.panels import in_unit, panels, scored
from stages.reporting.section import Given, Results, Section
from stages.reporting.tables import base_variant

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS, STEPS = 24, 10
FEWEST = 5
"""Rows of a step of the calibration without which it is left out."""

TEMPLATE = """\
{% for picture in spread %}{{ figure(picture, "histograms of scores", about) }}
{% endfor %}
{% if calibrated %}<h3>Calibration</h3>
{% for picture in calibrated %}{{ figure(picture, "calibration curves", meaning) }}
{% endfor %}{% endif %}
"""

MEANING = (
    "Of rows with a score, the share that is fake, both classes weighted alike; on the diagonal a score is a "
    "probability. Error: mean distance to the diagonal, weighted by rows. Steps with fewer than {} rows are left out.{}"
)


def content(given: Given) -> Mapping[str, Any]:
    """Histograms of every detector, and calibration curves of those that claim probabilities."""
    found = [one for one in scored(given) if len(one[2].scores)]
    if not found:
        return {}
    titles = [str(name) for _, name, _ in found]
    sources = sorted({source for _, _, rows in found for label, source, _ in rows.keys if label})
    about = (
        f"Share of rows by score in variant {base_variant(given.evaluations)}: reals, fakes of sources that the "
        f"detector was trained on, and fakes of others. The line is its threshold. Fakes of {', '.join(sources)}."
    )
    honest = [one for one in found if one[0]["model"].get("calibrated", True) and in_unit([one[2]])]
    others = [str(name) for results, name, _ in found if not any(results is one[0] for one in honest)]
    left_out = f" Not calibrated: {'; '.join(others)}." if others else ""
    return {
        "spread": panels(titles, lambda axis, number: _spread(axis, *found[number]), "score", "share of rows"),
        "about": about,
        "calibrated": _calibrated(honest),
        "meaning": MEANING.format(FEWEST, left_out),
    }


def _spread(axis: Axes, results: Results, name: Name, rows: Rows) -> None:
    trained = set(results["model"]["trained_on"])
    home = np.array([source in trained for _, source, _ in rows.keys])
    ends = (0.0, 1.0) if in_unit([rows]) else (float(rows.scores.min()), float(rows.scores.max()) + 1e-6)
    edges = np.linspace(*ends, BINS + 1)
    for label, color, style, chosen in (
        ("reals", REAL_COLOR, "-", rows.labels == 0),
        ("fakes, seen", FAKE_COLORS[0], "-", (rows.labels == 1) & home),
        ("fakes, unseen", FAKE_COLORS[1], "--", (rows.labels == 1) & ~home),
    ):
        counts = np.histogram(rows.scores[chosen], edges)[0]
        axis.stairs(counts / max(1, chosen.sum()), edges, color=color, linestyle=style, label=label)
    axis.axvline(float(results["model"]["threshold"]), color="#6b7280", linewidth=0.8)


def _calibrated(found: Sequence[tuple[Results, Name, Rows]]) -> list[Any]:
    curves = [calibration(rows.scores, rows.labels) for _, _, rows in found if len(set(rows.labels.tolist())) == 2]
    titles = [f"{name}: error {error:.3f}" for (_, name, rows), (*_, error) in
              zip([one for one in found if len(set(one[2].labels.tolist())) == 2], curves, strict=True)]  # fmt: skip

    def paint(axis: Axes, number: int) -> None:
        said, shares, _ = curves[number]
        axis.plot([0, 1], [0, 1], color="#d1d5db", linewidth=1)
        axis.plot(said, shares, "o-", color=FAKE_COLORS[1], markersize=3)
        axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))

    return panels(titles, paint, "mean score", "share of fakes") if curves else []


def calibration(
    scores: NDArray[np.float32], labels: NDArray[np.uint8]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Mean score and share of fakes in ten steps of scores (n,) in [0, 1], classes alike in weight; the mean error."""
    values = scores.astype(np.float64)
    weights = np.where(labels == 1, 0.5 / max(1, (labels == 1).sum()), 0.5 / max(1, (labels == 0).sum()))
    step = np.minimum((values * STEPS).astype(np.int64), STEPS - 1)
    counts = np.bincount(step, minlength=STEPS)
    total = np.bincount(step, weights, STEPS)
    kept = counts >= FEWEST
    said = np.bincount(step, weights * values, STEPS)[kept] / total[kept]
    shares = np.bincount(step, weights * (labels == 1), STEPS)[kept] / total[kept]
    mass = total[kept].sum()
    return said, shares, float((np.abs(said - shares) * total[kept]).sum() / mass) if mass else 0.0


SECTION = Section(title="Scores and calibration", order=31, template=TEMPLATE, content=content, link="Scores")
