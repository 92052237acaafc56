"""A trained detector as files: `model.safetensors` (arrays) and `card.json` (what it is, what it was made from).

`train` writes them, `evaluate` and `predict` read them. No code comes out of a file: the family named in the card must
be one of the families of this project. `FeatureRows` is how a detector sees a dataset: features and labels in the order
of its rows, nothing else.
"""

from __future__ import annotations

import difflib
import importlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from detectors import FAMILIES, PRESETS
from detectors.contract import DetectorConfig, State
from pipeline.document import nearest
from pipeline.errors import StageError
from pipeline.stage import Promise, Schema
from stages.alike import check_alike

if TYPE_CHECKING:
    from pipeline.dataset import Dataset

FORMAT = 1
"""Version of the two files; readers refuse another one."""

BLOCK_BYTES = 2**28
"""Feature values that are read at once."""

MODEL, CARD = "model.safetensors", "card.json"


def family_module(family: str) -> Any:
    """The module of a detector family. Raises ValueError for an unknown one."""
    if family not in FAMILIES:
        raise ValueError(f"'{family}' is no detector family; {_expected(family, FAMILIES)}")
    return importlib.import_module(FAMILIES[family])


def detector_config(value: Any) -> DetectorConfig:
    """Full config from a preset's name, or from a mapping with `family`, or with `preset` and settings that differ.

    Raises ValueError with one sentence; the preset's name is forgotten here, so it is no part of a recipe.
    """
    if isinstance(value, DetectorConfig):
        return value
    settings: dict[str, Any] = {"preset": value} if isinstance(value, str) else dict(value)
    preset = settings.pop("preset", None)
    if preset is not None:
        if preset not in PRESETS:
            raise ValueError(f"'{preset}' is no detector preset; {_expected(str(preset), PRESETS)}")
        settings = PRESETS[preset] | settings
    if "family" not in settings:
        raise ValueError(f"lacks 'family' (one of {', '.join(FAMILIES)}) or 'preset' (one of {', '.join(PRESETS)})")
    model: type[DetectorConfig] = family_module(str(settings["family"])).Config
    try:
        return model.model_validate_json(json.dumps(settings))
    except ValidationError as failure:
        problem = failure.errors()[0]
    name = ".".join(str(part) for part in problem["loc"][:1])
    kind = f"detector family '{settings['family']}'"
    if problem["type"] == "extra_forbidden":
        raise ValueError(f"'{name}' is not a setting of {kind}{nearest(name, model.model_fields)}")
    if problem["type"] == "missing":
        raise ValueError(f"lacks '{name}', which {kind} needs")
    text = problem["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    raise ValueError(f"{kind}: '{name}' is {settings.get(name)!r}; {text}" if name else f"{kind}: {text}")


class DetectorSchema:
    """JSON Schema of a detector setting: a preset's name, the settings of a family, or a preset with changes."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        settings = {name: family_module(name).Config.__pydantic_core_schema__ for name in FAMILIES}
        families = [{**core, "ref": name} for name, core in settings.items()]  # so they are defined by that name
        given: dict[str, Any] = handler({"type": "union", "choices": families})
        preset = {"enum": list(PRESETS)}
        changed = {"type": "object", "properties": {"preset": preset}, "required": ["preset"]}
        return {"anyOf": [preset, *given["anyOf"], changed]}


def promised(config: DetectorConfig, shape: tuple[int, ...]) -> dict[str, Any]:
    """What a training promises about its detector and writes into its card; shape: of a row's feature."""
    return {"feature": config.feature, "feature_shape": list(shape), "resamples": config.resamples}


def check_feature(model: Promise, whose: str, rows: Schema) -> None:
    """Raise ValueError with one sentence unless the detector that a node promises can score rows with these fields."""
    feature, learned = model.facts["feature"], tuple(model.facts["feature_shape"])
    check_alike(rows, feature)
    if feature not in rows:
        raise ValueError(
            f"{whose} have no field '{feature}', which the detector of {model} reads; they have "
            f"{', '.join(sorted(rows)) or 'none'}: name the node that computes it{_near(feature, rows)}"
        )
    shape = rows[feature].shape
    if shape != learned and not (model.facts["resamples"] and len(shape) == len(learned)):
        raise ValueError(
            f"'{feature}' of {whose} is {shape}, but the detector of {model} learns from {learned}; equalize the "
            "images of both to one size"
        )


def no_feature(whose: str, feature: str, fields: Iterable[str], setting: str = "feature") -> str:
    """One sentence about rows without the field that a `setting` of a detector names."""
    names = sorted(fields)
    found = f"they have {', '.join(names)}" if names else "they have no fields"
    return (
        f"{whose} have no field '{feature}', which the detector's '{setting}' names; {found}: "
        f"change '{setting}' in 'detector', or compute the field in a node before{_near(feature, names)}"
    )


def _expected(word: str, known: Iterable[str]) -> str:
    names = list(known)
    return f"expected one of {', '.join(names)}{_near(word, names)}"


def _near(word: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean '{found[0]}'?" if found else ""


class FeatureRows:
    """One feature of a dataset as a detector family reads it (`detectors.contract.Examples`)."""

    def __init__(self, dataset: Dataset, feature: str) -> None:
        if feature not in dataset.fields:
            raise StageError(no_feature("the rows", feature, dataset.fields))
        self.dataset, self.feature = dataset, feature
        self.labels: NDArray[np.uint8] = np.asarray(dataset.column("label"), dtype=np.uint8)
        self.shape = tuple(dataset.fields[feature].shape)
        self.axes = tuple(dataset.fields[feature].axes)

    def __len__(self) -> int:
        return len(self.dataset)

    def array(self) -> NDArray[Any]:
        return self.dataset.array(self.feature)

    def blocks(self, size: int) -> Iterator[NDArray[Any]]:
        """At most `size` rows and about BLOCK_BYTES at a time."""
        fitting = max(1, BLOCK_BYTES // max(self.dataset.fields[self.feature].row_bytes, 1))
        yield from self.dataset.blocks(self.feature, min(size, fitting))

    def batches(self, size: int, seed: int, balanced: bool, device: str) -> LoaderBatches:
        from pipeline.loader import Loader

        fields = [self.feature]
        loader = Loader(self.dataset, fields, batch_size=size, seed=seed, device=device, balanced=balanced)
        return LoaderBatches(loader, self.feature)

    def field(self, name: str) -> FeatureRows:
        return FeatureRows(self.dataset, name)


class LoaderBatches:
    """A loader's batches as pairs of features and labels."""

    def __init__(self, loader: Any, feature: str) -> None:
        self.loader, self.feature = loader, feature

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for batch in self.loader:
            yield batch[self.feature], batch["label"]

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

    def __call__(self, dataset: Dataset, device: str = "cpu", block: int = 512) -> NDArray[np.float32]:
        """Scores (n,) float32 in [0, 1], higher = more fake, in the order of the dataset's rows."""
        rows = FeatureRows(dataset, self.config.feature)
        return self.scores(rows.blocks(block), device)

    def scores(self, blocks: Iterable[NDArray[Any]], device: str = "cpu") -> NDArray[np.float32]:
        """Scores of blocks of features as stored."""
        module = family_module(self.config.family)
        parts = [module.score(self.config, self.state, block, device) for block in blocks]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)


def save_detector(path: Path, config: DetectorConfig, state: State, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write model and card into a folder; returns the card."""
    from safetensors.numpy import save_file

    card = {
        "format": FORMAT,
        "detector": family_module(config.family).describe(config),
        "family": config.family,
        "config": config.model_dump(mode="json"),
        "state": dict(state.plain),
        **facts,
    }
    save_file({name: np.asarray(value, order="C") for name, value in state.tensors.items()}, path / MODEL)
    (path / CARD).write_text(json.dumps(card, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    return card


def load_detector(path: Path) -> Detector:
    """The detector in a folder. Raises StageError where a file is missing or of another format."""
    from safetensors.numpy import load_file

    for name in (MODEL, CARD):
        if not (path / name).is_file():
            raise StageError(f"{path.name} has no {name}; expected the artifact of a 'train' node")
    card = json.loads((path / CARD).read_text(encoding="utf-8"))
    if card.get("format") != FORMAT:
        raise StageError(f"the detector card has format {card.get('format')}, this version reads {FORMAT}; train again")
    try:
        config = detector_config(card["config"])
    except ValueError as error:
        raise StageError(f"the detector card does not fit this version: {error}; train again") from None
    return Detector(card, config, State(load_file(path / MODEL), card["state"]))


def pack(state: State) -> bytes:
    """A state as one safetensors file, so that arrays and plain data are replaced together."""
    from safetensors.numpy import save

    tensors = {name: np.asarray(value, order="C") for name, value in state.tensors.items()}
    return save(tensors, metadata={"plain": json.dumps(state.plain, sort_keys=True)})


def unpack(path: Path) -> State:
    """The state that `pack` wrote."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return State({name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["plain"]))  # noqa: SIM118
