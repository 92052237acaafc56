"""Pictures of the report: which rows and which curves go into which figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.evaluation import metrics
from stages.evaluation.class_differences import processing
from stages.reporting import figures
from stages.reporting.tables import steps_text

if TYPE_CHECKING:
    from pipeline.dataset import Dataset

MAPS = {"fft2d": ("Mean log FFT magnitude, zero frequency in the middle", True),
        "dct2d": ("Mean log DCT magnitude, zero frequency top left", False)}  # fmt: skip
COLUMNS = 12
SHOWN_PIXELS = 88
"""Width of one sample on the page."""


def pictures(
    evaluations: Sequence[Mapping[str, Any]], places: Sequence[Path], rows: Mapping[str, Dataset], samples: int
) -> dict[str, Any]:
    """Data URIs for the template: ROC curves, sample strips, mean spectra."""
    return {
        "rocs": _rocs(evaluations, places),
        "strips": _strips(rows["images"], samples) if "images" in rows else [],
        "spectra": _spectra(rows["spectra"]) if "spectra" in rows else [],
    }


@dataclass(frozen=True)
class Series:
    """Rows of one source that went through the same steps, sorted by id."""

    label: int
    source: str
    steps: str  # from the origin to here, as short as tells it from the source's other series
    alone: bool  # whether the source has no other series
    rows: Dataset

    @property
    def name(self) -> str:
        return self.source if self.alone else f"{self.source} ({self.steps})"


def series(rows: Dataset) -> list[Series]:
    """Rows by label, source and steps: perturbed images are never mixed with those that they were made from."""
    parts = [processing(part.steps) for part in rows.parts]
    full = np.array([steps_text(steps) for steps in parts])[rows.part_numbers]
    names = {steps_text(steps): " → ".join(step["stage"] for step in steps) for steps in parts}
    labels, sources = rows.column("label"), rows.column("source")
    columns = (labels.tolist(), sources.tolist(), full.tolist())
    keys = sorted(set(zip(*columns, strict=True)), key=lambda key: (*key[:2], key[2].count("→"), key[2]))
    found = []
    for label, source, text in keys:
        mine = np.flatnonzero((labels == label) & (sources == source) & (full == text))
        words = np.ascontiguousarray(rows.ids[mine]).view(">u8").reshape(-1, 2)
        others = [key[2] for key in keys if key[:2] == (label, source) and key[2] != text]
        short = text if names[text] in [names[other] for other in others] else names[text]
        chosen = rows.take(mine[np.lexsort((words[:, 1], words[:, 0]))])
        found.append(Series(int(label), str(source), short or "as generated or read", not others, chosen))
    return found


def _strips(rows: Dataset, samples: int) -> list[dict[str, Any]]:
    if "image" not in rows.fields:
        return []
    strips = []
    for one in series(rows):
        images = one.rows.array("image", np.arange(min(samples, len(one.rows))))
        columns = min(COLUMNS, len(images))
        strips.append({
            "source": one.source,
            "name": one.name,
            "kind": "fake" if one.label else "real",
            "about": f"{len(one.rows)} rows after {one.steps}, {images.shape[2]} × {images.shape[1]} px",
            "picture": figures.contact_sheet(images, columns),
            "width": columns * SHOWN_PIXELS,
        })  # fmt: skip
    return strips


def _spectra(rows: Dataset) -> list[dict[str, Any]]:
    parts = {one.name: one.rows for one in series(rows)}
    labels = {one.name: one.label for one in series(rows)}
    found: list[dict[str, Any]] = []
    if "profile" in rows.fields:
        means = {name: figures.moments(mine, "profile") for name, mine in parts.items()}
        picture = figures.profile_figure(means, labels, rows.fields["profile"].units)
        found.append({"title": "Azimuthal profiles", "picture": picture, "width": 1040})
    for field, (title, shifted) in MAPS.items():
        if field in rows.fields:
            maps = {name: figures.moments(mine, field)[0] for name, mine in parts.items()}
            picture = figures.map_figure(maps, labels, shifted)
            found.append({"title": title, "picture": picture, "width": round(100 * figures.map_width(len(maps)))})
    return found


def _rocs(evaluations: Sequence[Mapping[str, Any]], places: Sequence[Path]) -> str:
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


def _names(evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    """Detector and training source; the node too where two would be called the same."""
    names = [f"{one['model']['detector']}, trained on {', '.join(one['model']['trained_on'])}" for one in evaluations]
    return [
        f"{name} ({one['model']['node']})" if names.count(name) > 1 else name
        for name, one in zip(names, evaluations, strict=True)
    ]
