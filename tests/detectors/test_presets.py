"""Presets of networks: rows of the published size fit all of them, and their settings are the published ones."""

from __future__ import annotations

from typing import Any

import pytest

from detectors.choosing import detector_config
from detectors.composed import without_values
from detectors.composition import Config
from detectors.presets import PRESETS
from detectors.schedules import steps
from pipeline.stage import MAPS, PICTURE, SPECTRA

DEEP = [name for name, settings in PRESETS.items() if settings["family"] == "deep"]
STAGES = {"stage1": (64, 64), "stage2": (128, 32), "stage3": (256, 16), "stage4": (512, 8), "stage5": (512, 4)}
ROWS: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
    "image": ((256, 256, 3), PICTURE),
    "dct2d": ((3, 64, 64), SPECTRA),
    "fft2d": ((3, 64, 64), SPECTRA),
    "residual_pixel": ((3, 64, 64), MAPS),
    **{f"residual_{name}": ((channels, side, side), MAPS) for name, (channels, side) in STAGES.items()},
    "profile": ((43,), ("frequency",)),
    "row_profile": ((64,), ("frequency",)),
    "column_profile": ((64,), ("frequency",)),
}


@pytest.mark.parametrize("name", DEEP)
def test_rows_of_the_published_size_fit(name: str) -> None:
    config = detector_config(name)
    assert isinstance(config, Config)
    config.check(*ROWS[config.feature])
    assert without_values(config, *ROWS[config.feature]).state_dict()


def training(name: str) -> Any:
    config: Any = detector_config(name)
    return config.training


def test_trainings_of_residuals_are_those_of_paper_and_code() -> None:
    for level in ("pixel", "stage1", "stage2", "stage3", "stage4", "stage5"):
        paper, code = (training(f"residual-{level}-{which}") for which in ("paper", "code"))
        assert (paper.learning_rate, paper.epochs, paper.batch, paper.rate.after) == (0.01, 20, 32, (10,))
        assert (paper.optimizer.momentum, paper.optimizer.weight_decay) == (0.9, 1e-4)
        # gradients times 0.02, and the decay as it is: the same steps as these
        assert code.learning_rate == pytest.approx(0.01 * 0.02)
        assert code.optimizer.weight_decay == pytest.approx(1e-4 / 0.02)
        assert (code.rate.rule, code.epochs, code.batch) == ("quarter_cosine", 100, 10)
        assert (paper.select, code.select, paper.balance, code.balance) == ("loss", "last", True, False)


@pytest.mark.parametrize(("block", "patience"), [(1, 50), (2, 20), (3, 10), (4, 10), (5, 10)])
def test_patch_networks_stop_as_published(block: int, patience: int) -> None:
    config: Any = detector_config(f"patch-xception-block{block}")
    assert (config.training.stop.patience, config.training.stop.times) == (patience, 5)
    assert (config.preprocessing.resize.size, config.preprocessing.resize.filter) == (299, "lanczos")
    assert config.training.select == "cell_accuracy"
    assert config.training.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("npr", 1_437_761), ("ladeda", 13_641_793), ("tiny-ladeda", 1_297), ("ferretnet-s", 126_289)],
)
def test_networks_of_small_traces_are_the_published_ones(name: str, parameters: int) -> None:
    config: Any = detector_config(name)
    network = without_values(config, *ROWS["image"])
    assert sum(one.numel() for one in network.parameters()) == parameters


def test_trainings_of_small_traces_are_those_of_their_programs() -> None:
    found = {name: training(name) for name in ("npr", "ladeda", "tiny-ladeda", "ferretnet-s")}
    assert [one.learning_rate for one in found.values()] == [2e-4, 1e-4, 2e-4, 2e-4]
    assert [(one.batch, one.epochs) for one in found.values()] == [(32, 50), (64, 1000), (32, 100), (32, 100)]
    ferretnet = found["ferretnet-s"].optimizer
    assert (ferretnet.betas, ferretnet.weight_decay, ferretnet.decoupled) == ((0.937, 0.999), 5e-4, False)
    rate = 2e-4  # their loop: behind each epoch whose number from 0 is a multiple of ten, but 0
    for epoch in range(50):
        assert 2e-4 * steps.factor(found["npr"].rate, [0.0] * epoch) == pytest.approx(rate)
        rate *= 0.8 if epoch % 10 == 0 and epoch else 1.0
    rate, falls = 1e-4, 0  # their rate falls by a tenth until it would be below 1e-6
    while rate >= 1e-6:
        rate, falls = rate * 0.9, falls + 1
    assert (found["ladeda"].rate.rates, found["ladeda"].rate.patience) == (falls, 15)
