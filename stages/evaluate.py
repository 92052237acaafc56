"""Scores of one detector on the rows of the test split, and the metrics made from them.

The test split is opened here and nowhere else. One row of results per variant and fake source: all reals of the variant
against the fakes of that source; one more row pools all fakes of the variant. A variant that holds no reals (perturbed
fakes, say) is compared with the reals of 'raw', or else of the first variant that has some, and the result says so.
A detector that resamples its feature may be tested at another size than it learned from: the result names both shapes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StageError
from pipeline.stage import (
    FAKE,
    REAL,
    Artifact,
    FitContext,
    Input,
    Kind,
    Promise,
    Rows,
    Schema,
    Stage,
    StageConfig,
    setting,
)
from stages.evaluation.detector_file import Detector, load_detector
from stages.evaluation.metrics import summary, wilson
from stages.training.feature_fields import check_feature
from stages.training.networks import prepare

FORMAT = 1
RESULTS, SCORES = "results.json", "scores.npz"
POOLED = "all"
"""Source name of the row that pools all fakes of a variant."""

BLOCK_ROWS = 512


class EvaluateConfig(StageConfig):
    """Which split is scored."""

    split: Literal["test", "val"] = setting(
        "test", description="rows that are scored: test, or val while you look for mistakes"
    )


class Evaluate(Stage):
    """One detector against one or several variants of a test set."""

    name: ClassVar[str] = "evaluate"
    kind: ClassVar[Kind] = Kind.REDUCE
    makes: ClassVar[str] = "evaluation"
    Config: ClassVar[type[StageConfig]] = EvaluateConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "model": Input("artifact", description="a 'train' node", takes="detector"),
        "test": Input("views", description="rows with the detector's feature; variant's name -> view, or one view"),
    }
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "scipy")
    network: ClassVar[bool] = True
    uses_columns: ClassVar[tuple[str, ...]] = ("label", "split", "source")
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def on_device(self, config: EvaluateConfig, models: Mapping[str, Promise] = MappingProxyType({})) -> bool:
        """Whether the detector is a network, as its training promises; without a promise it may be one."""
        return all(model.facts["runs_network"] for model in models.values())

    def libraries_of(self, config: EvaluateConfig, models: Mapping[str, Promise] = MappingProxyType({})) -> Any:
        """Those of the metrics, and the detector's."""
        return (*self.libraries, *(name for model in models.values() for name in model.facts["libraries"]))

    def schema(self, config: EvaluateConfig, inputs: Mapping[str, Any]) -> Schema:
        """No rows come out; raises ValueError where rows are not what the detector reads."""
        for name in inputs.keys() - {"model"}:
            _, _, variant = name.partition(".")
            check_feature(inputs["model"], f"the rows of {_called(variant)}", inputs[name])
        return {}

    def check_rows(self, config: EvaluateConfig, counts: Mapping[str, Mapping[tuple[str, int], int]]) -> None:
        """Each variant holds fakes, and one of them reals."""
        if lacking := _lacking(config.split, {name.partition(".")[2]: found for name, found in counts.items()}):
            raise ValueError(lacking)

    def fit(self, config: EvaluateConfig, views: Mapping[str, Rows | Mapping[str, Rows]], ctx: FitContext) -> None:
        """Write `results.json` and `scores.npz` (one entry per scored row of each variant)."""
        written = _as_written(views["test"])
        if lacking := _lacking(config.split, {name: _counts(view) for name, view in written.items()}):
            raise StageError(lacking)
        model = _only(ctx.artifacts["model"])
        detector = load_detector(model.path)
        if detector.on_device:
            prepare(ctx.device, ctx.threads)
        variants = {name: view.split(config.split) for name, view in named_views(views["test"]).items()}
        scores = score_all(detector, variants, ctx)
        threshold = float(detector.card["threshold"])
        rows, facts = [], {}
        for name, view in variants.items():
            reals_from = _reals_from(name, variants)
            real = scores[reals_from][variants[reals_from].column("label") == REAL]
            rows += _rows(name, view, scores[name], real, threshold, detector.card.get("published_threshold"))
            shape = list(detector.rows(view).shape)
            facts[name] = {"reals_from": reals_from, "parts": _parts(view), "feature_shape": shape}
        for row in rows:
            row["reals_from"] = facts[row["variant"]]["reals_from"]
        card = detector.card
        kept = ("detector", "family", "config", "trained_on", "threshold", "threshold_rule", "validation", "counts")
        about = {name: card[name] for name in kept} | {"node": model.node, "key": model.key}
        about["feature_shape"] = card.get("feature_shape")  # null: published as it is, or of an earlier version
        about["doubts"] = card.get("doubts", [])
        about["calibrated"] = card.get("calibrated", True)
        chains, steps = _chains(variants)
        results = {
            "format": FORMAT, "model": about, "split": config.split, "rows": rows, "variants": facts,
            "chains": chains, "steps": steps,
        }  # fmt: skip
        text = json.dumps(results, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        (ctx.out / RESULTS).write_text(text, encoding="utf-8", errors="backslashreplace")
        _save_scores(ctx, variants, scores, chains)
        shown = ("variant", "source", "n_real", "n_fake", "ap", "auc", "accuracy", "tpr", "tnr")
        ctx.facts["rows"] = [{name: row[name] for name in shown} for row in rows]
        ctx.facts["detector"] = card["detector"]


def _only(found: Artifact | tuple[Artifact, ...]) -> Artifact:
    return found[0] if isinstance(found, tuple) else found


def _called(variant: str) -> str:
    """A variant as the user wrote it: a single view has no name."""
    return f"variant '{variant}' of 'test'" if variant else "'test'"


def _lacking(split: str, counts: Mapping[str, Mapping[tuple[str, int], int]]) -> str:
    """A sentence about a variant without fakes, or no variant with reals; else "". counts: as in `check_rows`."""
    for name, found in counts.items():
        if not found.get((split, FAKE)):
            way_out = "add fakes or remove it" if name else "add fakes to it"
            return f"{_called(name)} holds no fake rows of split '{split}'; {way_out}"
    if not any(found.get((split, REAL)) for found in counts.values()):
        names = ", ".join(counts)
        whose, where = (f"no variant of 'test' ({names}) holds", "one of them") if names else ("'test' holds no", "it")
        return f"{whose} real rows of split '{split}'; add reals to {where}"
    return ""


def _counts(view: Rows) -> Counter[tuple[str, int]]:
    return Counter(zip(view.column("split").tolist(), view.column("label").tolist(), strict=True))


def _as_written(view: Rows | Mapping[str, Rows]) -> Mapping[str, Rows]:
    """Name of the variant -> rows; a single view has the name ""."""
    return view if isinstance(view, Mapping) else {"": view}


def named_views(view: Rows | Mapping[str, Rows]) -> dict[str, Rows]:
    """Variant name -> rows; a single view is called 'raw'."""
    return {name or "raw": rows for name, rows in _as_written(view).items()}


def score_all(detector: Detector, variants: Mapping[str, Rows], ctx: FitContext) -> dict[str, NDArray[np.float32]]:
    """Scores (n,) of each variant's rows, with progress over all of them."""
    total, done = sum(len(view) for view in variants.values()), 0
    result = {}
    for name, view in variants.items():
        parts = []
        for block in detector.rows(view).blocks(BLOCK_ROWS):
            parts.append(detector.scores([block], ctx.device))
            done += len(block)
            ctx.report(done, total)
        result[name] = np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
    return result


def _reals_from(name: str, variants: Mapping[str, Rows]) -> str:
    """The variant whose reals stand against the fakes of variant `name`."""
    having = [one for one, view in variants.items() if (view.column("label") == REAL).any()]
    return next(one for one in (name, "raw", *variants) if one in having)


def _rows(
    variant: str,
    view: Rows,
    scores: NDArray[np.float32],
    real: NDArray[np.float32],
    threshold: float,
    published: float | None,
) -> list[dict[str, Any]]:
    """One row of metrics per fake source, and the pooled one. published: the threshold of a detector's authors."""
    fake = view.column("label") == FAKE
    sources = view.column("source")
    found = []
    for source in [*sorted(set(sources[fake].tolist())), POOLED]:
        chosen = scores[fake if source == POOLED else fake & (sources == source)]
        labels = np.repeat(np.array([REAL, FAKE], dtype=np.uint8), [len(real), len(chosen)])
        metrics = summary(np.concatenate([real, chosen]), labels, threshold)
        if published is not None:
            right = int((chosen >= published).sum() + (real < published).sum())
            metrics |= {"accuracy_published": right / len(labels)}
            metrics |= {"accuracy_published_interval": list(wilson(right, len(labels)))}
        found.append({"variant": variant, "source": source, **metrics})
    return found


def _parts(view: Rows) -> list[dict[str, Any]]:
    """Of each branch: chain, how many real and fake rows, their sources."""
    labels, sources, numbers = view.column("label"), view.column("source"), view.part_numbers
    result = []
    for number, part in enumerate(view.parts):
        mine = numbers == number
        result.append({
            "chain": bytes(part.chain).hex(),
            "stage": part.stage,
            "real": int((labels[mine] == REAL).sum()),
            "fake": int((labels[mine] == FAKE).sum()),
            "sources": sorted(set(sources[mine].tolist())),
        })  # fmt: skip
    return result


def _chains(variants: Mapping[str, Rows]) -> tuple[list[str], dict[str, Any]]:
    """All chains in the order of their digests, and the steps from the source to each."""
    steps = {bytes(part.chain).hex(): list(part.steps) for view in variants.values() for part in view.parts}
    return sorted(steps), steps


def _save_scores(
    ctx: FitContext, variants: Mapping[str, Rows], scores: Mapping[str, NDArray[np.float32]], chains: list[str]
) -> None:
    """id V16, chain (index into `chains`), label, score, source and variant (index into `sources`, `variants`)."""
    names = list(variants)
    sources = sorted({source for view in variants.values() for source in view.column("source").tolist()})
    columns: dict[str, list[NDArray[Any]]] = {k: [] for k in ("id", "chain", "label", "score", "source", "variant")}
    for number, (name, view) in enumerate(variants.items()):
        of_part = np.array([chains.index(bytes(part.chain).hex()) for part in view.parts], dtype=np.int32)
        columns["id"].append(view.ids)
        columns["chain"].append(of_part[view.part_numbers])
        columns["label"].append(view.column("label").astype(np.uint8))
        columns["score"].append(scores[name])
        columns["source"].append(np.searchsorted(np.array(sources), view.column("source")).astype(np.int32))
        columns["variant"].append(np.full(len(view), number, dtype=np.int32))
    arrays = {name: np.concatenate(found) for name, found in columns.items()}
    words = {"sources": np.array(sources), "variants": np.array(names), "chains": np.array(chains)}
    np.savez(ctx.out / SCORES, allow_pickle=False, **arrays, **words)
