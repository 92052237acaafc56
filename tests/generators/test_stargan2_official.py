"""Official StarGAN v2 checkpoints: networks found from shapes, optional parts, and files that do not fit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.generators import inspection, stargan2, stargan2_masks, stargan2_official
from stages.generators.stargan2_discriminator import Discriminator
from stages.generators.weights import WeightsError
from stages.weights.checkpoints import Contents, NetworkData
from stages.weights.filling import fill

SMALL: dict[str, Any] = {"resolution": 32, "c_dim": 3, "width": 6, "max_width": 10, "mapping_width": 12, "w_dim": 5}


def without(mapping: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key not in keys}


def file_of(networks: Mapping[str, Mapping[str, np.ndarray[Any, Any]]]) -> Contents:
    """A torch file as read."""
    named = {name: NetworkData("", {}, dict(tensors), {}) for name, tensors in networks.items()}
    return Contents("torch zip", None, named, {})


def arrays(network: torch.nn.Module) -> dict[str, np.ndarray[Any, Any]]:
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def parts_of(generator: stargan2.Generator) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    return {name: arrays(part) for name, part in generator.named_children()}


@pytest.fixture(scope="module")
def landmarks() -> dict[str, np.ndarray[Any, Any]]:
    """A landmark network's tensors as in official files, with the counters of batch normalization."""
    with torch.device("meta"):
        state = stargan2_masks.LandmarkNetwork().state_dict()
    tensors: dict[str, np.ndarray[Any, Any]] = {name: np.zeros(t.shape, np.float32) for name, t in state.items()}
    counters = [name.replace("running_mean", "num_batches_tracked") for name in state if "running_mean" in name]
    return {**tensors, **{name: np.array(3, dtype=np.int64) for name in counters}}


ARCHITECTURES: list[dict[str, Any]] = [
    SMALL,
    {**SMALL, "w_hpf": 1.0},
    {"resolution": 64, "c_dim": 2, "width": 16, "max_width": 64, "mapping_width": 20, "z_dim": 4, "w_dim": 9},
    {"resolution": 128, "c_dim": 1, "width": 3, "max_width": 96, "mapping_width": 8, "colors": 1},
]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_networks_are_found_from_the_shapes_of_their_tensors(architecture: dict[str, Any]) -> None:
    generator = stargan2.Generator(**architecture)
    contents = file_of(parts_of(generator))
    assert stargan2_official.recognize(contents) == "networks"
    converted = stargan2_official.generator(contents)
    assert converted.family == "stargan2"
    assert converted.truncation == {"psi": 1.0, "cutoff": None}
    full = {"z_dim": 16, "w_dim": 64, "w_hpf": 0.0, "fan": False, "colors": 3, **architecture}
    assert converted.architecture == full
    rebuilt = stargan2.build(converted.architecture)
    fill("rebuilt", rebuilt, converted.tensors)
    for name, tensor in generator.state_dict().items():
        assert torch.equal(tensor, rebuilt.state_dict()[name])


def test_a_training_file_has_a_discriminator_and_networks_that_are_not_averaged() -> None:
    parts = parts_of(stargan2.Generator(**SMALL))
    sizes = {"resolution": 32, "c_dim": 3, "width": 6, "max_width": 10, "colors": 3}
    scores = arrays(Discriminator(**sizes))
    contents = file_of({**parts, "discriminator": scores})
    assert [stargan2_official.generator(contents, which).source for which in ("average", "raw")] == ["nets", "nets"]
    assert stargan2_official.generator(file_of(parts)).source == "nets_ema"
    assert stargan2_official.discriminator(file_of(parts)) is None
    for file in (contents, file_of({"": scores})):
        converted = stargan2_official.discriminator(file)
        assert converted is not None
        assert converted.architecture == sizes
        assert converted.tensors.keys() == scores.keys()
    assert stargan2_official.recognize(file_of({"": scores})) == "discriminator"


@pytest.mark.parametrize("divisor", [None, 1.0, 2.5])
def test_the_filter_of_edges_is_optional_and_says_its_divisor(divisor: float | None) -> None:
    parts = parts_of(stargan2.Generator(**{**SMALL, "w_hpf": 1.0}))
    if divisor is not None:
        kernel = np.full((3, 3), -1, dtype=np.float32)
        kernel[1, 1] = 8
        parts["generator"]["hpf.filter"] = kernel / np.float32(divisor)
    assert stargan2_official.generator(file_of(parts)).architecture["w_hpf"] == pytest.approx(divisor or 1.0)


