"""One number per image against a threshold: the baseline that learns nothing from training rows.

Made for the mean residual: fakes are harder to rebuild than the photographs that the re-synthesizer knows (He et al.
2021, Fig. 3 and 4). Scale and threshold come from validation rows, as those of all detectors; which class has the
larger values is a setting, so that a baseline that points the wrong way shows as one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from detectors.calibration import calibrated, platt
from detectors.contract import Control, DetectorConfig, Examples, Shapes, State

NUMBERS = ("slope", "intercept")
"""Of a state's plain data."""


class Config(DetectorConfig):
    """Which number, and where the fakes are."""

    family: Literal["threshold"] = Field("threshold", description="the family; written out unless `preset` is")
    feature: str = Field("residual_pixel_mean", description="field of one number per row")
    larger: Literal["fake", "real"] = Field("fake", description="class that has the larger values")


def describe(config: Config) -> str:
    """Name of the detector in a table."""
    return f"threshold on {config.feature}"


def shapes(config: Config, feature: tuple[int, ...] | None, plain: Mapping[str, Any]) -> Shapes:
    """Of a state's tensors; feature: shape of a row that it learned from, if its card says so."""
    return {}


def fit(config: Config, train: Examples, val: Examples, control: Control) -> State:
    """Calibration on `val`; neither the training rows nor the seed are used."""
    del train
    slope, intercept = platt(decision(config, State(), val.array()), val.labels)
    control.report(1, 1)
    return State({}, {"slope": slope, "intercept": intercept})


def decision(config: Config, state: State, features: NDArray[Any]) -> NDArray[np.float64]:
    """The number (n,) float64, negative where real images have the larger ones. Raises ValueError for other shapes."""
    del state
    if features.ndim != 1:
        found = " x ".join(str(side) for side in features.shape[1:])
        raise ValueError(f"a threshold needs one number per row, but '{config.feature}' is {found}; choose another")
    sign = 1.0 if config.larger == "fake" else -1.0
    return sign * np.asarray(features, dtype=np.float64)


def score(config: Config, state: State, features: NDArray[Any], device: str = "cpu") -> NDArray[np.float32]:
    """Probability of being fake (n,) float32 for numbers (n,) as stored."""
    del device
    return calibrated(decision(config, state, features), state.plain)
