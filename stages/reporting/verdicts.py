"""The verdicts on detectors in the page's head: best and worst where trained and elsewhere, and the least cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from pipeline.stage import POOLED
from stages.evaluation.single_numbers import is_baseline
from stages.reporting.names import Name, named
from stages.reporting.section import Results, Tile
from stages.reporting.tables import base_variant

KINDS = (("seen", "sources seen in training"), ("unseen", "unseen sources"))


def tiles(evaluations: Sequence[Results], anchor: str = "results") -> list[Tile]:
    """Means of AUC over the sources of one variant, and the least AUC of all variants, baselines left out."""
    whole = list(zip(evaluations, named(evaluations), strict=True))
    pairs = [pair for pair in whole if not is_baseline(pair[0])] or whole
    variant = base_variant(evaluations)
    found = []
    for kind, words in KINDS:
        means = {}
        for results, name in pairs:
            values = [value for source, value in _cells(results, variant)
                      if (source in results["model"]["trained_on"]) == (kind == "seen")]  # fmt: skip
            if values:
                means[name] = fmean(values)
        ranked = sorted(means, key=lambda name: -means[name])
        ends = (("best", ranked), ("worst", ranked[::-1])) if len(means) > 1 else (("mean", ranked),) if means else ()
        for word, names in ends:
            value = means[names[0]]
            found.append(
                Tile(f"{word} on {words}", f"{value:.3f}", _who(names, [means[name] for name in names]), anchor)
            )
    return [*found, *_least(pairs, anchor)]


def _cells(results: Results, variant: str) -> Iterator[tuple[str, float]]:
    """Sources of fakes and AUC of a variant."""
    for row in results["rows"]:
        if row["variant"] == variant and row["source"] != POOLED and row["auc"] is not None:
            yield row["source"], row["auc"]


def _who(names: Sequence[Name], values: Sequence[float]) -> str:
    others = sum(value == values[0] for value in values) - 1
    return f"{names[0]}{f', and {others} more' if others else ''}"


def _least(pairs: Sequence[tuple[Results, Name]], anchor: str) -> list[Tile]:
    cells = [(row["auc"], row, name) for results, name in pairs for row in results["rows"]
             if row["source"] != POOLED and row["auc"] is not None]  # fmt: skip
    if not cells:
        return []
    value, row, name = min(cells, key=lambda cell: cell[0])
    low, high = row["auc_interval"]
    about = f"{low:.3f} – {high:.3f}: {name}, on {row['source']} in {row['variant']}"
    return [Tile("least AUC of all cells", f"{value:.3f}", about, anchor)]
