"""Logistic regression on spectrum profiles (Durall et al. 2019: liblinear, at most 1000 iterations).

The linear counterpart of the support vector machine: one weight per element of the profile, readable as a picture of
which frequencies speak for a fake. Stored as arrays, scored row by row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from detectors.calibration import calibrated, platt
from detectors.contract import Control, Examples, Shapes, State
from detectors.profiles import ProfileConfig, prepared
from detectors.solvers import converges

NUMBERS = ("slope", "intercept")
"""Of a state's plain data."""


class Config(ProfileConfig):
    """Settings of a logistic regression with an L2 penalty."""

    family: Literal["logistic"] = Field("logistic", description="the family; written out unless `preset` is")
    C: float = Field(1.0, gt=0, description="inverse strength of the penalty")
    max_iterations: int = Field(1000, ge=1, description="iterations of the solver at most")


def describe(config: Config) -> str:
    """Name of the detector in a table."""
    return f"logistic regression on {config.feature}"


def shapes(config: Config, feature: tuple[int, ...] | None, plain: Mapping[str, Any]) -> Shapes:
    """Of a state's tensors; feature: shape of a row that it learned from, if its card says so."""
    length = config.length or (feature[0] if feature else "length")
    return {"weights": (length,), "intercept": (1,)}


def fit(config: Config, train: Examples, val: Examples, control: Control) -> State:
    """Weights (length,) and intercept; calibrated on `val`. `converged` tells whether the solver finished."""
    from sklearn.linear_model import LogisticRegression

    rows = prepared(train.array(), config.normalization, config.length)
    # liblinear shuffles coordinates only in its dual form; the seed is given for completeness
    settings = {"C": config.C, "solver": "liblinear", "max_iter": config.max_iterations, "random_state": control.seed}
    model = LogisticRegression(**settings)
    converged = converges(model, rows, train.labels)
    tensors = {
        "weights": np.ascontiguousarray(model.coef_[0], dtype=np.float64),
        "intercept": np.asarray(model.intercept_, dtype=np.float64),
    }
    slope, intercept = platt(decision(config, State(tensors), val.array()), val.labels)
    control.report(1, 1)
    return State(tensors, {"slope": slope, "intercept": intercept, "converged": converged})


def decision(config: Config, state: State, features: NDArray[Any]) -> NDArray[np.float64]:
    """Log odds (n,) float64 before calibration; above 0 = fake."""
    rows = prepared(features, config.normalization, config.length)
    return (rows * state.tensors["weights"]).sum(axis=1) + float(state.tensors["intercept"][0])


def score(config: Config, state: State, features: NDArray[Any], device: str = "cpu") -> NDArray[np.float32]:
    """Probability of being fake (n,) float32 for profiles (n, native) as stored."""
    del device  # a few sums per row: always the processor
    return calibrated(decision(config, state, features), state.plain)
