"""Nearest neighbors: the order of slow sums, whatever the blocks; votes of scikit-learn; a search over k."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detector_examples import MemoryExamples, maps
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from sklearn.neighbors import KNeighborsClassifier
from training_rows import fit, rows

from detectors import flattened, neighbors
from detectors.choosing import detector_config
from detectors.contract import Control, State
from pipeline.errors import StageError
from stages.evaluation.detector_file import load_detector


def config(**settings: Any) -> Any:
    return detector_config({"family": "neighbors", **settings})


def pictures(count: int, seed: int) -> MemoryExamples:
    """Many of few different pictures: most neighbors are equally near."""
    random = np.random.default_rng(seed)
    kinds = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    chosen = random.integers(0, 6, count)
    return MemoryExamples(kinds[chosen], (random.random(count) < chosen / 6).astype(np.uint8))


def slow_order(known: NDArray[Any], row: NDArray[Any], count: int) -> list[int]:
    """Sums in exact whole numbers; equally near ones in order."""
    sums = [sum((int(a) - int(b)) ** 2 for a, b in zip(one.flat, row.flat, strict=True)) for one in known]
    return sorted(range(len(known)), key=lambda number: (sums[number], number))[:count]


@pytest.mark.parametrize("blocks", [1 << 25, 8 * 48 * 7])
def test_equally_near_rows_stand_in_the_order_of_training_rows(blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flattened, "BLOCK_BYTES", blocks)
    train, test = pictures(50, 1), pictures(9, 2)
    test.features[::2, 0, 0, 0] ^= 5
    state = State({"rows": train.features, "labels": train.labels})
    for row, order in zip(test.features, neighbors.nearest(state, test.features, 20), strict=True):
        assert order.tolist() == slow_order(train.features, row, 20)


def test_rounding_of_the_matrix_product_orders_nothing() -> None:
    """Rows of floats next to one another: their distances are as small as the rounding of their products."""
    random = np.random.default_rng(3)
    steps, new_steps = random.integers(0, 2, (40, 200)), random.integers(0, 2, (8, 200))
    known, new = ((1 + of * 2.0**-23).astype(np.float32) for of in (steps, new_steps))
    state = State({"rows": known, "labels": np.zeros(40, np.uint8)})
    for row, order in zip(new_steps, neighbors.nearest(state, new, 15), strict=True):
        assert order.tolist() == slow_order(steps, row, 15)


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8"])
def test_votes_are_those_of_scikit_learn(k: int, dtype: str) -> None:
    train, test = maps(60, 1, dtype), maps(31, 2, dtype)
    state = neighbors.fit(config(k=k, feature="map"), train, test, Control())
    assert state.tensors["rows"].dtype == np.dtype(dtype)
    plain = KNeighborsClassifier(k, algorithm="brute").fit(train.features.reshape(60, -1).astype(float), train.labels)
    expected = plain.predict_proba(test.features.reshape(31, -1).astype(float))[:, 1]
    np.testing.assert_array_equal(neighbors.decision(config(k=k, feature="map"), state, test.features), expected)


def test_standardized_rows_are_those_of_plain_numpy() -> None:
    train, test = maps(60, 1, "float32"), maps(31, 2, "float32")
    train.features[:, 0] *= 50
    settings = config(k=3, feature="map", scaling="standardize")
    state = neighbors.fit(settings, train, test, Control())
    mean, deviation = train.features.mean(axis=0, dtype=float), train.features.std(axis=0, dtype=float)
    known, new = (((one.features - mean) / deviation).reshape(len(one), -1) for one in (train, test))
    expected = KNeighborsClassifier(3, algorithm="brute").fit(known, train.labels).predict_proba(new)[:, 1]
    np.testing.assert_array_equal(neighbors.decision(settings, state, test.features), expected)


def test_validation_rows_choose_k_and_the_first_of_equals_wins() -> None:
    train, val = maps(40, 1, "float32"), maps(30, 2, "float32")
    train.labels[:7] ^= 1  # a single neighbor is often wrong
    state = neighbors.fit(config(k=[1, 9, 15, 100], feature="map"), train, val, Control())
    found = state.plain["searched"]
    assert [one["k"] for one in found] == [1, 9, 15]  # 100 are more than there are
    for one in found:
        plain = KNeighborsClassifier(one["k"], algorithm="brute").fit(train.features.reshape(40, -1), train.labels)
        shares = plain.predict_proba(val.features.reshape(30, -1))[:, 1]
        cuts = [
            ((shares[val.labels == 1] >= cut).mean() + (shares[val.labels == 0] < cut).mean()) / 2 for cut in shares
        ]
        assert one["balanced_accuracy"] == pytest.approx(max(cuts))
    assert found[0]["balanced_accuracy"] < found[1]["balanced_accuracy"] == found[2]["balanced_accuracy"]
    assert state.plain["k"] == 9


def test_more_neighbors_than_rows_and_rows_of_another_shape_are_one_sentence() -> None:
    train = maps(10, 1)
    with pytest.raises(ValueError, match="'k' is 11, but there are only 10 training rows; expected at most as many"):
        neighbors.fit(config(k=11, feature="map"), train, train, Control())
    state = neighbors.fit(config(k=1, feature="map"), train, train, Control())
    with pytest.raises(ValueError, match=r"trained on 'map' of shape \(3, 16, 16\), but got \(3, 8, 16\); equalize"):
        neighbors.score(config(k=1, feature="map"), state, train.features[:, :, ::2])


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("labels", np.arange(120, dtype=np.uint8)[:60], r"its tensor 'labels' holds \[0, 1, 2.*, expected 0 and 1"),
        ("labels", np.zeros(59, np.uint8), r"its tensor 'labels' is \(59,\), expected \(60,\)"),
        ("rows", np.zeros((60, 43, 1), np.float32), r"its tensor 'rows' is \(60, 43, 1\)"),
        ("rows", np.zeros((60, 42), np.float32), r"its tensor 'rows' is \(60, 42\), expected \('?\w+'?, 43\)"),
    ],
)
def test_a_damaged_file_is_refused(name: str, value: NDArray[Any], sentence: str, tmp_path: Path) -> None:
    out = fit(tmp_path, rows(), {"family": "neighbors", "feature": "profile", "k": 3})
    tensors = load_file(out / "model.safetensors")
    load_detector(out)
    save_file({**tensors, name: value}, out / "model.safetensors")
    with pytest.raises(StageError, match=sentence):
        load_detector(out)
