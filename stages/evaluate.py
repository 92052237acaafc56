"""Scores of one detector on the rows of the test split, and the metrics made from them.

The test split is opened here and nowhere else. One row of results per variant and fake source: all reals of the variant
against the fakes of that source; one more row pools all fakes of the variant. A variant that holds no reals (perturbed
fakes, say) is compared with the reals of 'raw', or else of the first variant that has some, and the result says so.
A detector that resamples its feature may be tested at another size than it learned from: the result names both shapes.
It names the chains, too, that the detector was trained on, and says where rows of a variant were made in another way.
Intervals know which rows belong together (`group`). With `vote` all frames of a video count as one. A last kind of
result needs no fakes: the reals in two halves.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StageError
from pipeline.sentences import counted
from pipeline.stage import (
    FAKE,
    POOLED,
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
    row_setting,
    setting,
)
from pipeline.steps import measured_step, unlike
from stages.evaluation.detector_file import load_detector
from stages.evaluation.intervals import summary
from stages.evaluation.known_scores import SCORES
from stages.evaluation.outcomes import HALF, Outcomes, numbers
from stages.evaluation.scoring import Scorer, score_all
from stages.training.feature_fields import check_feature, fields_read
from stages.training.networks import prepare

FORMAT = 1
RESULTS = "results.json"
KEPT_COLUMNS = ("id", "digest", "group", "chain", "label", "score", "source", "variant")

SATURATED = 0.02
"""Share of a variant's rows that each class may have at one end of the scores without a word."""


class EvaluateConfig(StageConfig):
    """Which split is scored."""

    split: Literal["test", "val"] = setting(
        "test", description="rows that are scored: test, or val while you look for mistakes"
    )
    vote: Literal["none", "origin"] = setting(
        "none",
        description="origin: what was made of one file or sample, as frames of a video, counts once; its score is the "
        "share of it that the detector calls fake, from a half on it is fake",
    )
    called: str | None = row_setting(
        None, description="name of the detector in tables; if left out, the words of its node's matrix"
    )


class Evaluate(Stage):
    """One detector against one or several variants of a test set."""

    name: ClassVar[str] = "evaluate"
    kind: ClassVar[Kind] = Kind.REDUCE
    makes: ClassVar[str] = "evaluation"
    Config: ClassVar[type[StageConfig]] = EvaluateConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "model": Input("artifact", description="a 'train' node", takes="detector"),
        "test": Input(
            "views",
            description="rows with the detector's feature; variant's name -> view, or one view. Of rows that a view "
            "holds in several ways, those that were made as the detector's own",
            like="model",
        ),
    }
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "scipy")
    network: ClassVar[bool] = True
    uses_columns: ClassVar[tuple[str, ...]] = ("label", "split", "source", "group", "origin")
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    shares_rows: ClassVar[bool] = True

    def on_device(self, config: EvaluateConfig, models: Mapping[str, Promise] = MappingProxyType({})) -> bool:
        """Whether the detector is a network, as its training promises; without a promise it may be one."""
        return all(model.facts["runs_network"] for model in models.values())

    def libraries_of(self, config: EvaluateConfig, models: Mapping[str, Promise] = MappingProxyType({})) -> Any:
        """Those of the metrics, and the detector's."""
        return (*self.libraries, *(name for model in models.values() for name in model.facts["libraries"]))

    def reads(self, config: EvaluateConfig, models: Mapping[str, Promise]) -> Mapping[str, tuple[str, ...]]:
        """The fields of the detector."""
        return {"test": fields_read(models["model"])}

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
        self.fit_together([config], views, [ctx])

    def fit_together(
        self,
        configs: Sequence[EvaluateConfig],
        views: Mapping[str, Rows | Mapping[str, Rows]],
        contexts: Sequence[FitContext],
    ) -> None:
        """The same for detectors that read the same fields of the same rows, each of which is read once."""
        split = configs[0].split
        written = _as_written(views["test"])
        if lacking := _lacking(split, {name: _counts(view) for name, view in written.items()}):
            raise StageError(lacking)
        scorers = [Scorer(load_detector(_only(ctx.artifacts["model"]).path), ctx) for ctx in contexts]
        for one in scorers:
            if one.detector.on_device:
                prepare(one.ctx.device, one.ctx.threads)
        variants = {name: view.split(split) for name, view in named_views(views["test"]).items()}
        score_all(scorers, variants)
        for config, one in zip(configs, scorers, strict=True):
            _write(config, variants, one)


