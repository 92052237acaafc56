"""Every detector family keeps one contract; profiles, presets and wrong settings of all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detector_examples import CASES, Trained, equal, maps, profiles

from detectors import FAMILIES, PRESETS
from detectors.choosing import detector_config, family_module
from detectors.normalization import divide_by_first, resample
from detectors.profiles import prepared
from stages.training.progress import pack, unpack


@pytest.fixture(scope="module", params=CASES)
def trained(request: pytest.FixtureRequest) -> Trained:
    return Trained(*CASES[request.param])


class TestContract:
    """What every family promises."""

    def test_two_fits_give_the_same_bytes(self, trained: Trained) -> None:
        assert equal(trained.fit(), trained.state)

    def test_scores_are_float32_between_0_and_1(self, trained: Trained) -> None:
        scores = trained.score(trained.test.features)
        assert scores.dtype == np.float32
        assert scores.shape == (len(trained.test),)
        assert scores.min() >= 0
        assert scores.max() <= 1

    def test_an_easy_problem_is_solved_and_half_is_its_threshold(self, trained: Trained) -> None:
        scores = trained.score(trained.test.features)
        assert ((scores >= 0.5) == (trained.test.labels == 1)).mean() > 0.9

    def test_a_score_does_not_depend_on_the_size_of_the_batch(self, trained: Trained) -> None:
        rows = trained.test.features[:19]
        whole = trained.score(rows)
        for size in (1, 5, 16):
            scores = [trained.score(rows[start : start + size]) for start in range(0, len(rows), size)]
            assert np.concatenate(scores).tobytes() == whole.tobytes()

    def test_a_score_does_not_depend_on_order_and_neighbors(self, trained: Trained) -> None:
        whole = trained.score(trained.test.features)
        order = np.random.default_rng(0).permutation(len(whole))
        assert trained.score(trained.test.features[order]).tobytes() == whole[order].tobytes()

    def test_the_state_goes_through_a_file_bit_by_bit(self, trained: Trained, tmp_path: Path) -> None:
        path = tmp_path / "state.safetensors"
        path.write_bytes(pack(trained.state))
        back = unpack(path)
        assert equal(back, trained.state)
        expected = trained.score(trained.test.features)
        assert trained.score(trained.test.features, back).tobytes() == expected.tobytes()

    def test_config_goes_through_json_and_describes_itself(self, trained: Trained) -> None:
        assert detector_config(trained.config.model_dump(mode="json")) == trained.config
        assert trained.config.feature in trained.module.describe(trained.config)


def test_profiles_are_resampled_before_they_are_divided() -> None:
    rows = profiles(5, 1).features
    expected, _ = divide_by_first(resample(rows.astype(np.float64), 80))
    np.testing.assert_array_equal(prepared(rows, "divide_by_first", 80), expected)


def test_profile_detectors_refuse_maps() -> None:
    with pytest.raises(ValueError, match="each row is 3 x 16 x 16; choose a one-dimensional feature"):
        prepared(maps(2, 1).features, "none", None)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ("profile-svn", "'profile-svn' is no detector preset; .*did you mean 'profile-svm'"),
        ({"family": "svn"}, "'svn' is no detector family; expected one of svm, logistic, cnn, .*; did you mean 'svm'"),
        ({"family": "svm", "CC": 1.0}, "'CC' is not a setting of detector family 'svm'; did you mean 'C'"),
        ({"family": "cnn", "feature": "image"}, "lacks 'normalization', which detector family 'cnn' needs"),
        ({"preset": "profile-svm", "C": "big"}, "detector family 'svm': 'C' is 'big'; expected a valid number"),
        ({"family": "svm", "kernel": "linear", "gamma": 0.5}, "'gamma' has no effect with kernel 'linear'"),
        ({"C": 1.0}, "lacks 'family' .*svm.* or 'preset'"),
    ],
)
def test_a_wrong_setting_is_one_sentence(settings: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        detector_config(settings)
    assert "\n" not in str(caught.value)


def test_every_preset_and_family_resolves() -> None:
    for name in PRESETS:
        config = detector_config(name)
        assert type(config) is family_module(config.family).Config
    of_other_trainings = {"published", "joint_classifier"}  # by an entry of a manifest, or the node of a training
    assert {detector_config(name).family for name in PRESETS} == set(FAMILIES) - of_other_trainings
