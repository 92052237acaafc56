"""k nearest neighbors on flattened pixels or spectra (Frank et al. 2020: k in 1 and 2^x + 1).

What is learned are the training rows themselves, as stored. Distances are Euclidean. A matrix product in float64 orders
the neighbors, and those that it cannot tell apart are summed one by one, so that neither the size of a batch nor the
number of threads can change an order. Equally near ones stand in the order of training rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from detectors.calibration import calibrated, platt
from detectors.contract import Control, DetectorConfig, Examples, Shapes, State
from detectors.flattened import block_rows, check_learned, check_rows, check_shape, linear
from detectors.search import balanced_accuracy, listed

BLOCK_NUMBERS = 4_000_000
"""Float64 distances that are held at once."""

NUMBERS = ("slope", "intercept", "k")
"""Of a state's plain data."""

Count = Annotated[int, Field(ge=1)]


class Config(DetectorConfig):
    """Settings of nearest neighbors; a list of `k` is searched with the rule of `detectors.search`."""

    family: Literal["neighbors"] = Field("neighbors", description="the family; written out unless `preset` is")
    feature: str = Field("image", description="field of images, maps or profiles")
    scaling: Literal["none", "standardize"] = Field(
        "none", description="none: as stored; standardize: each element by mean and deviation of all training rows"
    )
    k: Count | Annotated[tuple[Count, ...], Field(min_length=1)] = Field(
        1,
        description="neighbors that vote; a list: validation rows choose, among those that are not more than the "
        "training rows",
    )

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
    many = "nearest neighbor" if config.k == 1 else f"{'k' if isinstance(config.k, tuple) else config.k} neighbors"
    return f"{many} on {config.feature}"


def shapes(config: Config, feature: tuple[int, ...] | None, plain: Mapping[str, Any]) -> Shapes:
    """Of a state's tensors; feature: shape of a row that it learned from."""
    sides = check_learned(feature)
    found: dict[str, tuple[int | str, ...]] = {"rows": ("rows", *sides), "labels": ("rows",)}
    return found | ({"shift": sides, "factor": sides} if config.standardizes else {})


def flaw(config: Config, state: State) -> str:
    """What of a state that has the right shapes cannot be: a clause, or ""."""
    k, count = state.plain["k"], len(state.tensors["rows"])
    if k not in listed(config.k) or not k <= count:
        return f"its 'k' is {str(k)[:40]}, expected one of {config.k} and at most {count}, the rows it holds"
    found = set(state.tensors["labels"].tolist())
    return "" if found <= {0, 1} else f"its tensor 'labels' holds {str(sorted(found))[:40]}, expected 0 and 1"


def fit(config: Config, train: Examples, val: Examples, control: Control) -> State:
    """Rows (n, *shape) as stored (uint8, float16 or else float32), labels (n,); calibrated on `val`.

    Memory: the training rows as stored, about 100 MB more, and nothing that grows with rows squared. 50,000 images of
    64 x 64 take 0.6 GB, and as much on the disk.
    """
    tried = [k for k in listed(config.k) if k <= len(train)]
    if not tried:
        raise ValueError(f"'k' is {config.k}, but there are only {len(train)} training rows; expected at most as many")
    stored = train.array()
    rows = stored if stored.dtype in (np.uint8, np.float16) else stored.astype(np.float32)
    tensors = {"rows": rows, "labels": train.labels}
    if config.standardizes:
        tensors["shift"], tensors["factor"] = linear(config.scaling, train, control)
    shares, done = [], 0
    for block in val.blocks(block_rows(val.shape)):
        shares.append(_shares(State(tensors), block, tried))
        done += len(block)
        control.report(done, len(val))
    best: dict[str, Any] = {}
    searched: list[dict[str, Any]] = []
    for k, decisions in zip(tried, np.concatenate(shares, axis=1), strict=True):
        slope, intercept = platt(decisions, val.labels)
        plain = {"slope": slope, "intercept": intercept, "k": k}
        reached = balanced_accuracy(plain, decisions, val.labels)
        if all(reached > one["balanced_accuracy"] for one in searched):
            best = plain
        searched.append({"k": k, "balanced_accuracy": reached})
    return State(tensors, best | ({"searched": searched} if isinstance(config.k, tuple) else {}))


