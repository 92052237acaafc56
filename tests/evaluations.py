"""Results of evaluations as plain data, for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
    model = {
        "detector": detector,
        "trained_on": list(trained_on),
        "node": node,
        "key": node.encode().hex().ljust(32, "0"),
    }
    model |= {"threshold_rule": "best", "threshold": 0.5, "config": {}, "made_from": [], "family": "svm"} | more
    variants = {one["variant"]: {"reals_from": "raw", "other_features": "", "parts": []} for one in rows}
    return {"model": model, "rows": list(rows), "variants": variants, "null": [], "split": "test", "steps": {}}
