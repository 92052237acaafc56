"""A trained detector as files: `model.safetensors` (arrays) and `card.json` (what it is, what it was made from).

`train` writes them, `evaluate` and `predict` read them. No code comes out of a file: the family named in the card must
be one of the families of this project. `FeatureRows` is how a detector sees a dataset: features and labels in the order
of its rows, nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from detectors.choosing import detector_config, family_module
from detectors.contract import DetectorConfig, State, check_state
from pipeline.errors import StageError
from pipeline.stage import Rows
from stages.evaluation.json_file import read_json
from stages.sentences import shown
from stages.training.feature_fields import no_feature
from stages.training.networks import prepare

if TYPE_CHECKING:
    from pipeline.chain import Chain, Image, Values

FORMAT = 1
"""Version of the two files; readers refuse another one."""

BLOCK_BYTES = 2**28
"""Feature values that are read at once."""

MODEL, CARD = "model.safetensors", "card.json"
SCORE = "score"

ENTRIES: Mapping[str, type | tuple[type, ...]] = {
    "detector": str, "family": str, "config": dict, "state": dict, "trained_on": list, "counts": dict,
    "threshold": (int, float), "threshold_rule": str, "validation": dict,
}  # fmt: skip
"""Of a card, which others read."""


def promised(config: DetectorConfig, shape: tuple[int, ...] | None) -> dict[str, Any]:
    """What a training promises about its detector and writes into its card; shape: of a feature, if it had rows."""
    return {
        "feature": config.feature,
        "feature_shape": None if shape is None else list(shape),
        "resamples": config.resamples,
        "runs_network": config.on_device,
        "libraries": list(config.libraries),
    }


class FeatureRows:
    """Features of a dataset as a detector family reads them (`detectors.contract.Examples`).

    Several fields of a row are one entry of a structured array, which has no shape.
    """

    def __init__(self, dataset: Rows, *features: str) -> None:
        for feature in features:
            if feature not in dataset.fields:
                raise StageError(no_feature("the rows", feature, dataset.fields))
        self.dataset, self.features, self.feature = dataset, features, features[0]
        self.labels: NDArray[np.uint8] = np.asarray(dataset.column("label"), dtype=np.uint8)
        only = dataset.fields[features[0]] if len(features) == 1 else None
        self.shape = tuple(only.shape) if only else ()
        self.axes = tuple(only.axes) if only else ()

    def __len__(self) -> int:
        return len(self.dataset)

    def array(self) -> NDArray[Any]:
        return joined({name: self.dataset.array(name) for name in self.features})

    def blocks(self, size: int) -> Iterator[NDArray[Any]]:
        """At most `size` rows and about BLOCK_BYTES at a time."""
        bytes_of_row = sum(self.dataset.fields[name].row_bytes for name in self.features)
        fitting = min(size, max(1, BLOCK_BYTES // max(bytes_of_row, 1)))
        for blocks in zip(*(self.dataset.blocks(name, fitting) for name in self.features), strict=True):
            yield joined(dict(zip(self.features, blocks, strict=True)))

    def batches(self, size: int, seed: int, balanced: bool, device: str) -> LoaderBatches:
        from pipeline.loader import Loader

        fields = [self.feature]
        loader = Loader(self.dataset, fields, batch_size=size, seed=seed, device=device, balanced=balanced)
        return LoaderBatches(loader, self.feature, self.dataset.ids)

    def field(self, name: str) -> FeatureRows:
        return FeatureRows(self.dataset, name)


def joined(fields: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Fields of the same rows as a detector gets them: one as it is, several as one structured array (n,)."""
    first, *others = fields.values()
    if not others:
        return first
    result = np.empty(len(first), [(name, array.dtype, array.shape[1:]) for name, array in fields.items()])
    for name, array in fields.items():
        result[name] = array
    return result


class LoaderBatches:
    """A loader's batches as features, labels and ids of the rows; ids: of the whole dataset, (n,) V16."""

    def __init__(self, loader: Any, feature: str, ids: NDArray[np.void]) -> None:
        self.loader, self.feature, self.ids = loader, feature, ids

    def __iter__(self) -> Iterator[tuple[Any, Any, NDArray[np.void]]]:
        for batch in self.loader:
            yield batch[self.feature], batch["label"], self.ids[batch["row"].numpy()]

    def state(self) -> Mapping[str, Any]:
        return dict(self.loader.state())

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.loader.load_state(state)


