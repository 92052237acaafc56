"""The ResNet-50 of He et al. at its own size: killed after each epoch, it ends with the weights of one that was not."""

from __future__ import annotations

import pytest
from detector_examples import equal
from network_cases import killed_and_whole, patterned

from detectors.choosing import detector_config

pytestmark = pytest.mark.stress


def test_a_killed_resnet50_goes_on_to_the_same_weights() -> None:
    config = detector_config({
        "family": "deep", "feature": "residual", "network": {"architecture": "deep_stem_resnet50"},
        "head": {"kind": "classes"}, "micro_batch": 4,
        "training": {"epochs": 2, "batch": 4, "learning_rate": 0.01, "rate": {"rule": "steps", "after": [1]},
                     "optimizer": {"method": "sgd", "momentum": 0.9, "weight_decay": 1e-4}},
    })  # fmt: skip
    rows = patterned(16, 1, "float16", (3, 32, 32))
    killed, whole = killed_and_whole(config, rows, rows)
    assert equal(killed, whole)
    assert sum(value.size for name, value in whole.tensors.items() if "running" not in name and "num_" not in name) == (
        23_635_906
    )
