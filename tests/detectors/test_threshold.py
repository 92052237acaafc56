"""One number against a threshold: closed forms, directions, shapes that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from detector_examples import MemoryExamples

from detectors import threshold
from detectors.calibration import best_threshold
from detectors.choosing import detector_config
from detectors.contract import Control, State
from detectors.preprocessing import layout
from pipeline.stage import MAP, MAPS, PICTURE


def numbers(count: int, seed: int, larger: int = 1) -> MemoryExamples:
    """Mean residuals of about 0.03; those of the class `larger` lie 0.01 above the others."""
    random = np.random.default_rng(seed)
    labels = (np.arange(count) % 2).astype(np.uint8)
    values = random.normal(0.03, 0.001, count) + 0.01 * (labels == larger)
    return MemoryExamples(values.astype(np.float32), labels)


def test_training_rows_are_not_read() -> None:
    class Unreadable:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"{name} of the training rows was read")

    config: Any = detector_config("residual-mean")
    state = threshold.fit(config, Unreadable(), numbers(40, 1), Control())  # type: ignore[arg-type]
    assert threshold.score(config, state, numbers(10, 2).array()).shape == (10,)


@pytest.mark.parametrize("larger", ["fake", "real"])
def test_scores_rise_with_the_class_that_is_said_to_be_larger(larger: str) -> None:
    config: Any = detector_config({"preset": "residual-mean", "larger": larger})
    val, test = (numbers(60, seed, larger=int(larger == "fake")) for seed in (1, 2))
    state = threshold.fit(config, val, val, Control())
    scores = threshold.score(config, state, test.array())
    cut = best_threshold(threshold.score(config, state, val.array()), val.labels)
    assert ((scores >= cut) == (test.labels == 1)).all()
    signed = test.features.astype(np.float64) * (1 if larger == "fake" else -1)
    logit = state.plain["slope"] * signed + state.plain["intercept"]
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-logit)), rtol=1e-6)
    assert state.plain["slope"] > 0


def test_a_baseline_that_points_the_wrong_way_is_not_turned_around() -> None:
    config: Any = detector_config("residual-mean")
    val = numbers(60, 1, larger=0)
    scores = threshold.score(config, threshold.fit(config, val, val, Control()), val.array())
    assert scores[val.labels == 0].min() > scores[val.labels == 1].max()


@pytest.mark.parametrize("shape", [(5,), (3, 8, 8), (1,)])
def test_more_than_one_number_per_row_is_refused(shape: tuple[int, ...]) -> None:
    config: Any = detector_config("residual-mean")
    found = " x ".join(map(str, shape))
    with pytest.raises(ValueError, match=f"one number per row, but 'residual_pixel_mean' is {found}; choose another"):
        threshold.decision(config, State(), np.zeros((4, *shape), np.float32))


def profiles(count: int, seed: int, larger: int = 1) -> MemoryExamples:
    """Nine elements around 100; numbers 3 and 4 of the class `larger` are raised by 10."""
    random = np.random.default_rng(seed)
    labels = (np.arange(count) % 2).astype(np.uint8)
    values = random.normal(100, 1, (count, 9))
    values[labels == larger, 3:5] += 10
    return MemoryExamples(values.astype(np.float32), labels)


@pytest.mark.parametrize(("element", "places"), [(3, [3]), ([2, 5], [2, 3, 4]), (8, [8])])
def test_an_element_or_the_mean_of_some_is_the_number(element: Any, places: list[int]) -> None:
    config: Any = detector_config({"family": "threshold", "feature": "profile", "element": element})
    rows = profiles(12, 1).features
    expected = [sum(float(row[place]) for place in places) / len(places) for row in rows]
    np.testing.assert_allclose(threshold.decision(config, State(), rows), expected, rtol=1e-12)


def test_an_element_is_that_of_the_normalized_profile() -> None:
    config: Any = detector_config({"preset": "profile-threshold", "length": None, "element": 3, "larger": "real"})
    rows = profiles(12, 1).features.astype(np.float64)
    np.testing.assert_allclose(threshold.decision(config, State(), rows), -rows[:, 3] / rows[:, 0], rtol=1e-12)


@pytest.mark.parametrize("larger", [0, 1])
def test_a_learned_direction_is_that_of_the_training_rows(larger: int) -> None:
    config: Any = detector_config({"family": "threshold", "feature": "profile", "element": 3, "larger": "learned"})
    train, val = profiles(40, 1, larger), profiles(30, 2, 1 - larger)
    train.features[1] += 1e6 * (1 - 2 * larger)  # a fake far out: ranks count, not means
    state = threshold.fit(config, train, val, Control())
    assert state.plain["larger"] == ("real", "fake")[larger]
    sign = 2 * larger - 1
    np.testing.assert_array_equal(
        threshold.decision(config, state, val.features), sign * val.features[:, 3].astype(float)
    )
    assert not threshold.flaw(config, state)
    assert threshold.flaw(config, State()) == "its 'larger' is None, expected fake or real"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"length": 80}, "'length' has no effect without 'element'"),
        ({"normalization": "min_max"}, "'normalization' has no effect without 'element'"),
        ({"element": [5, 5]}, r"'element' is \(5, 5\); expected one or \[first, end\] within the profile, first < end"),
        ({"element": 80, "length": 80}, "'element' is 80; expected one"),
        ({"element": -1}, "'element' is -1; expected greater than or equal to 0"),
    ],
)
def test_elements_that_cannot_be_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"detector family 'threshold': .*{sentence}"):
        detector_config({"family": "threshold", "feature": "profile", **settings})


def test_an_element_beyond_the_profile_is_one_sentence() -> None:
    config: Any = detector_config({"family": "threshold", "feature": "profile", "element": 9})
    with pytest.raises(ValueError, match="'element' is 9, but 'profile' has 9 elements, from 0; choose another"):
        threshold.decision(config, State(), profiles(3, 1).features)


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((12, 16), MAP, ("first", (1, 12, 16))),
        ((3, 64, 64), MAPS, ("first", (3, 64, 64))),
        ((64, 48, 3), PICTURE, ("last", (3, 64, 48))),
        ((64, 64, 1), PICTURE, ("last", (1, 64, 64))),
        ((3, 3, 3), PICTURE, ("last", (3, 3, 3))),
        ((128, 4, 3), MAPS, ("first", (128, 4, 3))),
        ((512, 1, 1), MAPS, ("first", (512, 1, 1))),
    ],
)
def test_the_axes_say_where_a_network_finds_its_channels(
    shape: tuple[int, ...], axes: tuple[str, ...], expected: Any
) -> None:
    assert layout(shape, axes) == expected


@pytest.mark.parametrize("axes", [(), ("table", "entry"), ("term", *MAPS)])
def test_rows_whose_axes_are_no_map_are_refused(axes: tuple[str, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"a CNN reads maps with the axes \(row, column\), .* name the axes in the `Field`"
    ):
        layout((2, 4, 6, 8)[: len(axes) or 3], axes)
