"""Networks and ensembles of patch-forensics against what its own definitions gave (`golden/patches`)."""

from __future__ import annotations

import re
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from golden_files import GoldenDocument
from rule_weights import keys_digest, load, parameters
from torch import nn

from detectors.ensembles import after_softmax, before_softmax, vote
from detectors.networks.receptive_field import Field, fields_of
from detectors.published import PUBLISHED


def filled(network: nn.Module) -> nn.Module:
    """Weights by the rule of this set: one generator for each key."""
    entries = {}
    for name, tensor in network.state_dict().items():
        rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
        shape, last = tuple(tensor.shape), name.rpartition(".")[2]
        if last == "num_batches_tracked":
            entries[name] = np.zeros((), np.int64)
        elif last == "running_mean":
            entries[name] = 0.1 * rng.standard_normal(shape)
        elif last == "running_var":
            entries[name] = 0.5 + rng.random(shape)
        elif len(shape) > 1:
            entries[name] = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        else:
            drawn = 0.1 * rng.standard_normal(shape)
            entries[name] = 1 + drawn if last == "weight" else drawn
    return load(network.double(), entries)


def waves(side: int) -> torch.Tensor:
    """The picture of this set, (1, 3, side, side) float64."""
    y, x = np.mgrid[:side, :side].astype(np.float64)
    planes = [np.sin(0.11 * x + 0.07 * y), np.cos(0.05 * x - 0.13 * y), np.sin(0.02 * x + 0.31 * y) * np.cos(0.17 * x)]
    return torch.from_numpy(np.stack(planes)[None])


@pytest.mark.golden("patches", "*.json", keys="patch_models")
def test_cut_networks_have_the_published_keys_fields_and_maps(golden: GoldenDocument) -> None:
    for name, expected in golden["patch_models"].items():
        with torch.device("meta"):
            network = PUBLISHED[name].build({}).eval()
        assert parameters(network) == expected["parameters"]
        assert len(network.state_dict()) == expected["state_dict_entries"]
        assert keys_digest(network) == expected["state_dict_sha256"]
        statistics = sum(value.numel() for key, value in network.state_dict().items() if "running_" in key)
        assert statistics == expected["bn_buffer_elements"]
        assert (
            list(network.state_dict()[expected["head_key_prefix"] + ".weight"].shape) == expected["head_weight_shape"]
        )
        field = Field(expected["receptive_field_px"], expected["output_stride"], expected["first_pixel_offset"])
        assert fields_of(network) == (field, field)
        for side, sides in expected["output_map"].items():
            assert list(network(torch.empty(1, 3, int(side), int(side), device="meta")).shape[2:]) == sides


@pytest.mark.golden("patches", "*.json", keys="patch_models")
def test_cut_networks_give_the_published_logits(golden: GoldenDocument) -> None:
    for name, model in golden["patch_models"].items():
        network = filled(PUBLISHED[name].build({}))
        for side, expected in model["fixture"].items():
            logits = network(waves(int(side))).numpy()
            for cell, values in expected["logits_at"].items():
                row, column = map(int, cell.split(","))
                np.testing.assert_allclose(logits[0, :, row, column], values, rtol=1e-8)
            np.testing.assert_allclose(logits[0].mean(axis=(1, 2)), expected["logit_mean"], rtol=1e-8)
            np.testing.assert_allclose(logits[0].std(axis=(1, 2)), expected["logit_std"], rtol=1e-8)
            np.testing.assert_allclose(
                after_softmax(torch.from_numpy(logits))[0], expected["image_score_after_softmax"], rtol=1e-8
            )


FULL = {
    "resnet18_two_class": "resnet18_full",
    "xception_two_class_last_linear": "xception_full",
    "resnet50_one_logit_cnndetection": "cnndetection",
    "mesoinception4": "mesoinception4",
}


@pytest.mark.golden("patches", "*.json", keys="full_models")
def test_whole_networks_have_the_published_counts(golden: GoldenDocument) -> None:
    for name, expected in golden["full_models"].items():
        with torch.device("meta"):
            network = PUBLISHED[FULL[name]].build({})
        if "parameters" in expected:
            assert parameters(network) == expected["parameters"]
            assert len(network.state_dict()) == expected["state_dict_entries"]
            assert keys_digest(network) == expected["state_dict_sha256"]
            continue
        assert parameters(network) == expected["trainable_parameters"]
        statistics = sum(value.numel() for key, value in network.state_dict().items() if ".running_" in key)
        assert statistics == expected["bn_statistics"]
        assert network.dense_1.in_features == expected["flatten_width"]


@pytest.mark.golden("patches", "*.json", keys="state_dict_keys")
def test_cut_networks_have_the_published_shapes(golden: GoldenDocument) -> None:
    for name, expected in golden["state_dict_keys"].items():
        with torch.device("meta"):
            state = PUBLISHED[name].build({}).state_dict()
        assert {key: list(value.shape) for key, value in state.items()} == as_shapes(expected)


def as_shapes(expected: Any) -> dict[str, list[int]]:
    if isinstance(expected, dict):
        return {name: list(shape) for name, shape in expected.items()}
    pairs = (re.fullmatch(r"(.+?)[: ]\s*([\dx]*)", line) for line in expected)
    return {pair[1]: [int(side) for side in pair[2].split("x") if side] for pair in pairs if pair}


@pytest.mark.golden("patches", "*.json", keys="patch_ensemble")
def test_ensembles_equal_the_published_ones(golden: GoldenDocument) -> None:
    expected = golden["patch_ensemble"]
    logits = np.array(expected["logits_N2HW"])
    for name, ensemble in (("vote", vote), ("before_softmax", before_softmax), ("after_softmax", after_softmax)):
        np.testing.assert_allclose(ensemble(torch.from_numpy(logits)), expected[name], rtol=0, atol=1e-12)