def _shares(state: State, features: NDArray[Any], counts: list[int]) -> NDArray[np.float64]:
    """Share of fakes among the nearest neighbors, (counts, n)."""
    labels = state.tensors["labels"]
    result = np.empty((len(counts), len(features)))
    for number, order in enumerate(nearest(state, features, max(counts))):
        fakes = labels[order].cumsum(dtype=np.int64)
        result[:, number] = [fakes[k - 1] / k for k in counts]
    return result


def nearest(state: State, features: NDArray[Any], count: int) -> Iterator[NDArray[np.intp]]:
    """Of each row the numbers of its `count` nearest training rows, nearest first."""
    known = state.tensors["rows"]
    step = max(1, min(block_rows(known.shape[1:]), BLOCK_NUMBERS // len(known)))
    for start in range(0, len(features), step):
        new = _scaled(state, features[start : start + step])
        squares, longest = _squares(state, new)
        # twice the bound of Higham (2002, section 3.1) on the sums of a product and of two norms
        doubt = 2 * (new.shape[1] + 8) * np.finfo(np.float64).eps * (np.linalg.norm(new, axis=1) + longest) ** 2
        for row, distances, margin in zip(new, squares, 4 * doubt, strict=True):
            yield _ordered(state, row, distances, margin, count)


def _scaled(state: State, rows: NDArray[Any]) -> NDArray[np.float64]:
    """(n, *shape) as stored -> (n, values)."""
    values = rows.astype(np.float64)
    if "shift" in state.tensors:
        values = (values - state.tensors["shift"]) * state.tensors["factor"]
    return values.reshape(len(rows), -1)


def _squares(state: State, new: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Squared distances (n, training rows), up to rounding; and the norm of the longest training row."""
    known = state.tensors["rows"]
    step, longest = block_rows(known.shape[1:]), 0.0
    result = np.empty((len(new), len(known)))
    for start in range(0, len(known), step):
        block = _scaled(state, known[start : start + step])
        norms = np.einsum("ij,ij->i", block, block)
        result[:, start : start + step] = norms - 2 * new @ block.T
        longest = max(longest, float(np.sqrt(norms.max())))
    return result + np.einsum("ij,ij->i", new, new)[:, None], longest


def _ordered(
    state: State, row: NDArray[np.float64], distances: NDArray[np.float64], margin: float, count: int
) -> NDArray[np.intp]:
    """The `count` nearest; neighbors in the list that differ by no more than `margin` are ordered by exact sums."""
    last = np.partition(distances, count - 1)[count - 1]
    near = np.flatnonzero(distances <= last + margin)
    near = near[np.argsort(distances[near], kind="stable")]
    begins = np.flatnonzero(np.diff(distances[near], prepend=-np.inf) > margin)
    for first, end in zip(begins, [*begins[1:], len(near)], strict=True):
        if first >= count:
            break
        if end - first > 1:
            group = np.sort(near[first:end])
            near[first:end] = group[np.argsort(_sums(state, row, group), kind="stable")]
    return near[:count]


def _sums(state: State, row: NDArray[np.float64], numbers: NDArray[np.intp]) -> NDArray[np.float64]:
    """Squared distances of one row to training rows, each summed on its own."""
    step = block_rows(state.tensors["rows"].shape[1:])
    parts = []
    for start in range(0, len(numbers), step):
        difference = _scaled(state, state.tensors["rows"][numbers[start : start + step]]) - row
        parts.append((difference * difference).sum(axis=1))
    return np.concatenate(parts)


def decision(config: Config, state: State, features: NDArray[Any]) -> NDArray[np.float64]:
    """Share of fakes among the k nearest training rows, (n,) float64."""
    check_shape(config.feature, state.tensors["rows"].shape[1:], features.shape[1:])
    return _shares(state, features, [int(state.plain["k"])])[0]


def score(config: Config, state: State, features: NDArray[Any], device: str = "cpu") -> NDArray[np.float32]:
    """Probability of being fake (n,) float32 for rows (n, *shape) as stored."""
    del device
    return calibrated(decision(config, state, features), state.plain)
