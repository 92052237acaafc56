"""A network detector, composed of five parts: network, preprocessing, augmentation, head and training.

Each part is a small module with settings and one function; all settings stand in the recipe, and of code what they
select. What is chosen (the epoch, the calibration) is chosen on validation rows. The whole progress is saved after each
epoch, so a killed fit goes on with the same trajectory. Scoring pads micro-batches to one fixed size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors import preprocessing
from detectors.calibration import calibrated, platt
from detectors.composition import Config
from detectors.contract import Control, Examples, Shapes, State, built

BLOCK_ROWS = 512
"""Rows whose decisions are taken at once."""

NUMBERS = ("slope", "intercept")
"""Of a state's plain data."""


def describe(config: Config) -> str:
    """Name of the detector in a table."""
    band = config.preprocessing.band
    return f"{config.network.title} on {config.feature}" + (f" ({band} band)" if band else "")


def shapes(config: Config, feature: tuple[int, ...] | None, plain: Mapping[str, Any]) -> Shapes:
    """Of a state's tensors; feature: shape of a row that it learned from, if its card says so."""
    from detectors.composed import without_values

    shape, axes = (plain.get(name) for name in ("shape", "axes"))
    if not isinstance(shape, list) or not all(type(side) is int and side > 0 for side in shape):
        raise ValueError(f"its 'shape' is {str(shape)[:40]}, expected sides of '{config.feature}'")
    if feature is not None and tuple(shape) != feature:
        raise ValueError(f"its 'shape' is {str(shape)[:40]}, expected that of '{config.feature}', {feature}")
    if not isinstance(axes, list) or len(axes) != len(shape):
        raise ValueError(f"its 'axes' are {str(axes)[:40]}, expected names of {len(shape)}")
    network = without_values(config, tuple(shape), tuple(axes))
    return {name: tuple(one.shape) for name, one in network.state_dict().items()}


class Epochs:
    """A pace (`detectors.training.Pace`) by which each step, an epoch, is logged and saved."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def finished(self, course: Any) -> bool:
        return bool(self.config.ended_by(course.log))

    def place(self, course: Any) -> dict[str, float]:
        return {"epoch": len(course.log) + 1}

    def progress(self, course: Any) -> tuple[int, int]:
        return len(course.log), self.config.training.epochs

    def closes(self, before: int, after: int) -> bool:
        return after > before

    def saves(self, saved: int, after: int) -> bool:
        return after > saved

    def chooses(self, course: Any) -> bool:
        return self.config.chosen(course.log) == len(course.log) - 1


def fit(config: Config, train: Examples, val: Examples, control: Control) -> State:
    """Weights of the best epoch on validation rows, training statistics, calibration, and what a cell sees."""
    from detectors.composed import Learning, field_of_a_cell
    from detectors.training import follow

    learning = Learning(config, train, val, control)
    course = follow(learning, learning.epoch, Epochs(config), control)
    tensors = {name.removeprefix("detector/"): value for name, value in course.best.items()}
    state = State(tensors, {"shape": list(train.shape), "axes": list(train.axes)})
    slope, intercept = platt(
        np.concatenate([decision(config, state, block, control.device) for block in val.blocks(BLOCK_ROWS)]), val.labels
    )
    epoch, ended_by = config.chosen(course.log) + 1, config.ended_by(course.log)
    chosen = {
        "slope": slope,
        "intercept": intercept,
        "epoch": epoch,
        "ended_by": ended_by,
        "still_improving": ended_by == "epochs" and _best(config, course.log) == len(course.log),
        "validation_loss": [entry["validation_loss"] for entry in course.log],
        "receptive_field": field_of_a_cell(config, train.shape, train.axes),
    }
    return State(tensors, {**state.plain, **chosen})


def _best(config: Config, log: Sequence[Mapping[str, float]]) -> int:
    """Number from 1 of the epoch that validation finds best, also where the last one stays whatever it says."""
    if config.training.select != "last":
        return config.chosen(log) + 1
    losses = [entry["validation_loss"] for entry in log]
    return losses.index(min(losses)) + 1


def decision(config: Config, state: State, features: NDArray[Any], device: str = "cpu") -> NDArray[np.float64]:
    """Logit (n,) float64 before calibration; above 0 = fake."""
    from detectors.composed import read

    shape, axes = tuple(state.plain["shape"]), tuple(state.plain["axes"])
    if not _fits(config, features.shape[1:], shape, axes):
        raise ValueError(
            f"this detector was trained on rows of shape {shape}, but got {features.shape[1:]}; give it "
            f"'{config.feature}' of the same size"
        )
    return read(network_of(config, state, device), [features], config.micro_batch, config.head.decision)


def network_of(config: Config, state: State, device: str) -> Any:
    """The network (`detectors.composed.Composed`) of a state, ready to score; nobody may change it."""
    from detectors.composed import loaded

    shape, axes = tuple(state.plain["shape"]), tuple(state.plain["axes"])
    key = config.model_dump_json(), device
    return built(state, key, lambda: loaded(config, shape, axes, state.tensors, device))


def _fits(config: Config, found: tuple[int, ...], shape: tuple[int, ...], axes: tuple[str, ...]) -> bool:
    """Whether rows of this shape can be scored: as those of the training or, resampled, with as many channels."""
    if found == shape or not config.resamples or len(found) != len(shape):
        return found == shape
    channels = [preprocessing.layout(one, axes)[1][0] for one in (found, shape)]
    return channels[0] == channels[1]


def score(config: Config, state: State, features: NDArray[Any], device: str = "cpu") -> NDArray[np.float32]:
    """Probability of being fake (n,) float32 for maps or images (n, ...) as stored."""
    return calibrated(decision(config, state, features, device), state.plain)
