"""Random forest on spectrum profiles (100 trees; the other learner that Keuper's lecture names beside the SVM).

scikit-learn grows the trees, each from a seed of its own; what is kept are arrays of nodes, and scoring is a walk down
them in numpy, equal to `predict_proba`. Progress is saved after each block of trees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from detectors.calibration import calibrated, platt
from detectors.contract import Control, Examples, Shapes, State
from detectors.profiles import ProfileConfig, prepared

BLOCK_TREES = 10
"""Trees that a kill may cost."""

AT_ONCE, STEPS = 50_000, 4
"""Walks down trees that go on side by side, in the cache of a core; their steps between two looks at who has ended."""

NUMBERS = ("slope", "intercept")
"""Of a state's plain data."""

KINDS = {"root": "i", "feature": "i", "threshold": "f", "left": "i", "right": "i", "probability": "f"}
"""Tensor of a state -> kind of its dtype. All but `root` (trees,) are (nodes,), the trees one after another."""


class Config(ProfileConfig):
    """Settings of a random forest; each split looks at the square root of the number of elements."""

    family: Literal["forest"] = Field("forest", description="the family; written out unless `preset` is")
    trees: int = Field(100, ge=1, description="number of trees")
    depth: int | None = Field(None, ge=1, description="splits from root to leaf at most; null: until leaves are pure")
    leaf_rows: int = Field(1, ge=1, description="training rows of a leaf at least")


def describe(config: Config) -> str:
    """Name of the detector in a table."""
    return f"random forest on {config.feature}"


def shapes(config: Config, feature: tuple[int, ...] | None, plain: Mapping[str, Any]) -> Shapes:
    """Of a state's tensors; feature: shape of a row that it learned from, if its card says so."""
    return dict.fromkeys(KINDS, ("nodes",)) | {"root": (config.trees,)}


def flaw(config: Config, state: State) -> str:
    """What of a state that has the right shapes cannot be a forest: a clause, or "".

    A child stands after its parent, so that each walk ends.
    """
    for name, kind in KINDS.items():
        if state.tensors[name].dtype.kind != kind:
            return f"its tensor '{name}' is {state.tensors[name].dtype}, expected {'whole ' * (kind == 'i')}numbers"
    feature, left, right = (state.tensors[name] for name in ("feature", "left", "right"))
    length, count = state.plain.get("length"), len(feature)
    if type(length) is not int or length < 1 or config.length not in (None, length):
        return f"its 'length' is {str(length)[:40]}, expected {config.length or 'a number of elements'}"
    inner, places = left >= 0, np.arange(count)
    if not all(((side > places) & (side < count))[inner].all() for side in (left, right)):
        return "its tensors 'left' and 'right' name nodes that are no children"
    if not ((feature >= 0) & (feature < length))[inner].all():
        return f"its tensor 'feature' names elements outside of {length}"
    if not ((state.tensors["root"] >= 0) & (state.tensors["root"] < count)).all():
        return f"its tensor 'root' names nodes outside of {count}"
    return ""


def fit(config: Config, train: Examples, val: Examples, control: Control) -> State:
    """Nodes of all trees; calibrated on `val`. Tree number t is grown from (seed, t) alone.

    float64 copies of the training rows are held: 8 bytes * rows * length, twice.
    """
    rows = prepared(train.array(), config.normalization, config.length)
    state = control.restore() or State({name: np.empty(0, np.dtype(kind + "8")) for name, kind in KINDS.items()})
    while (done := len(state.tensors["root"])) < config.trees:
        last = min(done + BLOCK_TREES, config.trees)
        for tree in _grown(config, range(done, last), control.seed, rows, train.labels):
            state = _planted(state, tree)
        if last < config.trees:
            control.save(state)
        control.report(last, config.trees)
    state = State(state.tensors, {"length": rows.shape[1], "nodes": len(state.tensors["feature"])})
    slope, intercept = platt(decision(config, state, val.array()), val.labels)
    return State(state.tensors, dict(state.plain) | {"slope": slope, "intercept": intercept})


def _grown(
    config: Config, numbers: range, seed: int, rows: NDArray[np.float64], labels: NDArray[np.uint8]
) -> Iterator[Any]:
    """Trees of scikit-learn, each of a bootstrap sample of the rows."""
    from sklearn.ensemble import RandomForestClassifier

    for number in numbers:
        drawn = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        forest = RandomForestClassifier(
            1, max_depth=config.depth, min_samples_leaf=config.leaf_rows, random_state=drawn
        )
        yield forest.fit(rows, labels).estimators_[0].tree_


def _planted(state: State, tree: Any) -> State:
    """The state with one more tree. A leaf has the children -1 and the feature 0."""
    first, leaf = len(state.tensors["feature"]), tree.children_left < 0
    counts = tree.value[:, 0, :]
    grown = {
        "root": np.array([first]),
        "feature": np.where(leaf, 0, tree.feature),
        "threshold": np.where(leaf, 0, tree.threshold),
        "left": np.where(leaf, -1, tree.children_left + first),
        "right": np.where(leaf, -1, tree.children_right + first),
        "probability": counts[:, 1] / counts.sum(axis=1),
    }
    return State({name: np.concatenate([state.tensors[name], grown[name]]) for name in KINDS})


def decision(config: Config, state: State, features: NDArray[Any]) -> NDArray[np.float64]:
    """Mean over the trees of the share of fakes in the leaf that a row falls into, (n,) float64."""
    rows = prepared(features, config.normalization, config.length).astype(np.float32)  # as scikit-learn splits
    if rows.shape[1] != state.plain["length"]:
        raise ValueError(
            f"this forest was trained on '{config.feature}' of {state.plain['length']} elements, but got "
            f"{rows.shape[1]}; give it images of the same size"
        )
    trees = len(state.tensors["root"])
    total = np.zeros(len(rows))
    step, ways = max(1, AT_ONCE // trees), _ways(state)
    for start in range(0, len(rows), step):
        for shares in _shares(state, ways, rows[start : start + step]):  # one tree after the other, whatever the step
            total[start : start + step] += shares
    return total / trees


def _ways(state: State) -> NDArray[np.int64]:
    """Where each node leads, (2 nodes,): by turns to the right and to the left; a leaf leads to itself."""
    nodes = np.arange(len(state.tensors["left"]))
    sides = (state.tensors[side] for side in ("right", "left"))
    return np.stack([np.where(side < 0, nodes, side) for side in sides], axis=1).ravel()


def _shares(state: State, ways: NDArray[np.int64], rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Share of fakes in the leaf of each tree that each row falls into, (trees, n). All walk down at the same time."""
    feature, threshold, left, root = (state.tensors[name] for name in ("feature", "threshold", "left", "root"))
    values = rows.ravel()
    leaves = np.repeat(root, len(rows))
    walking, nodes = np.arange(len(leaves)), leaves
    first = np.tile(np.arange(len(rows)) * rows.shape[1], len(root))
    while len(walking):
        for _ in range(STEPS):
            goes_left = values.take(first + feature.take(nodes)) <= threshold.take(nodes)
            nodes = ways.take(2 * nodes + goes_left)
        leaves[walking] = nodes
        on = left.take(nodes) >= 0
        walking, nodes, first = walking[on], nodes[on], first[on]
    return state.tensors["probability"].take(leaves).reshape(len(root), len(rows))


def score(config: Config, state: State, features: NDArray[Any], device: str = "cpu") -> NDArray[np.float32]:
    """Probability of being fake (n,) float32 for profiles (n, native) as stored."""
    del device  # some comparisons per row: always the processor
    return calibrated(decision(config, state, features), state.plain)
