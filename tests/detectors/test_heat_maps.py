"""Heat maps of rows: where the head is a mean and a linear layer they are class activation maps, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from detectors import composed, deep, heat_maps
from detectors.choosing import detector_config
from detectors.contract import Control, State


def state_of(config: deep.Config, shape: tuple[int, ...], axes: tuple[str, ...]) -> State:
    """New weights."""
    network = composed.new(config, shape, axes, {}, Control(seed=3))
    tensors = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    return State(tensors, {"shape": list(shape), "axes": list(axes), "slope": 1.0, "intercept": 0.0})


def config_of(**more: object) -> deep.Config:
    found = detector_config({"family": "deep", "feature": "image", "micro_batch": 2, **more})
    assert isinstance(found, deep.Config)
    return found


PICTURE = ("row", "column", "channel")


@pytest.mark.parametrize("head", ["logit", "classes"])
def test_a_mean_and_a_linear_layer_give_class_activation_maps(head: str) -> None:
    network = {"architecture": "resnet", "depth": 18, "kernel": 3, "width": 8, "stages": 2}
    config = config_of(network=network, head={"kind": head}, preprocessing={"scaling": "symmetric"})
    state = state_of(config, (24, 32, 3), PICTURE)
    rows = np.random.default_rng(0).integers(0, 256, (3, 24, 32, 3), dtype=np.uint8)
    found = heat_maps.of_rows(config, state, rows)
    whole = composed.loaded(config, (24, 32, 3), PICTURE, state.tensors, "cpu")
    x = torch.from_numpy((rows / 127.5 - 1).transpose(0, 3, 1, 2)).float()
    with torch.inference_mode():
        maps = whole.network.maps(x)
    weight, bias = state.tensors["network.fc.weight"], state.tensors["network.fc.bias"]
    weight, bias = (one[1] - one[0] if head == "classes" else one[0] for one in (weight, bias))
    by_hand = heat_maps.class_activation(maps, torch.from_numpy(weight)).numpy() / (maps.shape[2] * maps.shape[3])
    assert found == pytest.approx(by_hand, abs=1e-6)
    assert found.sum(axis=(1, 2)) + bias == pytest.approx(deep.decision(config, state, rows), abs=1e-5)


def test_cells_of_patches_have_heat_too() -> None:
    network = {"architecture": "resnet", "depth": 18, "kernel": 3, "width": 8, "stages": 1, "patches": True}
    config = config_of(network=network, head={"kind": "patches"}, preprocessing={"scaling": "symmetric"})
    state = state_of(config, (32, 32, 3), PICTURE)
    rows = np.random.default_rng(1).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    assert heat_maps.of_rows(config, state, rows).shape == (1, 8, 8)


def test_frequencies_are_no_places() -> None:
    config = config_of(feature="dct2d", network={"architecture": "small_cnn", "widths": [4]})
    axes = ("channel", "row frequency", "column frequency")
    state = state_of(config, (3, 16, 16), axes)
    with pytest.raises(ValueError, match=r"reads frequencies \('dct2d'\), which are no places of a picture"):
        heat_maps.of_rows(config, state, np.zeros((1, 3, 16, 16), np.float16))
