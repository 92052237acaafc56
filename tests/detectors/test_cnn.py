"""The small network: killed and resumed, its first layer, which epoch it keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from detector_examples import CASES, SMALL, Killed, MemoryExamples, Trained, equal, maps, profiles

from detectors import cnn
from detectors.choosing import detector_config
from detectors.contract import Control, State
from detectors.normalization import percentile_scale, standardize
from stages.training.progress import pack, unpack


@pytest.mark.parametrize("case", ["cnn-percentile", "cnn-standardize"])
def test_a_killed_fit_goes_on_with_the_same_trajectory(case: str, tmp_path: Path) -> None:
    trained = Trained(*CASES[case])
    path = tmp_path / "progress"

    def save(state: State) -> None:
        path.write_bytes(pack(state))
        raise Killed("after an epoch")

    control = Control(seed=5, restore=lambda: unpack(path) if path.exists() else None, save=save)
    for _ in range(SMALL["epochs"]):
        with pytest.raises(Killed, match="after an epoch"):
            trained.fit(control)
    assert len(unpack(path).plain["course"]["log"]) == SMALL["epochs"]
    assert equal(trained.fit(control), trained.state)


def test_another_seed_gives_another_network() -> None:
    trained = Trained(*CASES["cnn-standardize"])
    assert not equal(trained.fit(Control(seed=6)), trained.state)


def test_building_a_network_draws_nothing_from_the_global_generator() -> None:
    import torch

    before = torch.random.get_rng_state()
    trained = Trained(*CASES["cnn-pixels"])
    trained.score(trained.test.features)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_first_layer_of_the_network_equals_the_numpy_normalizations() -> None:
    import torch

    from detectors.preprocessing import percentile_scaled, statistics

    rows = maps(9, 4).features.astype(np.float32)
    rows[3, 1] = 2.0  # a flat plane
    expected, _ = percentile_scale(rows)
    np.testing.assert_allclose(percentile_scaled(torch.from_numpy(rows)).numpy(), expected, atol=2e-6)

    rows[:, 0, 0, 0] = 1.0  # a coefficient that never varies
    learned = statistics(MemoryExamples(rows, np.zeros(9, np.uint8)), Control())
    mean, variance = rows.astype(np.float64).mean(axis=0), rows.astype(np.float64).var(axis=0)
    expected = standardize(rows, mean.astype(np.float32), variance)
    np.testing.assert_allclose((rows - learned["mean"]) * learned["scale"], expected, atol=1e-5)


def test_the_epoch_is_the_one_with_the_lowest_validation_loss() -> None:
    trained = Trained(*CASES["cnn-pixels"])
    losses = trained.state.plain["validation_loss"]
    assert trained.state.plain["epoch"] == losses.index(min(losses)) + 1


def test_a_fit_stops_when_patience_ends_and_keeps_the_best_epoch() -> None:
    features = np.random.default_rng(1).normal(size=(40, 16, 16)).astype(np.float32)
    train, val = (MemoryExamples(features, labels) for labels in (profiles(40, 1).labels, profiles(41, 1).labels[1:]))
    config = detector_config({"preset": "fft2d-cnn", **SMALL, "epochs": 40, "patience": 2, "learning_rate": 0.05})
    saved: list[State] = []
    state = cnn.fit(config, train, val, Control(save=saved.append))  # type: ignore[arg-type]
    losses = state.plain["validation_loss"]
    best = losses.index(min(losses))
    assert len(losses) < 40
    assert len(losses) - 1 - best == 2
    for name, value in state.tensors.items():
        assert value.tobytes() == saved[best].tensors[f"network/detector/network.{name}"].tobytes()