def _write(config: EvaluateConfig, variants: Mapping[str, Rows], scored: Scorer) -> None:
    """Results and scores of one detector."""
    detector, ctx, scores = scored.detector, scored.ctx, scored.scores
    model = _only(ctx.artifacts["model"])
    tested = {name: Outcomes.of(view, scores[name]) for name, view in variants.items()}
    threshold, published = float(detector.card["threshold"]), detector.card.get("published_threshold")
    about = _about(detector.card, model)
    about["doubts"] = [*about["doubts"], *saturated(tested)]
    if config.vote == "origin":
        rows_of = sum(len(one.ids) for one in tested.values())
        tested = {name: one.voted(variants[name].column("origin"), threshold) for name, one in tested.items()}
        if sum(len(one.ids) for one in tested.values()) == rows_of:
            raise StageError("'vote: origin' has no effect, since no two rows were made of one file or sample; drop it")
        rule = f"half of the votes of what was made of one file or sample, each at {threshold:.4f}"
        threshold, published, about = HALF, None, about | {"threshold": HALF, "threshold_rule": rule}
    rows, facts, halves = [], {}, []
    for name, view in variants.items():
        reals_from = _reals_from(name, variants)
        found = _rows(name, tested[name], tested[reals_from], threshold, published)
        rows += [row | {"reals_from": reals_from} for row in found]
        facts[name] = {
            "reals_from": reals_from,
            "parts": _parts(view),
            "feature_shape": list(detector.rows(view).shape),
            "other_features": other_features(view, model.info.get("made_from", {})),
        }
        if reals_from == name:
            halves.append({"variant": name, **tested[name].halves()})
    chains, steps = _chains(variants)
    results = {
        "format": FORMAT, "model": about, "split": config.split, "rows": rows,
        "variants": facts, "chains": chains, "steps": steps, "null": halves,
    }  # fmt: skip
    text = json.dumps(without_nan(results), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    (ctx.out / RESULTS).write_text(text, encoding="utf-8", errors="backslashreplace")
    _save_scores(ctx, tested, chains)
    shown = ("variant", "source", "n_real", "n_fake", "ap", "auc", "balanced_accuracy", "accuracy", "tpr", "tnr")
    ctx.facts["rows"] = without_nan([{name: row[name] for name in shown} for row in rows])
    ctx.facts["detector"] = detector.card["detector"]


def _about(card: Mapping[str, Any], model: Artifact) -> dict[str, Any]:
    """What results say of the detector."""
    kept = ("detector", "family", "config", "trained_on", "threshold", "threshold_rule", "validation", "counts")
    about = {name: card[name] for name in kept} | {"node": model.node, "key": model.key}
    about["feature_shape"] = card.get("feature_shape")  # null: published as it is, or of an earlier version
    about["doubts"] = card.get("doubts", [])
    about["calibrated"] = card.get("calibrated", True)
    about["chains"] = card.get("chains")  # of the rows it was trained on; null: of an earlier version
    about["made_from"] = [dict(step) for _, step in sorted(model.info.get("made_from", {}).items())]
    return about


def saturated(tested: Mapping[str, Outcomes]) -> list[str]:
    """A sentence for each variant in which scores of both classes are 1, or 0: float32 has no number between.

    A detector that is far from what it was calibrated on may still order such rows, and its scores no longer do.
    """
    found = []
    for name, one in tested.items():
        for end in (0, 1):
            real, fake = (int(((one.scores == end) & (one.labels == label)).sum()) for label in (REAL, FAKE))
            if min(real, fake) > SATURATED * len(one.scores):
                found.append(
                    f"in {name} the scores of {counted(real, 'real')} and {counted(fake, 'fake')} are all {end}: so "
                    "far from the rows of the calibration they no longer order these, and areas count them as equal"
                )
    return found


def other_features(view: Rows, learned: Mapping[str, Mapping[str, Any]]) -> str:
    """How rows were made otherwise than those that a detector learned from; "" if they were not, or nobody knows.

    learned: recipe -> step that gave the rows of the training their values
    """
    met = {step["recipe"]: step for part in view.parts if part.steps for step in [measured_step(part.steps)]
           if "recipe" in step}  # fmt: skip
    others = [met[recipe] for recipe in sorted(met) if learned and recipe not in learned]
    return unlike(learned.values(), others)


def without_nan(value: Any) -> Any:
    """Plain data with null where a number is none."""
    if isinstance(value, Mapping):
        return {name: without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


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


def _reals_from(name: str, variants: Mapping[str, Rows]) -> str:
    """The variant whose reals stand against the fakes of variant `name`."""
    having = [one for one, view in variants.items() if (view.column("label") == REAL).any()]
    return next(one for one in (name, "raw", *variants) if one in having)


def _rows(
    variant: str, tested: Outcomes, having_reals: Outcomes, threshold: float, published: float | None
) -> list[dict[str, Any]]:
    """One row of metrics per fake source, and the pooled one. published: threshold of a detector's authors."""
    fakes, real = tested.where(tested.labels == FAKE), having_reals.where(having_reals.labels == REAL)
    found = []
    for source in [*sorted(set(fakes.sources.tolist())), POOLED]:
        fake = fakes if source == POOLED else fakes.where(fakes.sources == source)
        labels = np.repeat(np.array([REAL, FAKE], dtype=np.uint8), [len(real.scores), len(fake.scores)])
        scores = np.concatenate([real.scores, fake.scores])
        groups = numbers(np.concatenate([real.groups, fake.groups]))
        found.append({"variant": variant, "source": source, **summary(scores, labels, groups, threshold, published)})
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


def _save_scores(ctx: FitContext, tested: Mapping[str, Outcomes], chains: list[str]) -> None:
    """id, digest of the values and group V16, chain (index into `chains`), label, score, source and variant."""
    sources = sorted({source for one in tested.values() for source in one.sources.tolist()})
    columns: dict[str, list[NDArray[Any]]] = {k: [] for k in KEPT_COLUMNS}
    for number, one in enumerate(tested.values()):
        columns["id"].append(one.ids)
        columns["digest"].append(one.digests)
        columns["group"].append(one.groups)
        columns["chain"].append(np.searchsorted(np.array(chains), one.chains).astype(np.int32))
        columns["label"].append(one.labels.astype(np.uint8))
        columns["score"].append(one.scores)
        columns["source"].append(np.searchsorted(np.array(sources), one.sources).astype(np.int32))
        columns["variant"].append(np.full(len(one.ids), number, dtype=np.int32))
    arrays = {name: np.concatenate(found) for name, found in columns.items()}
    words = {"sources": np.array(sources), "variants": np.array(list(tested)), "chains": np.array(chains)}
    np.savez(ctx.out / SCORES, allow_pickle=False, **arrays, **words)
