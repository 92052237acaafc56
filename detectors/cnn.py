"""Small convolutional network on FFT-2d or DCT-2d maps or on pixels (Frank et al. 2020, Zhang et al. 2019).

The network follows the small CNN of Frank et al. (3 x 3 convolutions, average pooling, one dense unit) with batch
normalization. Everything that is chosen (epoch, calibration) is chosen on validation rows. The whole progress is saved
after each epoch, so a killed fit goes on with the same trajectory. Scoring pads micro-batches to one fixed size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from detectors.calibration import calibrated, platt
from detectors.contract import Control, DetectorConfig, Examples, Shapes, State
from detectors.normalization import Band, Moments, inverse_deviation

BLOCK_VALUES = 1 << 20
"""Coefficients of one block of rows whose statistics are taken at once."""

NUMBERS = ("slope", "intercept")
"""Of a state's plain data."""


class Config(DetectorConfig):
    """Settings of a small convolutional network; the defaults of training are those of Frank et al. 2020."""

    runs_network: ClassVar[bool] = True
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

    @model_validator(mode="after")
    def _no_idle_setting(self) -> Config:
        if self.band is not None and self.normalization != "percentile":
            raise ValueError(f"'band' has no effect with normalization '{self.normalization}'; remove it")
        return self


def describe(config: Config) -> str:
    """Name of the detector in a table."""
    return f"CNN on {config.feature}" + (f" ({config.band} band)" if config.band else "")


def shapes(config: Config, feature: tuple[int, ...] | None, plain: Mapping[str, Any]) -> Shapes:
    """Of a state's tensors; feature: shape of a row that it learned from, if its card says so."""
    from detectors.network import empty_network

    shape, axes = (plain.get(name) for name in ("shape", "axes"))
    if not isinstance(shape, list) or not all(type(side) is int and side > 0 for side in shape):
        raise ValueError(f"its 'shape' is {str(shape)[:40]}, expected sides of '{config.feature}'")
    if feature is not None and tuple(shape) != feature:
        raise ValueError(f"its 'shape' is {str(shape)[:40]}, expected that of '{config.feature}', {feature}")
    if not isinstance(axes, list) or len(axes) != len(shape):
        raise ValueError(f"its 'axes' are {str(axes)[:40]}, expected names of {len(shape)}")
    network = empty_network(config, tuple(shape), tuple(axes), "meta")
    return {name: tuple(one.shape) for name, one in network.state_dict().items()}


def fit(config: Config, train: Examples, val: Examples, control: Control) -> State:
    """Weights of the epoch with the lowest balanced validation loss, training statistics, calibration."""
    from detectors.network import Trainer

    statistics = _statistics(train, control) if config.standardizes else {}
    batches = train.batches(config.batch_size, control.seed, True, control.device)
    trainer = Trainer(config, train.shape, train.axes, statistics, control.seed, control.device)
    history: list[float] = []
    best: dict[str, NDArray[Any]] = trainer.weights()
    saved = control.restore()
    if saved is not None:
        history = list(saved.plain["history"])
        best = {name[5:]: value for name, value in saved.tensors.items() if name.startswith("best.")}
        trainer.load({name: value for name, value in saved.tensors.items() if not name.startswith("best.")})
        batches.load_state(saved.plain["batches"])
    while not _finished(config, history):
        for features, labels in batches:
            trainer.step(features, labels)
        history.append(_balanced_loss(trainer.decisions(val.blocks(512)), val.labels))
        if history[-1] == min(history) and history.count(history[-1]) == 1:
            best = trainer.weights()
        progress = {"history": history, "batches": dict(batches.state())}
        control.save(State(trainer.everything() | {f"best.{name}": value for name, value in best.items()}, progress))
        control.report(len(history), config.epochs)
    state = State(best | statistics, {"shape": list(train.shape), "axes": list(train.axes)})
    slope, intercept = platt(np.concatenate([decision(config, state, b) for b in val.blocks(512)]), val.labels)
    chosen = {"slope": slope, "intercept": intercept, "epoch": int(np.argmin(history)) + 1, "validation_loss": history}
    return State(state.tensors, dict(state.plain) | chosen)


def _finished(config: Config, history: list[float]) -> bool:
    if not history:
        return False
    return len(history) >= config.epochs or len(history) - 1 - int(np.argmin(history)) >= config.patience


def _balanced_loss(decisions: NDArray[np.float64], labels: NDArray[np.uint8]) -> float:
    """Mean over the classes of the mean cross-entropy of each class, so that class counts do not choose the epoch."""
    loss = np.logaddexp(0, np.where(labels == 1, -decisions, decisions))
    return float((loss[labels == 1].mean() + loss[labels == 0].mean()) / 2)


def _statistics(train: Examples, control: Control) -> dict[str, NDArray[np.float32]]:
    """Mean and inverse population deviation (shape of a row): those given, or of all training rows of both classes.

    A coefficient that never varies gets scale 0, so it becomes 0 instead of NaN.
    """
    if control.moments is not None:
        mean, variance = control.moments
    else:
        moments = Moments()
        for block in train.blocks(max(1, BLOCK_VALUES // int(np.prod(train.shape)))):
            moments.update(block)
        mean, variance = moments.mean, moments.variance
    return {"mean": mean.astype(np.float32), "scale": inverse_deviation(variance)}


def decision(config: Config, state: State, features: NDArray[Any], device: str = "cpu") -> NDArray[np.float64]:
    """Logit (n,) float64 before calibration; above 0 = fake."""
    from detectors.network import decisions, load_network

    if list(features.shape[1:]) != list(state.plain["shape"]):
        raise ValueError(
            f"this detector was trained on rows of shape {tuple(state.plain['shape'])}, but got "
            f"{features.shape[1:]}; give it '{config.feature}' of the same size"
        )
    network = load_network(config, tuple(state.plain["shape"]), tuple(state.plain["axes"]), state.tensors, device)
    return decisions(network, features, config.micro_batch, device)


def score(config: Config, state: State, features: NDArray[Any], device: str = "cpu") -> NDArray[np.float32]:
    """Probability of being fake (n,) float32 for maps or images (n, ...) as stored."""
    return calibrated(decision(config, state, features, device), state.plain)