def test_a_landmark_network_comes_with_the_checkpoint_or_from_its_own_file(
    landmarks: dict[str, np.ndarray[Any, Any]],
) -> None:
    parts = parts_of(stargan2.Generator(**{**SMALL, "w_hpf": 1.0}))
    own = {"state_dict": {**landmarks, "some.other.weight": np.zeros(2, np.float32)}}
    assert stargan2_official.recognize(file_of(own)) == "landmarks"
    both = stargan2_official.generator(file_of({**parts, "fan": landmarks}))
    added = stargan2_official.generator(file_of({**parts, **own}))
    assert both.architecture["fan"] is added.architecture["fan"] is True
    assert both.tensors.keys() == added.tensors.keys()
    assert not any("num_batches" in name for name in both.tensors)
    animals = stargan2_official.generator(file_of({**parts_of(stargan2.Generator(**SMALL)), "fan": landmarks}))
    assert animals.architecture["fan"] is False
    with pytest.raises(WeightsError, match=r"lacks fan\.l0\.weight"):
        stargan2_official.generator(file_of({**parts, "fan": without(landmarks, "l0.weight")}))


def as_torch(networks: Mapping[str, Mapping[str, np.ndarray[Any, Any]]]) -> dict[str, dict[str, torch.Tensor]]:
    return {name: {key: torch.from_numpy(array) for key, array in part.items()} for name, part in networks.items()}


def test_missing_masks_are_said_and_the_way_out_that_is_named_adds_them(
    landmarks: dict[str, np.ndarray[Any, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(as_torch(parts_of(stargan2.Generator(**{**SMALL, "w_hpf": 1.0}))), "nets_ema.ckpt")
    torch.save(as_torch({"state_dict": landmarks}), "wing.ckpt")
    faces = inspection.inspect(Path("nets_ema.ckpt"))
    assert faces["generator"]["masks"] == "missing"
    (line,) = [line for line in inspection.lines(faces) if "masks" in line]
    assert "missing: without a landmark network no edges of the source are kept; put wing.ckpt beside" in line
    refused = inspection.inspect(Path("wing.ckpt"))["generator"]["refused"]
    assert "is the landmark network of StarGAN2 alone" in refused
    for sentence in (line, refused):
        way_out = re.search(r"torch\.save\(.*'faces\.ckpt'\)", sentence)
        assert way_out is not None
        exec(way_out[0])
        both = inspection.inspect(Path("faces.ckpt"))["generator"]
        assert (both["masks"], both["architecture"]["fan"]) == ("landmarks", True)
        Path("faces.ckpt").unlink()
    torch.save(as_torch(parts_of(stargan2.Generator(**SMALL))), "animals.ckpt")
    animals = inspection.inspect(Path("animals.ckpt"))
    assert animals["generator"]["masks"] is None
    assert "masks" not in "".join(inspection.lines(animals))


def damaged() -> Iterator[tuple[str, str, Any, str]]:
    bad = np.full((6, 3, 3, 3), np.nan, dtype=np.float32)
    yield "generator", "to_rgb.2.bias", None, r"lacks generator\.to_rgb\.2\.bias"
    yield "generator", "from_rgb.weight", bad, "162 values that are not finite"
    yield "generator", "decode.0.conv1.weight", np.zeros((4, 4, 3, 3), np.float32), r"has shape \(4, 4, 3, 3\)"
    yield "generator", "more.weight", bad, r"unknown generator\.more\.weight"
    yield "generator", "encode.9.conv1.weight", bad, "lacks generator\\.decode"
    yield "generator", "encode.1.conv1.weight", None, "2 encoding blocks; beside a style encoder of 3 blocks, 3 or"
    yield "generator", "hpf.filter", np.ones((3, 3), np.float32), "no blocks for the edges"
    yield "style_encoder", "shared.0.weight", None, r"lacks the tensor 'shared\.0\.weight'"
    yield "style_encoder", "shared.0.weight", np.zeros(3, np.float32), r"has shape \(3,\)"
    yield "mapping_network", "unshared.1.0.weight", None, r"unshared"


@pytest.mark.parametrize(("part", "name", "value", "sentence"), list(damaged()))
def test_files_that_do_not_fit_are_refused(part: str, name: str, value: Any, sentence: str) -> None:
    parts = parts_of(stargan2.Generator(**SMALL))
    parts[part] = without(parts[part], name) if value is None else {**parts[part], name: value}
    with pytest.raises(WeightsError, match=sentence):
        stargan2_official.generator(file_of(parts))


def test_other_files_are_not_taken_for_stargan2() -> None:
    other = file_of({"generator": {}, "discriminator": {}})
    assert stargan2_official.recognize(other) is None
    assert stargan2_official.discriminator(other) is None
    with pytest.raises(WeightsError, match="expected generator, mapping_network, style_encoder, found 'generator'"):
        stargan2_official.generator(other)
    parts = parts_of(stargan2.Generator(**SMALL))
    with pytest.raises(WeightsError, match=r"those as trained are in the file nets\.ckpt"):
        stargan2_official.generator(file_of(parts), "raw")
    faces = parts_of(stargan2.Generator(**{**SMALL, "w_hpf": 1.0}))
    faces["generator"]["hpf.filter"] = np.ones((3, 3), np.float32)
    with pytest.raises(WeightsError, match="not the Laplacian of 3x3 pixels over a number"):
        stargan2_official.generator(file_of(faces))
