"""Train a detector from cached features: a view of rows in, weights and a card out.

Only train and val rows arrive here; epoch, calibration and threshold are chosen on val. The threshold is the one with
the best balanced accuracy on validation scores (`detectors.calibration.best_threshold`). A long fit saves its progress
after each epoch and goes on from there after a kill. A published detector is taken from its file and learns nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import SerializeAsAny, field_validator, model_validator

from detectors import FAMILIES
from detectors.calibration import best_threshold
from detectors.choosing import DetectorSchema, detector_config, family_module, module_name
from detectors.contract import Control, DetectorConfig, Diverged, State
from pipeline.atomic import write_bytes
from pipeline.contents import file_sha256
from pipeline.errors import Interrupted, StageError
from pipeline.stage import (
    FAKE,
    REAL,
    FitContext,
    Input,
    Kind,
    Promise,
    Rows,
    Schema,
    Stage,
    StageConfig,
    file_setting,
    setting,
)
from stages.evaluation.detector_file import FeatureRows, promised, save_detector
from stages.spectra import statistics_file
from stages.training import progress
from stages.training.alike import check_alike
from stages.training.doubts import doubts
from stages.training.feature_fields import fields_read, no_feature
from stages.training.kept_facts import write_facts
from stages.training.kept_lineage import kept_lineage, licences
from stages.training.members import (
    check_members,
    fields_of,
    kept_promises,
    load_members,
    promised_members,
    promises,
    sources_of,
)
from stages.training.networks import prepare
from stages.training.row_order import fingerprint, in_order

__all__ = ["Train", "TrainConfig"]

LOG = "log.jsonl"
PRETRAINED, JOINT = "stages.training.pretrained", "stages.training.joint_classifier"
GIVEN = {"published": PRETRAINED, "joint_classifier": JOINT}
"""Families whose weights `pretrained` names, and who reads those of an entry of a manifest, or of a joint training."""
UNNAMED = DetectorConfig(family="", feature="")
"""The detector that an entry or node says."""
KEPT = ("detector", "threshold", "validation", "trained_on")
"""Entries of the card that `artifact.json` repeats, beside what was promised."""
LEAST_ROWS = 2
"""Rows of each class that train and val must hold."""


class TrainConfig(StageConfig):
    """Which detector, and the seed of its training."""

    detector: Annotated[SerializeAsAny[DetectorConfig], DetectorSchema()] = setting(
        None,
        description=f"a preset's name; or a mapping with `family` ({', '.join(FAMILIES)}, or a module beside the "
        "pipeline file) and its settings, listed below; or a mapping with `preset` and the settings that differ, e.g. "
        "{preset: profile-svm, C: 1.0}",
    )
    pretrained: str | None = file_setting(
        None,
        description="instead of `detector` a published one, MANIFEST.yaml#ENTRY: the entry says how its file is used; "
        "of `on` only validation rows are read, for calibration and a second threshold, or there is no `on`; or a node "
        "train_resynthesizer with `joint`: its classifier, on residuals that its re-synthesizer makes",
    )
    start_from: str | None = file_setting(
        None,
        description="of a network (family deep) weights to go on from in place of random ones: the file of a published "
        "detector of the same architecture, or MANIFEST.yaml#ENTRY",
    )
    seed: int = setting(
        0,
        ge=0,
        description="seed of what a training draws: initial weights and order of rows (networks), trees, first centers",
    )
    standardization: str | None = file_setting(
        None,
        description="statistics for a detector with `normalization: standardize`: a node of the stage standardize or "
        "the file statistics.safetensors of one; none: taken from the training rows of `on`",
    )

    @field_validator("detector", mode="before")
    @classmethod
    def _resolve(cls, value: Any) -> DetectorConfig:
        if value is None:
            return UNNAMED
        if not isinstance(value, str | Mapping | DetectorConfig):
            raise ValueError("expected a preset's name or a mapping with 'family'")
        return detector_config(value)

    @model_validator(mode="after")
    def _one_detector(self) -> TrainConfig:
        if (self.pretrained is None) == (self.detector is UNNAMED):
            found = "both" if self.pretrained else "neither"
            raise ValueError(f"expected 'detector' or 'pretrained', found {found}")
        if self.detector.family in GIVEN and self.pretrained is None:
            raise ValueError(
                f"the family '{self.detector.family}' has its weights from a file; name an entry, or the node of a "
                "joint training, in 'pretrained' instead"
            )
        if self.start_from is not None and self.detector.family != "deep":
            raise ValueError("'start_from' has no effect but on a detector of the family 'deep'; remove it")
        return self


class Train(Stage):
    """Fits one detector; its code closure holds the family that the config selects and no other."""

    name: ClassVar[str] = "train"
    kind: ClassVar[Kind] = Kind.FIT
    makes: ClassVar[str] = "detector"
    Config: ClassVar[type[StageConfig]] = TrainConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "on": Input(
            "rows",
            required=False,
            description="rows of both classes with the detector's `feature`; may lack if published",
        ),
        "standardization": Input("artifact", required=False, takes="statistics", description="its statistics"),
        "pretrained": Input(
            "artifact", required=False, takes="re-synthesizer", description="a joint training, whose classifier it is"
        ),
        "members": Input(
            "artifacts", required=False, takes="detector", description="of a fusion: the detectors that it is made of"
        ),
    }
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "scikit-learn", "scipy", "safetensors")
    network: ClassVar[bool] = True
    uses_columns: ClassVar[tuple[str, ...]] = ("label", "split", "source")
    keeps_lineage: ClassVar[bool] = True

    def reads(self, config: TrainConfig, models: Mapping[str, Any]) -> Mapping[str, tuple[str, ...]]:
        """The fields of the detector, or of its members."""
        of_members = [field for one in promises(models) for field in fields_read(one)]
        return {"on": tuple(dict.fromkeys(of_members or config.detector.fit_fields.values()))}

    def schema(self, config: TrainConfig, inputs: Mapping[str, Any]) -> Schema:
        """No rows come out; raises ValueError where rows or statistics are not what the detector reads."""
        config = resolved(config, inputs)
        if "on" not in inputs and config.detector.family != "published":
            needing = "detector" if config.pretrained is None else "pretrained"
            raise ValueError(f"lacks 'on' ({self.inputs['on'].description}), which '{needing}' needs")
        rows: Schema = inputs.get("on", {})
        check_members(config.detector, inputs, rows)
        if config.detector.fuses or "on" not in inputs:
            return {}
        for setting_name, field in config.detector.fit_fields.items():
            check_alike(rows, field)
            if field not in rows:
                raise ValueError(no_feature("the rows of 'on'", field, rows, setting_name))
        name = config.detector.feature
        config.detector.check(rows[name].shape, rows[name].axes)
        config.detector.check_fields({key: rows[field].shape for key, field in config.detector.fit_fields.items()})
        if "standardization" in inputs:
            statistics_file.check(inputs["standardization"], name, rows[name])
        return {}

    def check_rows(self, config: TrainConfig, counts: Mapping[str, Mapping[tuple[str, int], int]]) -> None:
        """Rows of both classes in what is learned from and chosen by, as far as the family is known."""
        if config.detector.family and "on" in counts and (lacking := _lacking(counts["on"], _needed(config))):
            raise ValueError(lacking)

    def promise(self, config: TrainConfig, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the detector reads."""
        config = resolved(config, inputs)
        if config.detector.fuses:
            return promised_members(config.detector, inputs)
        rows = inputs.get("on")
        return promised(config.detector, None if rows is None else rows[config.detector.feature].shape)

    def with_entries(self, config: TrainConfig, entries: Mapping[str, Mapping[str, Any]]) -> TrainConfig:
        """The published detector that an entry of a manifest says."""
        if "pretrained" not in entries:
            return config
        detector = import_module(PRETRAINED).detector_of(config.pretrained, entries["pretrained"])
        return config.model_copy(update={"detector": detector})

    def check(self, config: TrainConfig, files: Mapping[str, Any]) -> None:
        """Statistics are readable, and of use; a file of weights has an entry."""
        config = resolved(config, files)
        if not config.detector.family:
            raise ValueError(
                f"'pretrained' is {config.pretrained}, a file whose tensors do not tell strides, preprocessing and "
                "threshold; expected MANIFEST.yaml#ENTRY, an entry that does"
            )
        if config.detector.family == "published" and "pretrained" in files:
            import_module(PRETRAINED).check_files(config.detector, Path(files["pretrained"]))
        if "standardization" in files:
            if not config.detector.standardizes:
                raise ValueError(
                    "'standardization' has no effect on a detector without `normalization: standardize`; remove it"
                )
            statistics_file.read_description(files["standardization"])

    def on_device(self, config: TrainConfig, models: Mapping[str, Any] = MappingProxyType({})) -> bool:
        """Only a family that is a network; the others give the same bytes on every device."""
        config = resolved(config, models)
        if config.detector.fuses and models:
            return any(one.facts["runs_network"] for one in promises(models))
        return config.detector.on_device or config.detector.fuses or not config.detector.family

    def libraries_of(self, config: TrainConfig, models: Mapping[str, Any] = MappingProxyType({})) -> tuple[str, ...]:
        """Those of every training, and the family's."""
        of_members = sorted({name for one in promises(models) for name in one.facts["libraries"]})
        return (*self.libraries, *resolved(config, models).detector.libraries, *of_members)

    def environment(self, config: TrainConfig) -> Mapping[str, str]:
        """What the family's training depends on."""
        return config.detector.environment()

    def modules(self, config: TrainConfig, files: Mapping[str, Any] = MappingProxyType({})) -> tuple[str, ...]:
        """The family's module, and those that its config selects."""
        config = resolved(config, files)
        more = [] if config.pretrained is None else [GIVEN[config.detector.family]]
        more += [] if config.start_from is None else [PRETRAINED]
        return (module_name(config.detector.family), *config.detector.modules, *more)

    def fit(self, config: TrainConfig, views: Mapping[str, Rows | Mapping[str, Rows]], ctx: FitContext) -> None:
        """Write `model.safetensors`, `card.json`, and in `files` what the steps in the card need."""
        config = resolved(config, promises_of(ctx))
        if "on" in views:
            card = self._card(config, views["on"], ctx)
        else:
            card = import_module(PRETRAINED).publish(config.detector, ctx)
        if (ctx.scratch / LOG).is_file():
            write_bytes(ctx.out / LOG, (ctx.scratch / LOG).read_bytes())
        ctx.facts.update({name: card[name] for name in KEPT})

    def _card(self, config: TrainConfig, dataset: Any, ctx: FitContext) -> dict[str, Any]:
        """Train, or calibrate what was published, and write model and card; returns the card."""
        given = None if config.pretrained is None else import_module(GIVEN[config.detector.family])
        members = load_members(ctx.artifacts.get("members", ()), dataset)
        splits = {
            name: FeatureRows(in_order(rows), *fields_of(config.detector, members))
            for name, rows in _splits(dataset, config).items()
        }
        present = {
            (name, label): int((rows.labels == label).sum()) for name, rows in splits.items() for label in (REAL, FAKE)
        }
        if lacking := _lacking(present, _needed(config)):
            raise StageError(lacking)
        promise = self.promise(config, {"on": dataset.fields, **kept_promises(members)})
        family, runs_network = family_module(config.detector.family), promise["runs_network"]
        if runs_network:
            prepare(ctx.device, ctx.threads)
        control = _control(config, ctx)
        control.members = members
        if given is not None:
            control.weights = given.weights_of(config.detector, dataset, ctx)
        elif config.start_from is not None:
            path = Path(ctx.files["start_from"])
            control.weights = import_module(PRETRAINED).starting_weights(config.detector, dataset.fields, path)
        if config.standardization is not None:
            control.moments = statistics_file.load(_statistics_path(ctx))
        try:
            state = family.fit(config.detector, splits["train"], splits["val"], control)
        except Diverged as error:
            raise StageError(str(error)) from None
        val = splits["val"]
        scores = np.concatenate([family.score(config.detector, state, block, ctx.device) for block in val.blocks(512)])
        threshold = best_threshold(scores, val.labels)
        learned = dataset.split("train")
        write_facts(ctx.out, learned if len(learned) else val.dataset, scores[val.labels == REAL])
        counts = {name: _counts(rows.dataset) for name, rows in splits.items()}
        libraries = self.libraries_of(config, kept_promises(members))
        lineage = kept_lineage({name: rows.dataset for name, rows in splits.items()}, ctx.out)
        facts = {
            "seed": config.seed,
            "threshold": threshold,
            "threshold_rule": "best balanced accuracy on validation rows; a score at or above it means fake",
            "validation": validation_metrics(scores, val.labels, threshold),
            "doubts": doubts(state.plain),
            "counts": counts,
            "trained_on": sorted({*counts["train"]["sources"]["fake"], *sources_of(members)}),
            **promise,
            "standardized_by": _standardized_by(config, ctx),
            "chains": sorted({bytes(part.chain).hex() for rows in splits.values() for part in rows.dataset.parts}),
            "data_fingerprint": {name: fingerprint(rows.dataset) for name, rows in splits.items()},
            "environment": _environment(libraries, ctx if runs_network else None),
            "licences": licences(lineage),
            "lineage": lineage,
        }
        if given is not None:
            facts |= given.card_of(config.detector, state, dataset, ctx)
        elif config.start_from is not None:
            facts["started_from"] = file_sha256(Path(ctx.files["start_from"]))
        ctx.facts.update(promise)
        return save_detector(ctx.out, config.detector, state, facts)


