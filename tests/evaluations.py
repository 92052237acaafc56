"""Results of evaluations as plain data, for tests of what is made of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from memory_rows import digest

from stages.reporting.results import METRICS


def row(source: str, auc: float | None, variant: str = "raw", **more: Any) -> dict[str, Any]:
    """One line of results in which every metric is the same number, with an interval of 0.05 on both sides."""
    found: dict[str, Any] = {"variant": variant, "source": source, "n_real": 40, "n_fake": 20, "threshold": 0.5}
    found |= {"few_groups": False, "ap_chance": 0.5, "ap_real_chance": 0.5}
    interval = [None, None] if auc is None else [auc - 0.05, auc + 0.05]
    found |= dict.fromkeys(METRICS.values(), auc) | {f"{name}_interval": interval for name in METRICS.values()}
    return found | more


def evaluation(
    detector: str, trained_on: Sequence[str], rows: Sequence[Mapping[str, Any]], node: str, **more: Any
) -> dict[str, Any]:
    """Results of a detector; `more` goes to what they say of it."""
    model: dict[str, Any] = {"detector": detector, "trained_on": list(trained_on), "node": node, "chains": []}
    model |= {"key": node.encode().hex().ljust(32, "0"), "threshold_rule": "best", "threshold": 0.5, "family": "svm"}
    model |= {"config": {"feature": "profile"}, "made_from": [], "counts": {}} | more
    variants = {one["variant"]: {"reals_from": "raw", "other_features": "", "parts": []} for one in rows}
    return {"model": model, "rows": list(rows), "variants": variants, "null": [], "split": "test", "steps": {}}


def stored(
    folder: Path, results: dict[str, Any], keys: Sequence[tuple[int, str, str]], scores: Sequence[float]
) -> Path:
    """A folder as `evaluate` leaves it: results and the scores of rows (label, source, name) in the variant raw."""
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(results))
    sources = sorted({source for _, source, _ in keys})
    names = np.frombuffer(b"".join(digest(name) for *_, name in keys), dtype="V16")
    np.savez(
        folder / "scores.npz", id=names, group=names, label=np.array([label for label, *_ in keys], np.uint8),
        score=np.array(scores, np.float32), variant=np.zeros(len(keys), np.int32),
        source=np.array([sources.index(source) for _, source, _ in keys], np.int32),
        sources=np.array(sources), variants=np.array(["raw"]),
    )  # fmt: skip
    return folder
