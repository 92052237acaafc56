"""Small convolutional network on FFT-2d or DCT-2d maps or on pixels (Frank et al. 2020, Zhang et al. 2019).

A short way to write the composed detector (`detectors.deep`) with the small CNN of Frank et al.: settings are words of
these papers, and `composed` says what they mean. Tensors keep the names that they have without the composition.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from detectors import composition, deep
from detectors.contract import Control, DetectorConfig, Examples, Shapes, State, built
from detectors.networks import SmallCnn
from detectors.normalization import Band
from detectors.optimization import Adam, Training
from detectors.preprocessing import Preprocessing
from detectors.schedules.constant import Constant
from detectors.schedules.patience import Patience

SCALINGS: Mapping[str, Any] = {
    "percentile": "percentile", "standardize": "standardize", "pixels": "symmetric", "none": "none"
}  # fmt: skip
PLACES: Mapping[str, Any] = {"flatten": "all", "pool": "mean"}
PREFIX = "network."
"""Of the composition's names."""

NUMBERS = deep.NUMBERS


class Config(DetectorConfig):
    """Settings of a small convolutional network; the defaults of training are those of Frank et al. 2020."""

    on_device: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("torch",)

    family: Literal["cnn"] = Field("cnn", description="the family; written out unless `preset` is")
    feature: str = Field(description="field of maps or images: H x W, C x H x W, or H x W x C with 1 or 3 channels")
    normalization: Literal["percentile", "standardize", "pixels", "none"] = Field(
        description="percentile: 5th to 95th percentile of each image and channel to [-1, 1], clipped (FFT-2d); "
        "standardize: per coefficient, with training statistics (DCT-2d); pixels: x / 127.5 - 1; none: as stored "
        "(residuals)"
    )
    band: Band | None = Field(
        None,
        description="with percentile: which frequencies of an FFT-2d map stay, the others become 0: low, mid or high "
        "(AutoGAN's squares at 224 pixels, other sizes in proportion); null: all",
    )
    widths: tuple[int, ...] = Field((8, 16, 32), min_length=1, description="channels of the convolutions")
    head: Literal["flatten", "pool"] = Field(
        "flatten", description="flatten keeps places (a spectrum's frequencies); pool averages them (an image)"
    )
    epochs: int = Field(50, ge=1, description="passes over the training rows at most")
    patience: int = Field(5, ge=1, description="stop after this many epochs without a better validation loss")
    batch_size: int = Field(32, ge=2, description="rows per training step, as many real as fake")
    learning_rate: float = Field(1e-3, gt=0, description="step size of Adam")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay of Adam")
    micro_batch: int = Field(32, ge=1, description="rows per forward pass when scoring, padded to this size")

    @property
    def standardizes(self) -> bool:
        """Whether a fit takes, or is given, statistics of the training rows."""
        return self.normalization == "standardize"

    @property
    def modules(self) -> tuple[str, ...]:
        """This one, and those of the composition."""
        return ("detectors.cnn", *composed(self).modules)

    @model_validator(mode="after")
    def _no_idle_setting(self) -> Config:
        if self.band is not None and self.normalization != "percentile":
            raise ValueError(f"'band' has no effect with normalization '{self.normalization}'; remove it")
        return self

    def check(self, shape: tuple[int, ...], axes: tuple[str, ...]) -> None:
        """Rows are maps or pictures."""
        composed(self).check(shape, axes)


def composed(config: Config) -> composition.Config:
    """The same detector in five parts."""
    decay = config.weight_decay
    return composition.Config(
        feature=config.feature,
        network=SmallCnn(widths=config.widths, places=PLACES[config.head]),
        preprocessing=Preprocessing(scaling=SCALINGS[config.normalization], band=config.band),
        training=Training(
            optimizer=Adam(weight_decay=decay, decoupled=decay > 0),
            learning_rate=config.learning_rate,
            rate=Constant(),
            stop=Patience(epochs=config.patience),
            epochs=config.epochs,
            batch=config.batch_size,
        ),
        micro_batch=config.micro_batch,
    )


def describe(config: Config) -> str:
    """Name of the detector in a table."""
    return deep.describe(composed(config))


def shapes(config: Config, feature: tuple[int, ...] | None, plain: Mapping[str, Any]) -> Shapes:
    """Of a state's tensors; feature: shape of a row that it learned from, if its card says so."""
    found = deep.shapes(composed(config), feature, plain)
    return {name.removeprefix(PREFIX): shape for name, shape in found.items()}


def fit(config: Config, train: Examples, val: Examples, control: Control) -> State:
    """Weights of the epoch with the lowest balanced validation loss, training statistics, calibration."""
    state = deep.fit(composed(config), train, val, control)
    return State({name.removeprefix(PREFIX): value for name, value in state.tensors.items()}, state.plain)


def decision(config: Config, state: State, features: NDArray[Any], device: str = "cpu") -> NDArray[np.float64]:
    """Logit (n,) float64 before calibration; above 0 = fake."""
    return deep.decision(composed(config), with_prefix(state), features, device)


def score(config: Config, state: State, features: NDArray[Any], device: str = "cpu") -> NDArray[np.float32]:
    """Probability of being fake (n,) float32 for maps or images (n, ...) as stored."""
    return deep.score(composed(config), with_prefix(state), features, device)


def with_prefix(state: State) -> State:
    """The state as the composition has it: statistics of coefficients are none of the network's."""

    def made() -> State:
        names = {name: name if name in ("mean", "scale") else PREFIX + name for name in state.tensors}
        return State({names[name]: value for name, value in state.tensors.items()}, state.plain)

    return built(state, "composed", made)
