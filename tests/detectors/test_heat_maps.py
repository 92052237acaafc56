"""Heat maps of rows: where the head is a mean and a linear layer they are class activation maps, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detectors import composed, deep, heat_maps, published_family
from detectors.choosing import detector_config
from detectors.contract import Control, State
from detectors.preprocessing import Preprocessing
from detectors.published import PUBLISHED
from detectors.published_preprocessing import Preprocessing as PublishedPreprocessing
from pipeline.errors import StageError
from stages.evaluation.detector_file import Detector
from stages.predicting.heat_pictures import Drawer, blended, frame


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


def test_the_network_of_heat_is_made_once_for_all_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    network = {"architecture": "resnet", "depth": 18, "kernel": 3, "width": 8, "stages": 1, "patches": True}
    config = config_of(network=network, head={"kind": "patches"}, preprocessing={"scaling": "symmetric"})
    rows = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    made, load = [], composed.loaded
    monkeypatch.setattr(composed, "loaded", lambda *given: made.append(given) or load(*given))
    states = [state_of(config, (32, 32, 3), PICTURE) for _ in range(2)]
    one, again = (heat_maps.of_rows(config, states[0], rows) for _ in range(2))
    assert np.array_equal(one, again)
    assert len(made) == 1
    heat_maps.of_rows(config, states[1], rows)
    assert len(made) == 2


def test_frequencies_are_no_places() -> None:
    config = config_of(feature="dct2d", network={"architecture": "small_cnn", "widths": [4]})
    axes = ("channel", "row frequency", "column frequency")
    state = state_of(config, (3, 16, 16), axes)
    with pytest.raises(ValueError, match=r"reads frequencies \('dct2d'\), which are no places of a picture"):
        heat_maps.of_rows(config, state, np.zeros((1, 3, 16, 16), np.float16))


def published(network: str, **more: object) -> published_family.Config:
    known = PUBLISHED[network]
    return published_family.Config(
        name="one", feature="image", network=network, architecture=known.network, arguments=dict(known.arguments),
        preprocessing=known.preprocessing, decision=known.decision, **more,
    )  # fmt: skip


def published_state(config: published_family.Config, sizes: dict[str, int] | None = None) -> State:
    torch.manual_seed(2)
    network = PUBLISHED[config.network].make(sizes or {})
    return published_family.as_published(config, {name: one.numpy() for name, one in network.state_dict().items()})


def test_heat_of_a_published_detector_of_patches_makes_its_logit() -> None:
    config = published("tiny_ladeda")
    state = published_state(config)
    pictures = np.random.default_rng(5).integers(0, 256, (2, 40, 52, 3), dtype=np.uint8)
    heat = heat_maps.of_published(config, state, pictures)
    logits = published_family.decision(config, state, pictures)
    assert heat.shape[1:] == (126, 126)  # of 256 x 256: 3 x 3 without padding, and once more with a stride of 2
    assert heat.sum(axis=(1, 2)) + state.tensors["fc.bias"][0] == pytest.approx(logits, abs=1e-4)


def test_heat_of_published_cells_is_the_slope_of_their_decision() -> None:
    config = published("resnet18_layer1")
    state = published_state(config)
    pictures = np.random.default_rng(6).integers(0, 256, (1, 40, 40, 3), dtype=np.uint8)
    heat = heat_maps.of_published(config, state, pictures)
    network = published_family.loaded(config, state, "cpu").double()
    with torch.inference_mode():
        maps = network.maps(torch.from_numpy(published_family.prepared(config, state, pictures)).double())
        ends = []
        for factor in (1 - 1e-4, 1 + 1e-4):  # the sum of all heat is the slope along a common factor of the maps
            shares = torch.softmax(network.convout(maps * factor), 1).mean((2, 3))
            ends.append(float(torch.log(shares[0, 0]) - torch.log(shares[0, 1])))
    assert heat.sum() == pytest.approx((ends[1] - ends[0]) / 2e-4, rel=1e-3)


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        ("autogan_fft", "reads frequencies"),
        ("fredect_aigcdetect", "reads frequencies"),
        ("gramnet", "its network, gramnet, has no maps"),
    ],
)
def test_published_networks_without_places_say_so(network: str, sentence: str) -> None:
    moments = {"mean": {"file": "m.npy"}, "variance": {"file": "v.npy"}} if "fredect" in network else None
    config = published(network, moments=moments)
    with pytest.raises(ValueError, match=sentence):
        heat_maps.check_places(config, State({}, {"sizes": {}, "slope": 1.0, "intercept": 0.0}))


@pytest.mark.parametrize(
    ("settings", "sides", "expected"),
    [
        ({}, (100, 80), ((0, 100), (0, 80))),
        ({"resize": 64, "shape": "square"}, (100, 80), ((0, 100), (0, 80))),
        ({"crop": 224}, (256, 300), ((16, 240), (38, 262))),
        ({"resize": 256, "crop": 224}, (512, 1024), ((32, 480), (288, 736))),
        ({"crop": 224}, (100, 100), ((-62, 162), (-62, 162))),
    ],
)
def test_what_a_network_looks_at_lies_where_its_resize_and_crop_take_it(
    settings: dict[str, object], sides: tuple[int, int], expected: object
) -> None:
    assert frame(PublishedPreprocessing(**settings), *sides) == expected  # type: ignore[arg-type]
    crop, resize = settings.get("crop"), settings.get("resize")
    own: dict[str, object] = {"crop": crop and {"size": crop, "padding": "zeros"}}
    own["resize"] = resize and {"size": resize, "sides": "both" if "shape" in settings else "shorter"}
    assert frame(Preprocessing.model_validate(own), *sides) == expected


def fusion(*parts: tuple[deep.Config, State]) -> Detector:
    cards = [
        {"config": one.model_dump(mode="json"), "state": state.plain, "feature_shape": state.plain["shape"]}
        for one, state in parts
    ]
    tensors = {f"{k}/{name}": value for k, (_, one) in enumerate(parts) for name, value in one.tensors.items()}
    config = detector_config({"family": "fusion"})
    return Detector({}, config, State(tensors, {"members": cards, "slope": 1.0, "intercept": 0.0}))


def test_a_fusion_draws_the_weighted_heat_of_its_members(tmp_path: Path) -> None:
    network = {"architecture": "resnet", "depth": 18, "kernel": 3, "width": 8, "stages": 1}
    whole = config_of(network=network, preprocessing={"scaling": "symmetric"})
    cropped = config_of(network=network, preprocessing={"scaling": "unit", "crop": {"size": 16}})
    states = [state_of(one, (32, 32, 3), PICTURE) for one in (whole, cropped)]
    states[1].plain["slope"] = 3.0
    spectral = config_of(feature="dct2d", network={"architecture": "small_cnn", "widths": [4]})
    frequencies = state_of(spectral, (3, 16, 16), ("channel", "row frequency", "column frequency"))
    drawer = Drawer(fusion((whole, states[0]), (cropped, states[1]), (spectral, frequencies)), tmp_path)
    assert drawer.left_out == [deep.describe(spectral)]
    picture = np.random.default_rng(7).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    made = [one.weight * one.heat(picture, (32, 32), "cpu") for one in drawer.members]
    assert [one.weight for one in drawer.members] == pytest.approx([1 / 3, 1])
    cells = [heat_maps.of_rows(c, s, picture[None])[0] for c, s in zip((whole, cropped), states, strict=True)]
    assert [one.mean() for one in made] == pytest.approx([cells[0].sum() / 3, cells[1].sum() / 4], rel=0.05)
    assert not made[1][:8].any()
    assert not made[1][:, 24:].any()
    assert made[1][8:24, 8:24].all()
    drawn = np.array(Image.open(drawer.draw("a.png", picture, {"image": picture, "dct2d": picture}, "cpu")))
    assert np.array_equal(drawn, blended(picture, made[0] + made[1]))
    with pytest.raises(StageError, match="none of the fused detectors has heat maps"):
        Drawer(fusion((spectral, frequencies), (spectral, frequencies)), tmp_path)