@dataclass(frozen=True)
class Detector:
    """A trained detector: its card, and scores for the rows of a dataset."""

    card: Mapping[str, Any]
    config: DetectorConfig
    state: State

    def __call__(self, dataset: Rows, device: str = "cpu", block: int = 512) -> NDArray[np.float32]:
        """Scores (n,) float32 in [0, 1], higher = more fake, in the order of the dataset's rows."""
        return self.scores(self.rows(dataset).blocks(block), device)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields that it reads."""
        return family_module(self.config.family).fields(self.state) if self.config.fuses else (self.config.feature,)

    @property
    def on_device(self) -> bool:
        """Whether it, or a member of it, is a network on torch."""
        return self.config.on_device or any(card.get("runs_network") for card in self.state.plain.get("members", ()))

    @property
    def threads(self) -> int:
        """Of the CPU, that its network was trained with."""
        threads = self.card.get("environment", {}).get("threads", "1")
        if not re.fullmatch(r"[1-9]\d{0,2}", str(threads)):
            raise StageError(
                f"the detector card has {shown(threads)} threads, expected a number up to 999; train again"
            )
        return int(threads)

    def rows(self, dataset: Rows) -> FeatureRows:
        """Rows of a dataset as it reads them."""
        return FeatureRows(dataset, *self.fields)

    def scores(self, blocks: Iterable[NDArray[Any]], device: str = "cpu") -> NDArray[np.float32]:
        """Scores of blocks of features as stored."""
        module = family_module(self.config.family)
        parts = [module.score(self.config, self.state, block, device) for block in blocks]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)

    def of_images(self, chain: Chain, images: Sequence[Image], device: str = "cpu") -> Values:
        """Fields of the chain and `score`, as above, of the images that its steps can do with; reasons for the others.

        chain: `pipeline.chain.chain_function` of this detector's folder.
        """
        return self.scored(chain(images), device)

    def scored(self, found: Values, device: str = "cpu") -> Values:
        """Values of a chain with their `score`."""
        if self.on_device:
            prepare(device, self.threads)
        features = [joined({name: found.arrays[name] for name in self.fields})] if len(found.done) else []
        return replace(found, arrays={**found.arrays, SCORE: self.scores(features, device)})


def card_of(config: DetectorConfig, state: State, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The card of a detector."""
    return {
        "format": FORMAT,
        "detector": family_module(config.family).describe(config),
        "family": config.family,
        "config": config.model_dump(mode="json"),
        "state": dict(state.plain),
        **facts,
    }


def save_detector(path: Path, config: DetectorConfig, state: State, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write model and card into a folder; returns the card."""
    from safetensors.numpy import save_file

    card = card_of(config, state, facts)
    save_file({name: np.asarray(value, order="C") for name, value in state.tensors.items()}, path / MODEL)
    (path / CARD).write_text(
        json.dumps(card, indent=2, sort_keys=True, ensure_ascii=False) + "\n",
        encoding="utf-8",
        errors="backslashreplace",
    )
    return card


def load_detector(path: Path) -> Detector:
    """The detector in a folder. Raises StageError where a file is missing, damaged or of another format."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    for name in (MODEL, CARD):
        if not (path / name).is_file():
            raise StageError(f"{path.name} has no {name}; expected the artifact of a 'train' node")
    card = _card(path / CARD)
    try:
        config = detector_config(card["config"])
    except ValueError as error:
        raise StageError(f"the detector card does not fit this version: {error}; train again") from None
    try:
        state = State(load_file(path / MODEL), card["state"])
    except (OSError, SafetensorError) as error:
        raise StageError(f"{path / MODEL} is no whole safetensors file ({error}); train again") from None
    feature = card.get("feature_shape")
    try:
        check_state(family_module(config.family), config, state, feature and tuple(feature))
    except ValueError as error:
        raise StageError(f"{path} holds a detector that does not fit its card: {error}; train again") from None
    return Detector(card, config, state)


def _card(path: Path) -> dict[str, Any]:
    """The card, with entries of the kinds that readers expect."""
    card: dict[str, Any] = read_json(path)
    if card.get("format") != FORMAT:
        found = shown(card.get("format"))
        raise StageError(f"the detector card has format {found}, this version reads {FORMAT}; train again")
    for name, kind in ENTRIES.items():
        if not isinstance(card.get(name), kind):
            raise StageError(f"{path} is no detector card: its '{name}' is {shown(card.get(name))}; train again")
    feature = card.get("feature_shape")  # none: written by an earlier version
    if feature is not None and not (isinstance(feature, list) and all(type(side) is int for side in feature)):
        raise StageError(f"{path} is no detector card: its 'feature_shape' is {shown(feature)}; train again")
    return card