def resolved(config: TrainConfig, given: Mapping[str, Any]) -> TrainConfig:
    """The config with the detector that a joint training promises, where `pretrained` names one.

    given: what planning has in place of files and inputs, as in `Stage.schema`.
    """
    promise = given.get("pretrained")
    if not isinstance(promise, Promise):
        return config
    return config.model_copy(update={"detector": import_module(JOINT).detector_of(promise)})


def promises_of(ctx: FitContext) -> dict[str, Promise]:
    """What the artifacts of inputs that take one have promised."""
    return {name: Promise(found[0].node, found[0].info.get("facts", {})) for name, found in ctx.artifacts.items()}


def _splits(dataset: Rows, config: TrainConfig) -> dict[str, Rows]:
    """Rows to learn from, if it does, and rows to choose by."""
    train, val = dataset.split("train"), dataset.split("val")
    return {"train": train if config.detector.learns else train.take(np.arange(0)), "val": val}


def _needed(config: TrainConfig) -> tuple[str, ...]:
    """Splits that must hold rows of both classes."""
    return ("train", "val") if config.detector.learns else ("val",)


def _statistics_path(ctx: FitContext) -> Path:
    """Of a node's artifact, or the file that the setting names."""
    if "standardization" in ctx.artifacts:
        return ctx.artifacts["standardization"][0].path / statistics_file.FILE
    return Path(ctx.files["standardization"])


