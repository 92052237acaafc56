"""A grid that validation rows choose from: against plain scikit-learn, point by point; ties; kills between points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detector_examples import Killed, MemoryExamples, equal
from numpy.typing import NDArray
from sklearn.svm import SVC

from detectors import svm
from detectors.choosing import detector_config
from detectors.contract import Control, State
from stages.training.progress import pack, unpack

GRID: dict[str, Any] = {"C": [0.01, 1.0, 30.0], "gamma": [0.001, 0.1, "scale"]}


def rows(count: int, seed: int) -> MemoryExamples:
    """Ten elements; classes that overlap, and that no plane parts."""
    random = np.random.default_rng(seed)
    labels = (np.arange(count) % 2).astype(np.uint8)
    values = random.normal(0, 1, (count, 10)) * np.where(labels, 1.6, 1.0)[:, None]
    return MemoryExamples(values.astype(np.float32), labels)


def config(**settings: Any) -> Any:
    return detector_config({"family": "svm", "normalization": "none", **settings})


def best_accuracy(decisions: NDArray[Any], labels: NDArray[np.uint8]) -> float:
    """The best balanced accuracy of all thresholds, one after another."""
    found = [((decisions[labels == 1] >= cut).mean() + (decisions[labels == 0] < cut).mean()) / 2 for cut in decisions]
    return float(max(found))


def test_the_grid_is_that_of_plain_scikit_learn() -> None:
    train, val = rows(80, 1), rows(60, 2)
    state = svm.fit(config(**GRID), train, val, Control())
    expected, machines = [], []
    for penalty in GRID["C"]:
        for gamma in GRID["gamma"]:
            machines.append(SVC(C=penalty, gamma=gamma).fit(train.features.astype(np.float64), train.labels))
            reached = best_accuracy(machines[-1].decision_function(val.features.astype(np.float64)), val.labels)
            expected.append({"C": penalty, "gamma": gamma, "balanced_accuracy": pytest.approx(reached)})
    assert state.plain["searched"] == expected
    reached = [one["balanced_accuracy"] for one in state.plain["searched"]]
    assert len(set(reached)) > 3
    best = int(np.argmax(reached))
    assert state.plain["chosen"] == {name: expected[best][name] for name in GRID}
    np.testing.assert_array_equal(state.tensors["support"], machines[best].support_vectors_)


def test_the_chosen_machine_is_the_one_of_its_settings_alone() -> None:
    train, val = rows(80, 1), rows(60, 2)
    found = svm.fit(config(**GRID), train, val, Control())
    alone = svm.fit(config(**found.plain["chosen"]), train, val, Control())
    assert equal(State(found.tensors), State(alone.tensors))
    assert {**alone.plain, "chosen": 0, "searched": 0} == {**found.plain, "chosen": 0, "searched": 0}
    new = rows(20, 3).features
    np.testing.assert_array_equal(
        svm.score(config(**GRID), found, new), svm.score(config(**found.plain["chosen"]), alone, new)
    )


@pytest.mark.parametrize("listing", [[3.0, 5.0], [5.0, 3.0]])
def test_ties_go_to_the_first_in_the_listing(listing: list[float]) -> None:
    easy = rows(40, 1)
    easy.features[easy.labels == 1] += 20
    state = svm.fit(config(kernel="linear", C=listing), easy, easy, Control())
    assert [one["balanced_accuracy"] for one in state.plain["searched"]] == [1.0, 1.0]
    assert state.plain["chosen"]["C"] == listing[0]


def test_a_search_that_is_killed_after_each_point_ends_with_the_same_bytes(tmp_path: Path) -> None:
    train, val, path = rows(80, 1), rows(60, 2), tmp_path / "progress"
    seen: list[tuple[int, int]] = []

    def save(state: State) -> None:
        path.write_bytes(pack(state))
        raise Killed("between points")

    restore = lambda: unpack(path) if path.exists() else None  # noqa: E731
    control = Control(restore=restore, save=save, report=lambda done, total: seen.append((done, total)))
    for _ in range(8):
        with pytest.raises(Killed, match="between points"):
            svm.fit(config(**GRID), train, val, control)
    assert equal(svm.fit(config(**GRID), train, val, control), svm.fit(config(**GRID), train, val, Control()))
    assert seen == [(9, 9)]  # no point was computed twice


def test_one_point_is_no_search() -> None:
    def save(state: State) -> None:
        raise AssertionError("nothing is between points")

    state = svm.fit(config(C=2.0), rows(40, 1), rows(40, 2), Control(save=save))
    assert set(state.plain) == {"gamma", "support_vectors", "slope", "intercept"}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"C": []}, "'C' is \\[\\]; "),
        ({"C": [1.0, 0.0]}, "'C' is \\[1.0, 0.0\\]; expected .*greater than 0"),
        ({"C": [1.0, "big"]}, "'C' is \\[1.0, 'big'\\]; expected a valid number"),
        ({"gamma": [0.5, -1.0]}, "'gamma' is -1.0; expected a number above 0, auto or scale"),
        ({"kernel": "linear", "gamma": [0.5]}, "'gamma' has no effect with kernel 'linear'"),
    ],
)
def test_a_list_with_a_wrong_value_is_one_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        config(**settings)
    assert "\n" not in str(caught.value)
