"""The classifier of a joint training, on residuals of the re-synthesizer that learned with it (He et al. 2021, Eq. 2).

Its weights are those that the training left (`stages.training.joint_classifier`); nothing is learned here but a
calibration, on validation rows. It scores as a `deep` detector of the same network does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from detectors import deep
from detectors.calibration import calibrated, platt
from detectors.composition import Config as Composition
from detectors.contract import Control, DetectorConfig, Examples, Shapes, State

NUMBERS = deep.NUMBERS

ARCHITECTURES = {"resnet50": "deep_stem_resnet50", "compact": "compact"}
"""Of `detectors.networks` by the names that a joint training gives them."""

PREFIX = "network."
"""Of its tensors in a composed detector."""


class Config(DetectorConfig):
    """Which of the networks, and what it reads."""

    on_device: ClassVar[bool] = True
    learns: ClassVar[bool] = False
    libraries: ClassVar[tuple[str, ...]] = ("torch",)

    family: Literal["joint_classifier"] = Field(
        "joint_classifier", description="the family; used by `pretrained` alone"
    )
    feature: str = Field(description="field of the residuals")
    classifier: Literal["resnet50", "compact"] = Field(description="network, as in `joint` of train_resynthesizer")
    micro_batch: int = Field(32, ge=1, description="rows per forward pass, padded to this size")

    @property
    def composition(self) -> Composition:
        """The same as a composed detector."""
        return Composition.model_validate({
            "feature": self.feature,
            "network": {"architecture": ARCHITECTURES[self.classifier]},
            "head": {"kind": "classes"},
            "micro_batch": self.micro_batch,
        })  # fmt: skip

    @property
    def modules(self) -> tuple[str, ...]:
        """This one and the network's."""
        return (__name__, self.composition.network.code())

    def check(self, shape: tuple[int, ...], axes: tuple[str, ...]) -> None:
        """Rows are maps that are large enough."""
        self.composition.check(shape, axes)


def describe(config: Config) -> str:
    """Name of the detector in a table."""
    return f"{deep.describe(config.composition)}, trained jointly"


def shapes(config: Config, feature: tuple[int, ...] | None, plain: Mapping[str, Any]) -> Shapes:
    """Of a state's tensors."""
    return deep.shapes(config.composition, feature, plain)


def fit(config: Config, train: Examples, val: Examples, control: Control) -> State:
    """The weights of `control.weights`, calibrated on `val`, and what a cell sees. Training rows are not read.

    Raises ValueError where the weights are none of this network for rows of this shape.
    """
    from detectors.composed import field_of_a_cell

    del train
    if control.weights is None:
        raise ValueError("a joint classifier has the weights of its training; name the node in 'pretrained'")
    plain = {"shape": list(val.shape), "axes": list(val.axes)}
    state = State({PREFIX + name: value for name, value in control.weights.items()}, plain)
    parts, done = [], 0
    for block in val.blocks(deep.BLOCK_ROWS):
        parts.append(decision(config, state, block, control.device))
        done += len(block)
        control.report(done, len(val))
    slope, intercept = platt(np.concatenate(parts), val.labels)
    seen = field_of_a_cell(config.composition, val.shape, val.axes)
    return State(state.tensors, {**plain, "slope": slope, "intercept": intercept, "receptive_field": seen})


def decision(config: Config, state: State, features: NDArray[Any], device: str = "cpu") -> NDArray[np.float64]:
    """Logit (n,) float64 as the training left it; above 0 = fake."""
    return deep.decision(config.composition, state, features, device)


def score(config: Config, state: State, features: NDArray[Any], device: str = "cpu") -> NDArray[np.float32]:
    """Probability of being fake (n,) float32 for residuals (n, C, H, W) as stored."""
    return calibrated(decision(config, state, features, device), state.plain)