def _standardized_by(config: TrainConfig, ctx: FitContext) -> str:
    """Whose statistics, for the card."""
    if not config.detector.standardizes:
        return "nothing"
    if config.standardization is None:
        return "its training rows"
    return f"statistics {hashlib.sha256(_statistics_path(ctx).read_bytes()).hexdigest()[:32]}"


def _lacking(counts: Mapping[tuple[str, int], int], splits: Iterable[str]) -> str:
    """What rows lack for a training, or nothing. counts: (split, label) -> rows."""
    for label, name in ((REAL, "real"), (FAKE, "fake")):
        if not any(found for (_, one), found in counts.items() if one == label):
            return (
                f"'on' holds no {name} row, but training needs both classes; an `ingest` node says `label: {name}` of "
                f"its files, and generators make fakes: add such a node to what 'on' reads"
            )
        for split in splits:
            found = counts.get((split, label), 0)
            if found < LEAST_ROWS:
                rows = sum(number for (one, _), number in counts.items() if one == split)
                return (
                    f"split '{split}' holds {found} {name} rows of {rows}, but training needs {LEAST_ROWS} or more of "
                    f"each class in train and val; add {name} rows to 'on' or change the splits"
                )
    return ""


def _control(config: TrainConfig, ctx: FitContext) -> Control:
    """Progress and log are files in scratch, each replaced as a whole; after Ctrl-C the fit ends at its next saving."""
    path = ctx.scratch / progress.FILE

    def save(state: State) -> None:
        write_bytes(path, progress.pack(state))
        if ctx.stopping():
            raise Interrupted("training stopped; the epochs so far are kept and the same command goes on")

    def log(entries: Sequence[Mapping[str, float]]) -> None:
        write_bytes(ctx.scratch / LOG, "".join(json.dumps(entry) + "\n" for entry in entries).encode())

    return Control(
        config.seed, ctx.device, lambda: progress.restore(path), save, ctx.stopping, report=ctx.report, log=log
    )


