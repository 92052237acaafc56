"""Eigenfaces: principal components of flattened rows and a linear SVM on them (baseline of Frank et al. 2020).

Projection and machine are both linear, so what is kept is one weight per stored value and an intercept: a picture of
what speaks for a fake. Which part of the variance is kept and the penalty are lists that validation rows choose from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from detectors.calibration import calibrated
from detectors.contract import Control, DetectorConfig, Examples, Shapes, State
from detectors.flattened import SCALINGS, Scaling, block_rows, check_learned, check_rows, check_shape, linear, size
from detectors.search import grid, listed, searched
from detectors.solvers import converges, one_thread

NUMBERS = ("slope", "intercept")
"""Of a state's plain data."""

Positive = Annotated[float, Field(gt=0)]
Kept = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)]


class Config(DetectorConfig):
    """Settings of eigenfaces; the defaults are those of Frank et al. 2020."""

    family: Literal["eigenfaces"] = Field("eigenfaces", description="the family; written out unless `preset` is")
    feature: str = Field("image", description="field of images, maps or profiles")
    scaling: Scaling = Field("none", description=SCALINGS)
    components: Kept | Annotated[tuple[Kept, ...], Field(min_length=1)] = Field(
        (0.25, 0.5, 0.75, 0.95),
        description="principal components that are kept: a number, or below 1 the least number with more than this "
        "share of the variance; a list: validation rows choose",
    )
    C: Positive | Annotated[tuple[Positive, ...], Field(min_length=1)] = Field(
        (1e-4, 1e-3, 1e-2, 1e-1), description="penalty of a training error; a list: validation rows choose"
    )
    rows: int = Field(10_000, ge=4, description="training rows that are used at most, as many real as fake")
    max_iterations: int = Field(10_000, ge=1, description="iterations of the solver at most")

    @property
    def standardizes(self) -> bool:
        """Whether a fit takes, or is given, statistics of the training rows."""
        return self.scaling == "standardize"

    def check(self, shape: tuple[int, ...], axes: tuple[str, ...]) -> None:
        """Rows have values to flatten."""
        del axes
        check_rows(self.feature, shape)


def describe(config: Config) -> str:
    """Name of the detector in a table."""
    return f"eigenfaces on {config.feature}"


def shapes(config: Config, feature: tuple[int, ...] | None, plain: Mapping[str, Any]) -> Shapes:
    """Of a state's tensors; feature: shape of a row that it learned from."""
    return {"weights": check_learned(feature), "bias": (1,)}


def fit(config: Config, train: Examples, val: Examples, control: Control) -> State:
    """Weights (*shape) float64 on stored values and `bias` (1,); calibrated on `val`.

    Memory, beside the chosen training rows as float64: three square matrices of min(rows, values of a row), 2.4 GB for
    10,000 rows of more values; time grows with the cube of that number. `rows` lowers both.
    """
    shift, factor = linear(config.scaling, train, control)
    taken, labels = _taken(train, config.rows)
    with one_thread():
        projection = _Projection(((taken - shift) * factor).reshape(len(taken), -1), config.components)

        def attempt(point: Mapping[str, Any]) -> State:
            return _machine(config, point, projection, labels, shift, factor, control.seed)

        def decide(state: State) -> NDArray[np.float64]:
            return np.concatenate([decision(config, state, block) for block in val.blocks(block_rows(val.shape))])

        points = grid(components=listed(config.components), C=listed(config.C))
        return searched(points, attempt, decide, val.labels, control)


def _taken(train: Examples, most: int) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """The first rows of each class, (n, *shape), and their labels; the order of rows is that of random ids."""
    rank = np.where(train.labels == 1, (train.labels == 1).cumsum(), (train.labels == 0).cumsum())
    chosen = rank <= most // 2
    taken, done, filled = np.empty((int(chosen.sum()), *train.shape)), 0, 0
    for block in train.blocks(block_rows(train.shape)):
        some = block[chosen[done : done + len(block)]]
        taken[filled : filled + len(some)] = some
        done, filled = done + len(block), filled + len(some)
    return taken, train.labels[chosen]


class _Projection:
    """Principal components of rows (n, values) float64, from the smaller of covariance and Gram matrix.

    places  rows in the coordinates of the components (n, most that are kept), and how to get weights back
    """

    def __init__(self, rows: NDArray[np.float64], components: Any) -> None:
        from scipy.linalg import eigh

        self.mean = rows.mean(axis=0)
        rows -= self.mean
        wide = rows.shape[1] > rows.shape[0]
        values, vectors = eigh(rows @ rows.T if wide else rows.T @ rows, overwrite_a=True)
        values, vectors = values[::-1].clip(0), vectors[:, ::-1]
        limit = int((values > values[0] * len(values) * np.finfo(np.float64).eps).sum())
        self.shares = values.cumsum() / (values.sum() or 1.0)
        self.limit = max(limit, 1)
        most = max(self.count(one) for one in listed(components))
        lengths = np.sqrt(values[:most])
        self.axes = (rows.T @ vectors[:, :most]) / np.where(lengths > 0, lengths, 1) if wide else vectors[:, :most]
        self.places = vectors[:, :most] * lengths if wide else rows @ vectors[:, :most]

    def count(self, kept: float) -> int:
        """How many components a setting means, at most those that vary."""
        wanted = kept if kept >= 1 else int(np.searchsorted(self.shares, kept, side="right")) + 1
        return min(int(wanted), self.limit)


def _machine(
    config: Config,
    point: Mapping[str, Any],
    projection: _Projection,
    labels: NDArray[np.uint8],
    shift: NDArray[np.float64],
    factor: NDArray[np.float64],
    seed: int,
) -> State:
    from sklearn.svm import LinearSVC

    count = projection.count(point["components"])
    model = LinearSVC(C=point["C"], max_iter=config.max_iterations, random_state=seed)
    converged = converges(model, np.ascontiguousarray(projection.places[:, :count]), labels)
    direction = projection.axes[:, :count] @ model.coef_[0]
    weights = direction.reshape(factor.shape) * factor
    bias = float(model.intercept_[0]) - float(direction @ projection.mean) - float((weights * shift).sum())
    plain = {"components": count, "variance": float(projection.shares[count - 1]), "converged": converged}
    return State({"weights": weights, "bias": np.array([bias])}, plain)


def decision(config: Config, state: State, features: NDArray[Any]) -> NDArray[np.float64]:
    """Signed distance to the separating plane, scaled, (n,) float64; above 0 = fake."""
    weights = state.tensors["weights"]
    check_shape(config.feature, weights.shape, features.shape[1:])
    result, step = np.empty(len(features)), block_rows(weights.shape)
    for start in range(0, len(features), step):
        weighted = (features[start : start + step] * weights).reshape(-1, size(weights.shape))
        result[start : start + step] = weighted.sum(axis=1)
    return result + float(state.tensors["bias"][0])


def score(config: Config, state: State, features: NDArray[Any], device: str = "cpu") -> NDArray[np.float32]:
    """Probability of being fake (n,) float32 for rows (n, *shape) as stored."""
    del device  # a sum per row: always the processor
    return calibrated(decision(config, state, features), state.plain)
