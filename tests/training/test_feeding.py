"""What feeds a network detector in training, seen from the stage: balance of classes, precision, memory of tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from detector_examples import maps, small_config
from memory_rows import rows_of, union

from detectors import cnn, deep
from detectors.choosing import detector_config
from detectors.contract import Control
from pipeline.planning.recipes import recipe_config
from stages.evaluation.detector_file import FeatureRows
from stages.train import Train, TrainConfig
from stages.training.networks import prepare


def pictures(count: int, bright: int) -> dict[str, Any]:
    random = np.random.default_rng(bright)
    return {"image": random.integers(bright, bright + 100, (count, 8, 8, 3), dtype=np.uint8)}


def features() -> FeatureRows:
    """30 real and 6 fake rows."""
    real, fake = rows_of("photos", 0, pictures(30, 10)), rows_of("progan", 1, pictures(6, 120))
    return FeatureRows(union(real, fake), "image")


@pytest.mark.parametrize(("balanced", "counts"), [(True, (18, 18)), (False, (30, 6))])
def test_an_epoch_has_as_many_rows_of_each_class_and_every_rare_one(balanced: bool, counts: tuple[int, int]) -> None:
    rows = features()
    batches = rows.batches(8, 3, balanced, "cpu")
    for _ in range(3):
        seen = [
            (label, bytes(row)) for _, labels, ids in batches for label, row in zip(labels.tolist(), ids, strict=True)
        ]
        assert tuple(sum(label == kind for label, _ in seen) for kind in (0, 1)) == counts
        fakes = [row for label, row in seen if label == 1]
        assert len(set(fakes)) == 6
        assert {fakes.count(row) for row in fakes} == {counts[1] // 6}
        assert all((label == 1) == (row in {bytes(one) for one in rows.dataset.ids[30:]}) for label, row in seen)


def test_a_detector_is_calibrated_on_the_device_of_its_training(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, decision = [], deep.decision

    def watched(config: Any, state: Any, rows: Any, device: str = "cpu") -> Any:
        asked.append(device)
        return decision(config, state, rows, device)

    monkeypatch.setattr(deep, "decision", watched)
    examples: Any = maps(24, 0, shape=(3, 8, 8))
    cnn.fit(small_config(), examples, examples, Control(device="cpu:0"))
    assert asked == ["cpu:0"]


def test_precision_and_an_augmentation_are_settings_of_the_recipe() -> None:
    def recipe(**changes: Any) -> tuple[Any, tuple[str, ...]]:
        config = TrainConfig.model_validate({"detector": {"preset": "pixel-compact", **changes}})
        return recipe_config(config), Train().modules(config)

    plain, modules = recipe()
    half, same = recipe(training={"precision": "bfloat16", "stop": {"rule": "patience"}})
    assert plain["detector"]["training"].pop("precision") == "float32"
    assert half["detector"]["training"].pop("precision") == "bfloat16"
    assert (half, same) == (plain, modules)
    noisy, more = recipe(augmentation=[{"augmentation": "flip"}, {"augmentation": "noise"}])
    assert set(more) - set(modules) == {"detectors.augmentation.noise"}
    assert noisy != plain


def test_tensors_are_not_filled_before_they_are_written_and_nothing_reads_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare("cpu", torch.get_num_threads())
    settings: Any = torch.utils.deterministic
    assert settings.fill_uninitialized_memory is False
    config: Any = detector_config({"preset": "pixel-compact", "training": {"epochs": 2, "batch": 8}})
    rows = features()
    found = deep.fit(config, rows, rows, Control(seed=1)).tensors
    monkeypatch.setattr(settings, "fill_uninitialized_memory", True)
    filled = deep.fit(config, rows, rows, Control(seed=1)).tensors
    assert all(value.tobytes() == filled[name].tobytes() for name, value in found.items())