def _counts(dataset: Rows) -> dict[str, Any]:
    labels, sources = dataset.column("label"), dataset.column("source")
    result: dict[str, Any] = {"sources": {}}
    for label, name in ((0, "real"), (1, "fake")):
        values, numbers = np.unique(sources[labels == label], return_counts=True)
        result[name] = int((labels == label).sum())
        result["sources"][name] = {str(value): int(number) for value, number in zip(values, numbers, strict=True)}
    return result


def validation_metrics(scores: NDArray[np.float32], labels: NDArray[np.uint8], threshold: float) -> dict[str, float]:
    """Numbers of the card; the full ones with intervals are `evaluate`'s, which a change here must not retrain."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    fake = scores[labels == 1].astype(np.float64)
    real = scores[labels == 0].astype(np.float64)
    return {
        "ap": float(average_precision_score(labels, scores)),
        "auc": float(roc_auc_score(labels, scores)),
        "tpr": float((fake >= threshold).mean()),
        "tnr": float((real < threshold).mean()),
        "balanced_accuracy": float(((fake >= threshold).mean() + (real < threshold).mean()) / 2),
        "balanced_accuracy_at_half": float(((fake >= 0.5).mean() + (real < 0.5).mean()) / 2),
    }


def _environment(libraries: tuple[str, ...], ctx: FitContext | None) -> dict[str, str]:
    """Versions; for a network also what it ran on, which is no part of the recipe of another family."""
    from importlib.metadata import version

    place = {"device": ctx.device, "threads": str(ctx.threads)} if ctx is not None else {}
    return {name: version(name) for name in libraries} | place
