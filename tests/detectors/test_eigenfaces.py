"""Eigenfaces: components and machine of scikit-learn, folded into one weight per value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from detector_examples import MemoryExamples, equal, maps
from sklearn.decomposition import PCA
from sklearn.svm import LinearSVC

from detectors import eigenfaces
from detectors.choosing import detector_config
from detectors.contract import Control


def config(**settings: Any) -> Any:
    return detector_config({"family": "eigenfaces", "feature": "map", **settings})


def rows(count: int, seed: int, side: int = 6) -> MemoryExamples:
    """Maps whose values have very different variances; a fake has more of one of them."""
    examples = maps(count, seed, "float32", (3, 12, 12))
    scales = 2.0 ** -np.arange(side * side).reshape(side, side)
    return MemoryExamples(
        (examples.features[:, 0, 4 : 4 + side, 4 : 4 + side] * scales).astype(np.float32), examples.labels
    )


@pytest.mark.parametrize(("count", "kept"), [(30, 0.5), (30, 0.95), (90, 0.95), (90, 4), (30, 1)])
def test_decisions_are_those_of_principal_components_and_a_linear_machine(count: int, kept: float) -> None:
    """30 rows of 36 values and 90: the smaller matrix is that of the rows, or that of the values."""
    train, test = rows(count, 1), rows(20, 2)
    state = eigenfaces.fit(config(components=kept, C=0.1), train, test, Control(seed=3))
    flat, new = (one.features.reshape(len(one), -1).astype(np.float64) for one in (train, test))
    components = PCA(kept, svd_solver="full").fit(flat)
    machine = LinearSVC(C=0.1, max_iter=10_000, random_state=3, tol=1e-9, dual=False)
    machine.fit(components.transform(flat), train.labels)
    assert state.plain["components"] == components.n_components_
    assert state.plain["variance"] == pytest.approx(components.explained_variance_ratio_.sum())
    expected = machine.decision_function(components.transform(new))
    np.testing.assert_allclose(
        eigenfaces.decision(config(components=kept, C=0.1), state, test.features), expected, atol=2e-3
    )


def test_scaling_is_folded_into_the_weights() -> None:
    train, val = maps(40, 1, "uint8", (8, 8, 3)), maps(24, 2, "uint8", (8, 8, 3))
    scaled = MemoryExamples((train.features / 127.5 - 1).astype(np.float64), train.labels)
    state = eigenfaces.fit(config(components=5, C=0.1, scaling="pixels"), train, val, Control())
    plain = eigenfaces.fit(
        config(components=5, C=0.1), scaled, MemoryExamples(val.features / 127.5 - 1, val.labels), Control()
    )
    expected = eigenfaces.decision(config(), plain, val.features / 127.5 - 1)
    np.testing.assert_allclose(eigenfaces.decision(config(), state, val.features), expected, atol=1e-9)


def test_the_first_rows_of_each_class_are_used() -> None:
    train, val = rows(60, 1), rows(30, 2)
    few = np.concatenate([np.flatnonzero(train.labels == label)[:10] for label in (0, 1)])
    few.sort()
    alone = MemoryExamples(train.features[few], train.labels[few])
    settings = config(components=3, C=0.1, rows=20)
    assert equal(eigenfaces.fit(settings, train, val, Control()), eigenfaces.fit(settings, alone, val, Control()))


def test_more_components_than_vary_are_all_that_vary() -> None:
    train = rows(30, 1)
    train.features[:, 2:] = 5  # two rows of six values are left
    state = eigenfaces.fit(config(components=30, C=0.1), train, train, Control())
    assert state.plain["components"] == 12
    assert state.plain["variance"] == pytest.approx(1)


def test_every_point_of_both_lists_is_tried() -> None:
    settings = config(components=[0.5, 4], C=[0.01, 0.1])
    state = eigenfaces.fit(settings, rows(40, 1), rows(20, 2), Control())
    tried = [(one["components"], one["C"]) for one in state.plain["searched"]]
    assert tried == [(0.5, 0.01), (0.5, 0.1), (4, 0.01), (4, 0.1)]


@pytest.mark.parametrize("kept", [0, 1.5, -0.5, [], [0.5, 0]])
def test_a_part_that_cannot_be_kept_is_refused(kept: Any) -> None:
    with pytest.raises(ValueError, match=r"detector family 'eigenfaces': 'components' is .*; ") as caught:
        config(components=kept)
    assert "\n" not in str(caught.value)
