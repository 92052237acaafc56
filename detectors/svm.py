"""Support vector machine on spectrum profiles (Durall et al. 2019: linear, radial C 6.37 gamma 0.86, polynomial).

scikit-learn's libsvm does the training; what is kept are arrays (support vectors, dual coefficients, intercept, gamma),
and scoring is a few lines of numpy on them, equal to `decision_function`. Each row is reduced on its own, so that its
score does not depend on its neighbors in a batch. Lists of `C` and `gamma` are a grid that validation rows choose from
(`detectors.search`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from detectors.calibration import calibrated
from detectors.contract import Control, Examples, Shapes, State
from detectors.profiles import ProfileConfig, prepared
from detectors.search import grid, listed, searched

Penalty = Annotated[float, Field(gt=0)]
Gamma = float | Literal["auto", "scale"]

BLOCK_NUMBERS = 1_000_000
"""Float64 numbers that the kernel of one block of rows may take."""

NUMBERS = ("slope", "intercept", "gamma")
"""Of a state's plain data."""


class Config(ProfileConfig):
    """Settings of a support vector machine; `gamma`, `degree` and `offset` only where the kernel has them."""

    family: Literal["svm"] = Field("svm", description="the family; written out unless `preset` is")
    kernel: Literal["linear", "rbf", "poly"] = Field("rbf", description="kernel of the machine")
    C: Penalty | Annotated[tuple[Penalty, ...], Field(min_length=1)] = Field(
        1.0, description="penalty of a training error; a list: validation rows choose"
    )
    gamma: Gamma | Annotated[tuple[Gamma, ...], Field(min_length=1)] | None = Field(
        None,
        description="kernel coefficient: a number, auto (1/length) or scale (1/(length * variance)); null: scale; a "
        "list: validation rows choose",
    )
    degree: int | None = Field(None, ge=1, description="degree of a polynomial kernel; null: 3")
    offset: float | None = Field(None, description="additive constant of a polynomial kernel; null: 0")

    @model_validator(mode="after")
    def _no_idle_setting(self) -> Config:
        idle = {"linear": ("gamma", "degree", "offset"), "rbf": ("degree", "offset"), "poly": ()}[self.kernel]
        for name in idle:
            if getattr(self, name) is not None:
                raise ValueError(f"'{name}' has no effect with kernel '{self.kernel}'; remove it or change the kernel")
        for gamma in listed(self.gamma):
            if isinstance(gamma, float) and gamma <= 0:
                raise ValueError(f"'gamma' is {gamma}; expected a number above 0, auto or scale")
        return self


def describe(config: Config) -> str:
    """Name of the detector in a table."""
    lists = [name for name in ("C", "gamma") if isinstance(getattr(config, name), tuple)]
    how = f", {' and '.join(lists)} searched" if lists else ""
    return f"SVM ({config.kernel}{how}) on {config.feature}"


def shapes(config: Config, feature: tuple[int, ...] | None, plain: Mapping[str, Any]) -> Shapes:
    """Of a state's tensors; feature: shape of a row that it learned from, if its card says so."""
    length = config.length or (feature[0] if feature else "length")
    return {"support": ("vectors", length), "coefficient": ("vectors",), "intercept": (1,)}


def fit(config: Config, train: Examples, val: Examples, control: Control) -> State:
    """Support vectors (s, length), dual coefficients (s,), intercept; calibrated on `val`. The seed is not used."""
    rows, val_rows = prepared(train.array(), config.normalization, config.length), val.array()

    def attempt(point: Mapping[str, Any]) -> State:
        return _machine(config, point["C"], _gamma(config, point["gamma"], rows), rows, train.labels)

    points = grid(C=listed(config.C), gamma=listed(config.gamma))
    return searched(points, attempt, lambda state: decision(config, state, val_rows), val.labels, control)


def _machine(
    config: Config, penalty: float, gamma: float, rows: NDArray[np.float64], labels: NDArray[np.uint8]
) -> State:
    from sklearn.svm import SVC

    machine = SVC(
        kernel=config.kernel,
        C=penalty,
        gamma=gamma or "scale",
        degree=config.degree or 3,
        coef0=config.offset or 0.0,
        cache_size=500,
    )
    machine.fit(rows, labels)
    tensors = {
        "support": np.ascontiguousarray(machine.support_vectors_, dtype=np.float64),
        "coefficient": np.ascontiguousarray(machine.dual_coef_[0], dtype=np.float64),
        "intercept": np.asarray(machine.intercept_, dtype=np.float64),
    }
    return State(tensors, {"gamma": gamma, "support_vectors": len(tensors["support"])})


def _gamma(config: Config, gamma: Gamma | None, rows: NDArray[np.float64]) -> float:
    """The number behind `gamma`, so that scoring needs no training rows; 0 where the kernel has none."""
    if config.kernel == "linear":
        return 0.0
    if isinstance(gamma, float):
        return gamma
    variance = float(rows.var()) if gamma != "auto" else 1.0
    return 1.0 / (rows.shape[1] * (variance or 1.0))


def decision(config: Config, state: State, features: NDArray[Any]) -> NDArray[np.float64]:
    """Signed distance (n,) float64 to the separating surface; above 0 = fake, as scikit-learn's decision_function."""
    rows = prepared(features, config.normalization, config.length)
    support, coefficient = state.tensors["support"], state.tensors["coefficient"]
    intercept = float(state.tensors["intercept"][0])
    if config.kernel == "linear":
        weights = (coefficient[:, None] * support).sum(axis=0)
        return (rows * weights).sum(axis=1) + intercept
    if config.kernel == "rbf":  # distances stay, and lengths from which they follow are small
        middle = support.mean(axis=0)
        rows, support = rows - middle, support - middle
    result = np.empty(len(rows))
    step = max(1, BLOCK_NUMBERS // len(support))
    for start in range(0, len(rows), step):
        kernel = _kernel(config, float(state.plain["gamma"]), rows[start : start + step], support)
        result[start : start + step] = (kernel * coefficient).sum(axis=1) + intercept
    return result


def _kernel(
    config: Config, gamma: float, rows: NDArray[np.float64], support: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n, s) of rows (n, length) and support vectors (s, length)."""
    product = np.einsum("rk,sk->rs", rows, support)  # no BLAS, whose sums differ with the number of rows
    if config.kernel == "poly":
        return (gamma * product + (config.offset or 0.0)) ** (config.degree or 3)
    squares = (rows * rows).sum(axis=1)[:, None] + (support * support).sum(axis=1) - 2 * product
    return np.exp(-gamma * np.maximum(squares, 0))


def score(config: Config, state: State, features: NDArray[Any], device: str = "cpu") -> NDArray[np.float32]:
    """Probability of being fake (n,) float32 for profiles (n, native) as stored."""
    del device  # a few sums per row: always the processor
    return calibrated(decision(config, state, features), state.plain)
