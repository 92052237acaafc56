"""Support vector machine on spectrum profiles (Durall et al. 2019: linear, radial C 6.37 gamma 0.86, polynomial).

scikit-learn's libsvm does the training; what is kept are arrays (support vectors, dual coefficients, intercept, gamma),
and scoring is a few lines of numpy on them, equal to `decision_function`. Each row is reduced on its own, so that its
score does not depend on its neighbors in a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from detectors.calibration import calibrated, platt
from detectors.contract import Control, DetectorConfig, Examples, Shapes, State
from detectors.profiles import NORMALIZATIONS, Normalization, prepared

BLOCK_NUMBERS = 4_000_000
"""Float64 numbers that the kernel of one block of rows may take."""

NUMBERS = ("slope", "intercept", "gamma")
"""Of a state's plain data."""


class Config(DetectorConfig):
    """Settings of a support vector machine; `gamma`, `degree` and `offset` only where the kernel has them."""

    family: Literal["svm"] = Field("svm", description="the family; written out unless `preset` is")
    feature: str = Field(
        "profile", description="field of one-dimensional features: profile, row_profile, column_profile"
    )
    normalization: Normalization = Field("divide_by_first", description=NORMALIZATIONS)
    length: int | None = Field(None, ge=8, description="resample profiles to this length; null: native length")
    kernel: Literal["linear", "rbf", "poly"] = Field("rbf", description="kernel of the machine")
    C: float = Field(1.0, gt=0, description="penalty of a training error")
    gamma: float | Literal["auto", "scale"] | None = Field(
        None, description="kernel coefficient: a number, auto (1/length) or scale (1/(length * variance)); null: scale"
    )
    degree: int | None = Field(None, ge=1, description="degree of a polynomial kernel; null: 3")
    offset: float | None = Field(None, description="additive constant of a polynomial kernel; null: 0")

    @property
    def resamples(self) -> bool:
        """With a `length`, profiles of images of any size (Durall et al. 2019)."""
        return self.length is not None

    @model_validator(mode="after")
    def _no_idle_setting(self) -> Config:
        idle = {"linear": ("gamma", "degree", "offset"), "rbf": ("degree", "offset"), "poly": ()}[self.kernel]
        for name in idle:
            if getattr(self, name) is not None:
                raise ValueError(f"'{name}' has no effect with kernel '{self.kernel}'; remove it or change the kernel")
        if isinstance(self.gamma, float) and self.gamma <= 0:
            raise ValueError(f"'gamma' is {self.gamma}; expected a number above 0, auto or scale")
        return self


def describe(config: Config) -> str:
    """Name of the detector in a table."""
    return f"SVM ({config.kernel}) on {config.feature}"


def shapes(config: Config, feature: tuple[int, ...] | None, plain: Mapping[str, Any]) -> Shapes:
    """Of a state's tensors; feature: shape of a row that it learned from, if its card says so."""
    length = config.length or (feature[0] if feature else "length")
    return {"support": ("vectors", length), "coefficient": ("vectors",), "intercept": (1,)}


def fit(config: Config, train: Examples, val: Examples, control: Control) -> State:
    """Support vectors (s, length), dual coefficients (s,), intercept; calibrated on `val`. The seed is not used."""
    from sklearn.svm import SVC

    rows = prepared(train.array(), config.normalization, config.length)
    gamma = _gamma(config, rows)
    machine = SVC(
        kernel=config.kernel,
        C=config.C,
        gamma=gamma or "scale",
        degree=config.degree or 3,
        coef0=config.offset or 0.0,
        cache_size=500,
    )
    machine.fit(rows, train.labels)
    tensors = {
        "support": np.ascontiguousarray(machine.support_vectors_, dtype=np.float64),
        "coefficient": np.ascontiguousarray(machine.dual_coef_[0], dtype=np.float64),
        "intercept": np.asarray(machine.intercept_, dtype=np.float64),
    }
    plain: dict[str, Any] = {"gamma": gamma, "support_vectors": len(tensors["support"])}
    machine_values = decision(config, State(tensors, plain), val.array())
    slope, intercept = platt(machine_values, val.labels)
    control.report(1, 1)
    return State(tensors, plain | {"slope": slope, "intercept": intercept})


def _gamma(config: Config, rows: NDArray[np.float64]) -> float:
    """The number behind `gamma`, so that scoring needs no training rows; 0 where the kernel has none."""
    if config.kernel == "linear":
        return 0.0
    if isinstance(config.gamma, float):
        return config.gamma
    variance = float(rows.var()) if config.gamma != "auto" else 1.0
    return 1.0 / (rows.shape[1] * (variance or 1.0))


def decision(config: Config, state: State, features: NDArray[Any]) -> NDArray[np.float64]:
    """Signed distance (n,) float64 to the separating surface; above 0 = fake, as scikit-learn's decision_function."""
    rows = prepared(features, config.normalization, config.length)
    support, coefficient = state.tensors["support"], state.tensors["coefficient"]
    intercept = float(state.tensors["intercept"][0])
    if config.kernel == "linear":
        weights = (coefficient[:, None] * support).sum(axis=0)
        return (rows * weights).sum(axis=1) + intercept
    result = np.empty(len(rows))
    step = max(1, BLOCK_NUMBERS // support.size)
    for start in range(0, len(rows), step):
        kernel = _kernel(config, float(state.plain["gamma"]), rows[start : start + step], support)
        result[start : start + step] = (kernel * coefficient).sum(axis=1) + intercept
    return result


def _kernel(
    config: Config, gamma: float, rows: NDArray[np.float64], support: NDArray[np.float64]
) -> NDArray[np.float64]:
    if config.kernel == "poly":
        product = (rows[:, None, :] * support[None]).sum(axis=2)
        return (gamma * product + (config.offset or 0.0)) ** (config.degree or 3)
    difference = rows[:, None, :] - support[None]
    return np.exp(-gamma * (difference * difference).sum(axis=2))


def score(config: Config, state: State, features: NDArray[Any], device: str = "cpu") -> NDArray[np.float32]:
    """Probability of being fake (n,) float32 for profiles (n, native) as stored."""
    del device  # a few sums per row: always the processor
    return calibrated(decision(config, state, features), state.plain)
