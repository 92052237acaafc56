"""A random forest in arrays: equal to scikit-learn's, resumable by trees, and no file can send a walk astray."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detector_examples import Killed, equal, profiles
from safetensors.numpy import load_file, save_file
from sklearn.ensemble import RandomForestClassifier
from training_rows import fit, rows

from detectors import forest
from detectors.choosing import detector_config
from detectors.contract import Control, State
from pipeline.errors import StageError
from stages.evaluation.detector_file import load_detector
from stages.training.progress import pack, unpack


def config(**settings: Any) -> Any:
    return detector_config({"family": "forest", "normalization": "none", "trees": 23, **settings})


@pytest.mark.parametrize(("settings", "at_once"), [({}, 7 * 23), ({"depth": 3, "leaf_rows": 4}, 50_000)])
def test_the_arrays_give_the_probabilities_of_scikit_learn(
    settings: dict[str, Any], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forest, "AT_ONCE", at_once)  # seven rows, or all
    train, test = profiles(120, 1), profiles(50, 2)
    train.features[:, 30:] += np.random.default_rng(0).normal(0, 8, (120, 1)).astype(np.float32)  # so trees are deep
    found = forest.fit(config(**settings), train, test, Control(seed=9))
    total = np.zeros(len(test))
    for number in range(23):
        seed = int(np.random.SeedSequence([9, number]).generate_state(1)[0])
        one = RandomForestClassifier(
            1,
            max_depth=settings.get("depth"),
            min_samples_leaf=settings.get("leaf_rows", 1),
            random_state=seed,
        )
        total += one.fit(train.features.astype(np.float64), train.labels).predict_proba(test.features)[:, 1]
    decisions = forest.decision(config(**settings), found, test.features)
    np.testing.assert_array_equal(decisions, total / 23)
    assert len(set(decisions.tolist())) > 10


def test_a_row_at_a_threshold_goes_left_and_rows_are_compared_in_float32() -> None:
    tensors = {
        "root": np.array([0]),
        "feature": np.array([1, 0, 0]),
        "threshold": np.array([0.5, 0, 0]),
        "left": np.array([1, -1, -1]),
        "right": np.array([2, -1, -1]),
        "probability": np.array([0, 0.25, 0.75]),
    }
    rows = np.array([[9, 0.5], [0, 0.5 + 1e-12], [0, 0.5 + 1e-6], [9, 0.1]])
    found = forest.decision(config(trees=1), State(tensors, {"length": 2}), rows)
    assert found.tolist() == [0.25, 0.25, 0.75, 0.25]


def test_a_fit_that_is_killed_after_each_block_ends_with_the_same_bytes(tmp_path: Path) -> None:
    train, val, path = profiles(60, 1), profiles(40, 2), tmp_path / "progress"
    seen: list[tuple[int, int]] = []

    def save(state: State) -> None:
        path.write_bytes(pack(state))
        raise Killed("between blocks")

    control = Control(
        seed=4,
        restore=lambda: unpack(path) if path.exists() else None,
        save=save,
        report=lambda done, total: seen.append((done, total)),
    )
    for trees in (10, 20):
        with pytest.raises(Killed, match="between blocks"):
            forest.fit(config(), train, val, control)
        assert len(unpack(path).tensors["root"]) == trees
    assert equal(forest.fit(config(), train, val, control), forest.fit(config(), train, val, Control(seed=4)))
    assert seen == [(23, 23)]


def test_a_tree_depends_on_seed_and_number_alone() -> None:
    train, val = profiles(60, 1), profiles(40, 2)
    few, many = (forest.fit(config(trees=trees), train, val, Control(seed=4)) for trees in (5, 12))
    for name in forest.KINDS:
        np.testing.assert_array_equal(few.tensors[name], many.tensors[name][: len(few.tensors[name])])
    other = forest.fit(config(trees=5), train, val, Control(seed=5))
    assert not equal(State(few.tensors), State(other.tensors))


def damaged(name: str, place: int, value: Any) -> Any:
    def change(tensors: dict[str, Any]) -> None:
        tensors[name][place] = value

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (damaged("left", 0, 0), "'left' and 'right' name nodes that are no children"),  # a walk without an end
        (damaged("right", 0, 1 << 40), "'left' and 'right' name nodes that are no children"),
        (damaged("right", 0, -1), "'left' and 'right' name nodes that are no children"),
        (damaged("feature", 0, 80), "'feature' names elements outside of 80"),
        (damaged("feature", 0, -1), "'feature' names elements outside of 80"),
        (damaged("root", 1, -3), "'root' names nodes outside of"),
        (lambda tensors: tensors.update(left=tensors["left"] + 0.5), "'left' is float64, expected whole numbers"),
    ],
)
def test_a_damaged_forest_is_refused_when_it_is_loaded(change: Any, sentence: str, tmp_path: Path) -> None:
    out = fit(tmp_path, rows(), {"preset": "profile-forest", "trees": 3})
    tensors = load_file(out / "model.safetensors")
    load_detector(out)
    change(tensors)
    save_file(tensors, out / "model.safetensors")
    with pytest.raises(StageError, match=f"does not fit its card: its tensors? {sentence}"):
        load_detector(out)


def test_a_card_without_the_length_is_refused(tmp_path: Path) -> None:
    out = fit(tmp_path, rows(), {"preset": "profile-forest", "trees": 3, "length": None})
    card = json.loads((out / "card.json").read_text())
    for length in (None, "43", 0):
        (out / "card.json").write_text(json.dumps({**card, "state": {**card["state"], "length": length}}))
        with pytest.raises(StageError, match=f"its 'length' is {length}, expected a number of elements"):
            load_detector(out)


def test_profiles_of_another_length_are_refused() -> None:
    train = profiles(40, 1)
    state = forest.fit(config(), train, train, Control())
    with pytest.raises(ValueError, match="trained on 'profile' of 43 elements, but got 42; give it images of the same"):
        forest.score(config(), state, train.features[:, 1:])
