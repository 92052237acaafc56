"""k-means on spectrum profiles (Durall et al. 2019, unsupervised: no published code, so the defaults of its time).

The clusters are found in the training rows without their labels; labels only tell which clusters are fake: those of
validation rows, or of all rows that a fit may read, as where the paper counts the best assignment. The score grows
with the distance to the nearest real center and falls with that to the nearest fake one.
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
from detectors.solvers import one_thread

BLOCK_NUMBERS = 4_000_000
"""Float64 numbers that the differences of one block of rows may take."""

NUMBERS = ("slope", "intercept")
"""Of a state's plain data."""


class Config(ProfileConfig):
    """Settings of k-means; elements of a profile are not scaled."""

    family: Literal["kmeans"] = Field("kmeans", description="the family; written out unless `preset` is")
    clusters: int = Field(2, ge=2, description="number of clusters (k)")
    starts: int = Field(10, ge=1, description="runs from other first centers, of which the tightest is kept (n_init)")
    named_by: Literal["validation", "all"] = Field(
        "validation",
        description="whose labels say which clusters are fake: validation rows, or all, that is training and "
        "validation rows (the best assignment of Durall et al. 2019)",
    )


def describe(config: Config) -> str:
    """Name of the detector in a table."""
    return f"k-means on {config.feature}" + (", named by all rows" if config.named_by == "all" else "")


def shapes(config: Config, feature: tuple[int, ...] | None, plain: Mapping[str, Any]) -> Shapes:
    """Of a state's tensors; feature: shape of a row that it learned from, if its card says so."""
    length = config.length or (feature[0] if feature else "length")
    return {"centers": (config.clusters, length), "fake": (config.clusters,)}


def flaw(config: Config, state: State) -> str:
    """What of a state that has the right shapes cannot be: a clause, or ""."""
    found = sorted(set(state.tensors["fake"].tolist()))
    return "" if found == [0, 1] else f"its tensor 'fake' holds {str(found)[:40]}, expected a 0 and a 1"


def fit(config: Config, train: Examples, val: Examples, control: Control) -> State:
    """Centers (k, length) float64, and `fake` (k,) uint8: 1 where a cluster is called fake; calibrated on `val`.

    Raises ValueError where the training rows have fewer different values than clusters.
    """
    from sklearn.cluster import KMeans

    rows, val_rows = (prepared(one.array(), config.normalization, config.length) for one in (train, val))
    different = len(np.unique(rows, axis=0))
    if different < config.clusters:
        raise ValueError(
            f"k-means needs at least as many different rows as clusters, {config.clusters}, but the training rows of "
            f"'{config.feature}' have {different}; give it more rows or fewer clusters"
        )
    with one_thread():
        model = KMeans(config.clusters, n_init=config.starts, random_state=control.seed).fit(rows)
    centers = np.ascontiguousarray(model.cluster_centers_, dtype=np.float64)
    named, labels = val_rows, val.labels
    if config.named_by == "all":
        named, labels = np.concatenate([rows, val_rows]), np.concatenate([train.labels, val.labels])
    is_fake = _fakes(_distances(named, centers).argmin(axis=1), labels, config.clusters)
    state = State({"centers": centers, "fake": is_fake.astype(np.uint8)})
    slope, intercept = platt(decision(config, state, val.array()), val.labels)
    control.report(1, 1)
    return State(state.tensors, {"slope": slope, "intercept": intercept, "inertia": float(model.inertia_)})


def _fakes(places: NDArray[np.intp], labels: NDArray[np.uint8], clusters: int) -> NDArray[np.bool_]:
    """Which clusters hold a larger share of the fakes than of the reals; at least one does, and one does not.

    places: cluster of each row (n,). With two clusters this is the better of both assignments.
    """
    counts = [np.bincount(places[labels == label], minlength=clusters) for label in (0, 1)]
    difference = counts[1] / counts[1].sum() - counts[0] / counts[0].sum()
    is_fake = difference > 0
    is_fake[difference.argmax()] = True
    return is_fake


def _distances(rows: NDArray[np.float64], centers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Euclidean, (n, k)."""
    result = np.empty((len(rows), len(centers)))
    step = max(1, BLOCK_NUMBERS // centers.size)
    for start in range(0, len(rows), step):
        difference = rows[start : start + step, None, :] - centers[None]
        result[start : start + step] = np.sqrt((difference * difference).sum(axis=2))
    return result


def decision(config: Config, state: State, features: NDArray[Any]) -> NDArray[np.float64]:
    """Distance to the nearest real center less that to the nearest fake one, (n,) float64; above 0 = fake."""
    rows = prepared(features, config.normalization, config.length)
    distances, is_fake = _distances(rows, state.tensors["centers"]), state.tensors["fake"] == 1
    return distances[:, ~is_fake].min(axis=1) - distances[:, is_fake].min(axis=1)


def score(config: Config, state: State, features: NDArray[Any], device: str = "cpu") -> NDArray[np.float32]:
    """Probability of being fake (n,) float32 for profiles (n, native) as stored."""
    del device  # a few sums per row: always the processor
    return calibrated(decision(config, state, features), state.plain)
