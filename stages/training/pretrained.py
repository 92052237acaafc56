"""A published detector as the model of a `train` node: an entry of a manifest, its file, and no training.

The entry says network, preprocessing and decision, for the tensors of a file do not (CNNDetection, DIRE and GRIP have
the same). With rows their validation rows give a calibration and a second threshold; without, the published rule stands
and the probability is called uncalibrated.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors import published_family
from detectors.contract import State
from detectors.published_family import Config
from pipeline.contents import file_sha256
from pipeline.errors import StageError
from pipeline.lineage import KeptChain, KeptChains
from pipeline.stage import FitContext, Rows, Schema
from stages.evaluation.detector_file import promised, save_detector
from stages.weights.detector_entries import entry_of
from stages.weights.detectors import read_detector, read_tensor, state_dicts
from stages.weights.weights_file import WeightsError

SETTING = "pretrained"
WHY_NOT = "it reads a feature that others compute"
RULE = "the published rule; the probability is not calibrated"
NOBODY = {"real": 0, "fake": 0, "sources": {"real": {}, "fake": {}}}


def detector_of(named: str, entry: Mapping[str, Any]) -> Config:
    """The config that an entry of a manifest stands for. Raises ValueError with one sentence."""
    try:
        config = entry_of(entry).config(named.rpartition("#")[2])
    except ValueError as error:
        raise ValueError(f"{named}: {error}") from None
    for library in config.libraries:
        try:
            version(library)
        except PackageNotFoundError:
            raise ValueError(
                f"{named}: its preprocessing needs {library}, which is not installed; install it"
            ) from None
    return config


def check_files(config: Config, path: Path) -> None:
    """Raise ValueError unless the files that an entry names beside its weights are those that it means.

    path: of the weights
    """
    named = tuple((config.moments or {}).values())
    for file in named:
        place = path.parent / file.file
        if not place.is_file():
            raise ValueError(
                f"{config.name}: {place} is not a file; its input is standardized by two more files of its authors "
                f"({', '.join(one.file for one in named)}), which lie beside the weights"
            )
        found = file_sha256(place)
        if file.sha256 is None:
            raise ValueError(
                f"{config.name} lacks the 'sha256' of {file.file}; if {place} is the right file, add 'sha256: {found}' "
                "beside its name"
            )
        if found != file.sha256:
            raise ValueError(
                f"{config.name}: {place} has the SHA-256 {found[:12]}..., but its entry says {file.sha256[:12]}...; "
                "get the right file, or correct the entry"
            )


def _read_moments(config: Config, path: Path) -> dict[str, NDArray[np.float32]]:
    """The tensors that standardize, checked again. Raises ValueError or WeightsError."""
    if config.moments is None:
        return {}
    check_files(config, path)
    read = {name: read_tensor(path.parent / one.file) for name, one in config.moments.items()}
    mean, variance = (np.asarray(read[name], dtype=np.float32) for name in ("mean", "variance"))
    if mean.ndim != 3 or mean.shape[0] != 3 or mean.shape != variance.shape:
        raise ValueError(f"its moments are {mean.shape} and {variance.shape}, expected twice (3, rows, columns)")
    if not (variance > 0).all():
        raise ValueError(f"{config.moments['variance'].file} has variances of 0 or less")
    return dict(zip(published_family.MOMENTS, (mean, variance), strict=True))


def read_weights(config: Config, path: Path) -> State:
    """The tensors of a file, exactly those of the network, and those that standardize. Raises StageError."""
    try:
        likely = max(state_dicts(path), key=lambda state: len(state.tensors), default=None)
        sizes = published_family.sizes_of(config, likely.shapes if likely else {})
        network = published_family.empty(config, sizes)
        expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
        tensors = {**read_detector(path, expected, config.network).tensors, **_read_moments(config, path)}
        return published_family.as_published(config, tensors)
    except WeightsError as error:
        raise StageError(str(error)) from None
    except ValueError as error:
        raise StageError(f"{path} does not fit {config.network}: {error}") from None


def starting_weights(config: Any, fields: Schema, path: Path) -> Mapping[str, NDArray[Any]]:
    """Tensors of a file, exactly those of the network that a config of the family deep trains. Raises StageError."""
    from detectors.composed import without_values

    field = fields[config.feature]
    network = without_values(config, field.shape, field.axes).network
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    try:
        return read_detector(path, expected, f"the architecture '{config.network.architecture}' as it is set").tensors
    except WeightsError as error:
        raise StageError(f"start_from: {error}") from None


def facts_of(config: Config, state: State, path: Path, calibrated: bool) -> dict[str, Any]:
    """What the card has beside that of a training."""
    return {
        "pretrained": {"sha256": file_sha256(path), "size": path.stat().st_size},
        "calibrated": calibrated,
        "published_threshold": published_family.published_threshold(config, state.plain),
        "trained_on": list(config.learned_from),
    }


def weights_of(config: Config, rows: Rows, ctx: FitContext) -> Mapping[str, NDArray[Any]]:
    """Tensors of the file that the setting names. Raises StageError."""
    del rows
    return read_weights(config, Path(ctx.files[SETTING])).tensors


def card_of(config: Config, state: State, rows: Rows, ctx: FitContext) -> dict[str, Any]:
    """What the card has beside that of a training, after a calibration on rows."""
    del rows
    return facts_of(config, state, Path(ctx.files[SETTING]), calibrated=True)


def publish(config: Config, ctx: FitContext) -> dict[str, Any]:
    """Write the model as it was published, without rows; returns the card."""
    state, facts = as_published(config, Path(ctx.files[SETTING]), ctx.device, ctx.threads)
    ctx.facts.update(promised(config, None))
    return save_detector(ctx.out, config, state, facts)


def as_published(config: Config, path: Path, device: str, threads: int) -> tuple[State, dict[str, Any]]:
    """The model without rows: its weights, and what the card has beside them. Raises StageError."""
    state = read_weights(config, path)
    facts = facts_of(config, state, path, calibrated=False)
    libraries = {name: version(name) for name in (*config.libraries, "numpy", "safetensors")}
    chain = KeptChain(origins=[], images=1, steps=[], plain=True, rows={})
    chains = KeptChains(chains=[chain], plain=0) if config.preprocessing else KeptChains(chains=[], why_not=WHY_NOT)
    return state, facts | {
        "detector": f"{published_family.describe(config)}, uncalibrated",
        "threshold": facts["published_threshold"],
        "threshold_rule": RULE,
        "validation": {},
        "counts": {"train": NOBODY, "val": NOBODY},
        **promised(config, None),
        "environment": libraries | {"device": device, "threads": str(threads)},
        "lineage": chains.model_dump(mode="json"),
    }
