"""Pictures of the report: which rows and which curves go into which figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages import figures, metrics

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


def by_source(rows: Dataset) -> dict[tuple[int, str], Dataset]:
    """(label, source) -> its rows sorted by id; reals first."""
    labels, sources = rows.column("label"), rows.column("source")
    found = {}
    for label, source in sorted({(int(label), str(source)) for label, source in zip(labels, sources, strict=True)}):
        mine = np.flatnonzero((labels == label) & (sources == source))
        words = np.ascontiguousarray(rows.ids[mine]).view(">u8").reshape(-1, 2)
        found[label, source] = rows.take(mine[np.lexsort((words[:, 1], words[:, 0]))])
    return found


def _strips(rows: Dataset, samples: int) -> list[dict[str, Any]]:
    if "image" not in rows.fields:
        return []
    strips = []
    for (label, source), mine in by_source(rows).items():
        images = mine.array("image", np.arange(min(samples, len(mine))))
        columns = min(COLUMNS, len(images))
        strips.append({
            "source": source,
            "kind": "fake" if label else "real",
            "rows": len(mine),
            "size": f"{images.shape[2]} × {images.shape[1]} px",
            "picture": figures.contact_sheet(images, columns),
            "width": columns * SHOWN_PIXELS,
        })  # fmt: skip
    return strips


def _spectra(rows: Dataset) -> list[dict[str, Any]]:
    parts = by_source(rows)
    labels = {source: label for label, source in parts}
    found: list[dict[str, Any]] = []
    if "profile" in rows.fields:
        means = {source: figures.moments(mine, "profile") for (_, source), mine in parts.items()}
        picture = figures.profile_figure(means, labels, rows.fields["profile"].units)
        found.append({"title": "Azimuthal profiles", "picture": picture, "width": 1040})
    for field, (title, shifted) in MAPS.items():
        if field in rows.fields:
            maps = {source: figures.moments(mine, field)[0] for (_, source), mine in parts.items()}
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
