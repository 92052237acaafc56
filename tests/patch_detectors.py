"""Small patch networks with new weights, as the artifact of a training, for tests of what is made of their cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from detectors import composed, deep
from detectors.choosing import detector_config
from detectors.contract import Control, State
from pipeline.stage import PICTURE, Artifact
from stages.evaluation.detector_file import save_detector

NETWORK = {"architecture": "resnet", "depth": 18, "kernel": 3, "width": 8, "stages": 1, "patches": True}


def patch_config(**more: Any) -> deep.Config:
    """A detector that decides by cells."""
    given = {"family": "deep", "feature": "image", "micro_batch": 4, "network": NETWORK, "head": {"kind": "patches"}}
    found = detector_config({**given, "preprocessing": {"scaling": "symmetric"}, **more})
    assert isinstance(found, deep.Config)
    return found


def patch_state(config: deep.Config, side: int, seed: int = 3) -> State:
    """Weights of a seed, for pictures of this side."""
    shape = (side, side, 3)
    network = composed.new(config, shape, PICTURE, {}, Control(seed=seed))
    tensors = {name: np.array(value.detach().numpy()) for name, value in network.state_dict().items()}
    return State(tensors, {"shape": list(shape), "axes": list(PICTURE), "slope": 1.0, "intercept": 0.0})


def trained(folder: Path, side: int, threshold: float = 0.5, **more: Any) -> Artifact:
    """The folder of a training of such a detector, which calls rows of this score or more fake."""
    folder.mkdir(parents=True)
    config = patch_config(**more)
    facts = {
        "trained_on": ["made"], "counts": {}, "threshold": threshold, "threshold_rule": "half", "validation": {},
        "feature": "image", "feature_shape": [side, side, 3],
    }  # fmt: skip
    save_detector(folder, config, patch_state(config, side), facts)
    return Artifact("patches", "0" * 32, folder)
