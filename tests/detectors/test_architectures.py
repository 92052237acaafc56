"""Every architecture as a part of a composed detector: counts, published tensors, fields, rows on their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from detector_examples import MemoryExamples, equal, maps
from network_cases import killed_and_whole, patterned
from rule_weights import parameters
from torch import nn

from detectors import composition, deep
from detectors.choosing import detector_config
from detectors.composed import Composed, Learning, field_of_a_cell, without_values
from detectors.contract import Control
from detectors.networks import NETWORKS
from detectors.networks.layers import Dropout, Linear
from detectors.published import PUBLISHED
from detectors.seeding import seeded
from pipeline.stage import MAPS, PICTURE

SMALL: dict[str, dict[str, Any]] = {
    "ladeda": {"kernels": [3, 3]},
    "gramnet": {"width": 8},
    "xception": {"last_block": 1},
    "resnet": {"depth": 18, "width": 8},
    "ferretnet": {"width": 8, "depths": [1, 1]},
}
"""Settings that make an architecture quick."""


def composed(network: Mapping[str, Any], head: str = "classes", **more: Any) -> Any:
    """The config of a detector on images."""
    return detector_config({
        "family": "deep", "feature": "image", "network": dict(network), "head": {"kind": head},
        "preprocessing": {"scaling": "symmetric"}, "micro_batch": 5, **more,
    })  # fmt: skip


def read(network: Composed, rows: Any) -> np.ndarray[Any, Any]:
    with torch.inference_mode():
        return network(torch.from_numpy(rows)).numpy()


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_of_a_row_depend_on_no_neighbor_and_no_place(name: str) -> None:
    config = composed({"architecture": name, **SMALL.get(name, {})})
    with seeded(0):
        network = Composed(config, (32, 32, 3), PICTURE).eval()
    for module in network.modules():  # outputs that differ between rows by more than rounding
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.fill_(0.5)  # type: ignore[operator, union-attr]
    rows = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
    whole = read(network, rows[:5])
    for start in (1, 2, 4):
        assert read(network, rows[start : start + 5])[: 5 - start].tobytes() == whole[start:].tobytes()
    padded = np.zeros_like(rows[:5])
    padded[3] = rows[2]
    assert read(network, padded)[3].tobytes() == whole[2].tobytes()
    assert len(np.unique(whole.reshape(5, -1)[:, 0])) == 5


def test_the_logarithm_of_a_spectrum_depends_on_no_neighbor() -> None:
    preprocessing = {"crop": {"size": 24}, "spectrum": "log_fourier", "scaling": "percentile"}
    with seeded(0):
        network = Composed(composed({"architecture": "compact"}, preprocessing=preprocessing), (32, 30, 3), PICTURE)
    network.eval()
    rows = np.random.default_rng(0).integers(0, 256, (9, 32, 30, 3), dtype=np.uint8)
    assert read(network, rows[1:6])[2].tobytes() == read(network, rows[3:8])[0].tobytes()
    taken: list[torch.Tensor] = []
    network.network.register_forward_pre_hook(lambda _, given: taken.append(given[0]))
    read(network, rows[:1])
    crop = rows[0, 4:28, 3:27].astype(np.float64) / 255
    expected = np.log(np.abs(np.fft.fft2(crop, axes=(0, 1))) + 1e-3)
    low, high = np.percentile(expected, [5, 95], axis=(0, 1))
    expected = np.clip(2 * ((expected - low) / (high - low) - 0.5), -1, 1)
    np.testing.assert_allclose(taken[0][0].numpy().transpose(1, 2, 0), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "network", "count"),
    [
        ((3, 64, 64), {"architecture": "deep_stem_resnet50"}, 23_635_906),
        ((512, 4, 4), {"architecture": "deep_stem_resnet50"}, 23_929_090),
        ((3, 64, 64), {"architecture": "resnet", "depth": 50}, 23_512_130),
        ((3, 224, 224), {"architecture": "gramnet"}, 11_734_723),
        ((3, 128, 128), {"architecture": "yu_classifier"}, 8_912_258),
        ((3, 256, 256), {"architecture": "yu_classifier"}, 8_915_522),
        ((3, 20, 20), {"architecture": "linear"}, 2 * 1201),
    ],
)
def test_networks_have_the_published_counts(shape: tuple[int, ...], network: dict[str, Any], count: int) -> None:
    config = composed(network, preprocessing={"scaling": "none"}, feature="residual")
    assert parameters(without_values(config, shape, MAPS)) == count


CUT = {f"xception_block{block}": {"architecture": "xception", "last_block": block} for block in (1, 2, 3, 4, 5, 12)} | {
    f"resnet18_layer{stage}": {"architecture": "resnet", "depth": 18, "stages": stage, "patches": True}
    for stage in range(1, 5)
}
WHOLE: dict[str, tuple[dict[str, Any], str]] = {
    "cnndetection": ({"architecture": "resnet", "depth": 50}, "logit"),
    "grip_nodown": ({"architecture": "resnet", "depth": 50, "early_strides": [1, 1]}, "logit"),
    "autogan_fft": ({"architecture": "resnet", "depth": 34}, "classes"),
    "npr": ({"architecture": "npr"}, "logit"),
    "gramnet": ({"architecture": "gramnet"}, "classes"),
    "ferretnet_s": ({"architecture": "ferretnet"}, "logit"),
    "ladeda9": ({"architecture": "ladeda"}, "logit"),
    "tiny_ladeda": ({"architecture": "tiny_ladeda"}, "logit"),
    "mesoinception4": ({"architecture": "mesoinception4"}, "logit"),
    "xception_full": ({"architecture": "xception"}, "classes"),
    "resnet18_full": ({"architecture": "resnet", "depth": 18}, "classes"),
}


@pytest.mark.parametrize("name", [*CUT, *WHOLE])
def test_what_one_trains_has_the_tensors_of_the_published_file(name: str) -> None:
    settings, head = (CUT[name], "patches") if name in CUT else WHOLE[name]
    with torch.device("meta"):
        published = PUBLISHED[name].build({})
    made = without_values(composed(settings, head), (256, 256, 3), PICTURE).network
    shapes, expected = (
        {key: tuple(value.shape) for key, value in one.state_dict().items()} for one in (made, published)
    )
    assert shapes == expected
    strides = [
        [getattr(module, "stride", None) for module in one.modules() if isinstance(module, nn.Conv2d | nn.MaxPool2d)]
        for one in (made, published)
    ]
    assert strides[0] == strides[1]


# Receptive fields, in pixels of the input and of the stored picture (Chai et al. 2020 enlarge 128 to 299 and 224)


@pytest.mark.parametrize(
    ("network", "size", "field", "stride", "first"),
    [
        (CUT["xception_block1"], 299, 19, 4, -6),
        (CUT["xception_block2"], 299, 43, 8, -18),
        (CUT["xception_block5"], 299, 283, 16, -138),
        (CUT["resnet18_layer2"], 224, 99, 8, -49),
    ],
)
def test_a_card_says_what_a_cell_sees(network: dict[str, Any], size: int, field: int, stride: int, first: int) -> None:
    resize = {"resize": {"size": size}, "crop": {"size": size}, "scaling": "symmetric"}
    config = composed(network, "patches", preprocessing=resize)
    found = field_of_a_cell(config, (128, 128, 3), PICTURE)
    assert found is not None
    assert found["input"] == {"size": [field] * 2, "stride": [stride] * 2, "first": [first] * 2}
    assert found["stored"]["size"] == pytest.approx([field * 128 / size] * 2)
    assert found["stored"]["stride"] == pytest.approx([stride * 128 / size] * 2)


@pytest.mark.parametrize("name", NETWORKS)
def test_all_networks_with_maps_have_fields_of_one_size(name: str) -> None:
    config = composed({"architecture": name, **SMALL.get(name, {})})
    found = field_of_a_cell(config, (64, 64, 3), PICTURE)
    assert (found is None) is (name in ("mlp", "linear", "yu_classifier", "gramnet"))
    assert found is None or found["input"]["size"][0] >= 3


# Trainings


@pytest.mark.parametrize(
    ("network", "head"),
    [
        ({"architecture": "resnet", "depth": 18, "width": 8, "stages": 1, "patches": True}, "patches"),
        ({"architecture": "ferretnet", "width": 8, "depths": [1]}, "logit"),  # with dropout
        pytest.param({"architecture": "resnet", "depth": 50, "width": 8}, "classes", marks=pytest.mark.jobs),
    ],
)
def test_a_killed_training_goes_on_to_the_same_weights(network: dict[str, Any], head: str) -> None:
    training = {"epochs": 2, "batch": 8}
    config = composed(network, head, training=training, augmentation=[{"augmentation": "flip"}])
    killed, whole = killed_and_whole(config, patterned(24, 1), patterned(12, 2))
    assert equal(killed, whole)


def test_dropout_draws_from_the_training_alone() -> None:
    config = composed({"architecture": "gramnet", "width": 8}, training={"batch": 4})
    rows = patterned(8, 1)
    learning = Learning(config, rows, rows, Control(seed=3))
    dropouts = [module for module in learning.network.modules() if isinstance(module, Dropout)]
    assert dropouts
    assert all(one.random is learning.random for one in dropouts)
    before = torch.random.get_rng_state()
    dropped = dropouts[0].train()(torch.ones(1000))
    assert torch.equal(before, torch.random.get_rng_state())
    assert set(dropped.tolist()) == {0.0, 2.0}
    assert 400 < int((dropped == 0).sum()) < 600
    assert torch.equal(dropouts[0].eval()(torch.ones(5)), torch.ones(5))
    assert not [one for one in learning.network.modules() if type(one) is nn.Dropout]


def test_a_linear_layer_is_that_of_torch() -> None:
    torch.manual_seed(0)
    layer, x = Linear(70, 9).double(), torch.randn(4, 70, dtype=torch.float64)
    expected = x @ layer.weight.T + layer.bias
    for training in (True, False):
        assert torch.allclose(layer.train(training)(x), expected, rtol=0, atol=1e-12)


def test_penalties_are_sums_over_weights_and_move_them() -> None:
    settings = {"architecture": "linear", "l1": 0.5, "l2": 0.25}
    rows = maps(8, 1, "float32")
    config: Any = detector_config({
        "family": "deep", "feature": "dct2d", "network": settings, "preprocessing": {"scaling": "standardize"},
        "training": {"epochs": 1, "batch": 8, "optimizer": {"method": "sgd", "momentum": 0.0}, "learning_rate": 0.1},
    })  # fmt: skip
    learning = Learning(config, rows, rows, Control())
    weight: Any = learning.network.network.dense.weight  # type: ignore[union-attr]
    before = weight.detach().clone()
    expected = 0.5 * before.abs().sum() + 0.25 * (before**2).sum()
    assert float(learning.penalty().detach()) == pytest.approx(float(expected), rel=1e-5)
    plain = Learning(
        composition.Config.model_validate({**config.model_dump(), "network": {"architecture": "linear"}}),
        rows, rows, Control(),
    )  # fmt: skip
    given = torch.from_numpy(rows.features), torch.from_numpy(rows.labels)
    learning._step(*given)
    plain._step(*given)
    free: Any = plain.network.network.dense.weight  # type: ignore[union-attr]
    pulled = -0.1 * (0.5 * before.sign() + 0.5 * before)
    assert torch.allclose(weight - free, pulled, rtol=0, atol=1e-6)


@pytest.mark.parametrize("architecture", ["mlp", "linear"])
def test_curves_are_read_by_dense_networks_alone(architecture: str) -> None:
    random = np.random.default_rng(0)
    labels = (np.arange(60) % 2).astype(np.uint8)
    curves = random.normal(0, 1, (60, 23)) + 3.0 * labels[:, None] * (np.arange(23) > 18)
    rows = MemoryExamples(curves.astype(np.float32), labels)
    config: Any = detector_config({
        "family": "deep", "feature": "profile", "network": {"architecture": architecture},
        "preprocessing": {"scaling": "standardize"}, "training": {"epochs": 30, "learning_rate": 0.05},
    })  # fmt: skip
    config.check((23,), ("frequency",))
    state = deep.fit(config, rows, rows, Control())
    assert ((deep.score(config, state, rows.features) >= 0.5) == (labels == 1)).mean() > 0.95
    assert state.plain["receptive_field"] is None
    other = detector_config({"family": "deep", "feature": "profile", "network": {"architecture": "compact"}})
    with pytest.raises(ValueError, match="'compact' reads maps, but rows of 'profile' are curves of 23; choose"):
        other.check((23,), ("frequency",))
    resized = detector_config({**config.model_dump(mode="json"), "preprocessing": {"crop": {"size": 4}}})
    with pytest.raises(ValueError, match="curves cannot be resized or cropped; remove 'resize' and 'crop'"):
        resized.check((23,), ("frequency",))


@pytest.mark.parametrize(
    ("network", "shape", "sentence"),
    [
        ("npr", (33, 32, 3), "need even sides, not 33 x 32; drop the last row or column, or resize"),
        ("ladeda", (8, 8, 3), "'ladeda' needs rows of 9 pixels or more, not 8 x 8"),
        ("xception", (6, 9, 3), "Xception needs rows of 7 x 7 or more, not 6 x 9; resize"),
        ("mesoinception4", (31, 40, 3), "MesoInception4 needs rows of 32 x 32 or more, not 31 x 40; resize"),
        ("frank_resnet", (14, 40, 3), "'frank_resnet' needs rows of 15 x 15 or more, not 14 x 40"),
        ("frank_cnn", (3, 8, 3), "'frank_cnn' needs rows of 4 x 4 or more, not 3 x 8"),
        ("yu_classifier", (24, 24, 3), "needs squares whose side is a power of two from 8 on, not 24 x 24; resize"),
    ],
)
def test_rows_that_are_too_small_are_one_sentence(network: str, shape: tuple[int, ...], sentence: str) -> None:
    config = composed({"architecture": network, **({} if network == "ladeda" else SMALL.get(network, {}))})
    with pytest.raises(ValueError, match=sentence):
        without_values(config, shape, PICTURE)


def test_patches_need_a_network_of_cells() -> None:
    with pytest.raises(ValueError, match="the head 'patches' reads logits of cells, but 'xception' gives"):
        composed({"architecture": "xception"}, "patches")


def test_spectra_are_made_of_images() -> None:
    config = composed({"architecture": "compact"}, preprocessing={"spectrum": "log_fourier", "scaling": "percentile"})
    with pytest.raises(ValueError, match="'spectrum' is made of images, but 'image' is of kind residual; remove it"):
        config.check((3, 32, 32), MAPS)
    with pytest.raises(ValueError, match="'spectrum' cannot go with scaling 'unit'; scale by percentile"):
        composed({"architecture": "compact"}, preprocessing={"spectrum": "log_fourier", "scaling": "unit"})
