"""The rule of the set itself, and detectors whose files have several models: GANDCT, Yu et al., MesoInception4."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from golden_files import GoldenDocument
from rule_weights import Arrays, check, keras_entry, load, parameters, torch_entry, z
from scipy.special import softmax

from detectors.decisions import fake_probability
from detectors.networks.gandct import Perceptron, SmallNetwork
from detectors.networks.input_filters import cosine_transform, log_cosine
from detectors.networks.keras_tensors import of_keras
from detectors.networks.meso import MesoInception4
from detectors.networks.yu import ImageClassifier, of_tensorflow
from detectors.normalization import Moments
from detectors.published import PUBLISHED
from detectors.published_preprocessing import HALF, Preprocessing


@pytest.mark.golden("detectors", "*.json", keys="z_check")
def test_the_rule_gives_the_values_of_the_set(golden: GoldenDocument) -> None:
    seed, expected = golden["rule_seed"], golden["z_check"]
    np.testing.assert_allclose(z(seed, expected["name"], expected["shape"]), expected["values"], rtol=1e-12)
    for kind, entry in (("torch", torch_entry), ("keras", keras_entry)):
        for one in golden[kind]:
            value = entry(seed, one["name"], one["shape"])
            np.testing.assert_allclose(value.reshape(-1)[: len(one["first"])], one["first"], rtol=1e-6)
            assert hashlib.sha256(value.tobytes()).hexdigest() == one["sha256_of_bytes"], one["name"]


def pixels(image: Any, mode: str) -> torch.Tensor:
    """(C, H, W) uint8 of a picture in a mode of Pillow."""
    from PIL import Image

    array = np.array(Image.fromarray(image).convert(mode))
    return torch.from_numpy(np.atleast_3d(array).transpose(2, 0, 1).copy())


def channels_last(x: torch.Tensor) -> Any:
    return x.movedim(-3, -1).numpy()


@pytest.mark.golden("detectors", "*.json", keys="preprocess_cases")
def test_cosine_transforms_equal_the_published_ones(golden: GoldenDocument) -> None:
    images = golden.beside("images.npz")
    for case in golden["preprocess_cases"]:
        x = pixels(images[case["image"]], case["mode"])
        check(channels_last(cosine_transform(x)), case["dct"], 1e-9, "dct", absolute=1e-9)
        check(channels_last(log_cosine(x)), case["log"], 1e-6, "log", absolute=1e-6)


def crops(golden: GoldenDocument) -> list[Any]:
    """Logarithms of the crops that the statistics were taken of, (C, h, w) float64; places stand in the rule's text."""
    rule = golden["statistics"]["rule"]
    height, width = map(int, re.search(r"(\d+)x(\d+) RGB crops", rule).groups())  # type: ignore[union-attr]
    corners = [(int(top), int(left)) for top, left in re.findall(r"\((\d+),(\d+)\)", rule)]
    first, second, third = golden.beside("images.npz").values()
    chosen = [(image, corner) for image in (first, second) for corner in corners[:-1]] + [(third, corners[-1])]
    return [log_cosine(pixels(i[top : top + height, left : left + width], "RGB")).numpy() for i, (top, left) in chosen]


@pytest.mark.golden("detectors", "*.json", keys="preprocess_cases")
def test_networks_of_gandct_give_the_published_logits(golden: GoldenDocument) -> None:
    logs, statistics = np.stack(crops(golden)), golden["statistics"]
    moments = Moments()
    for part in (logs[:2], logs[2:]):
        moments.update(part)
    check(moments.mean.transpose(1, 2, 0), statistics["mean"], 1e-9, "mean")
    check(moments.variance.transpose(1, 2, 0), statistics["variance"], 1e-9, "variance")
    rows = (logs - moments.mean) / np.sqrt(moments.variance)
    for row, expected in zip(rows, statistics["normalised"], strict=True):
        check(row.transpose(1, 2, 0), expected, 1e-6, "normalized")
    for name, model in golden["models"].items():
        height, width, channels = model["input_shape"]
        shape, classes = (channels, height, width), model["classes"]
        convolutional = "conv2d/kernel:0" in model["keys"]
        network = SmallNetwork(shape, classes) if convolutional else Perceptron(shape, (), classes)
        assert parameters(network) == model["parameters"]
        seed, prefix = golden["rule_seed"], f"{name}/"
        weights = {key: keras_entry(seed, key, shape, prefix) for key, shape in model["keys"].items()}
        load(network, of_keras(weights)).double()
        logits = network(torch.from_numpy(rows.astype(np.float32)).double()).numpy()
        np.testing.assert_allclose(logits, model["logits"], rtol=0, atol=2e-6, err_msg=name)
        probabilities = softmax(logits, axis=1) if model["classes"] > 1 else 1 / (1 + np.exp(-logits))
        np.testing.assert_allclose(probabilities, model["outputs"], rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.golden("detectors", "*.json", detector="yu_image_classifier")
def test_the_classifier_of_yu_gives_the_published_logits(golden: GoldenDocument) -> None:
    seed = golden["rule_seed"]
    third = list(golden.beside("images.npz").values())[2]
    for name, model in golden["models"].items():
        side = model["resolution"]
        corners = [(int(top), int(left)) for top, left in re.findall(r"\((\d+),(\d+)\)", model["input_rule"])]
        scaled = Preprocessing(statistics=HALF)
        x = np.stack([scaled(third[top : top + side, left : left + side]) for top, left in corners])
        check(x, model["input"], 1e-6, "input", absolute=1e-6)
        network = ImageClassifier(side, model["label_size"])
        assert parameters(network) == model["parameters"]
        weights: Arrays = {}
        for key, shape in model["keys"].items():
            drawn = z(seed, model["name_prefix_for_z"] + key, shape)
            weights[key] = np.asarray(0.1 * drawn if key.endswith("bias") else drawn, np.float32)
        load(network, of_tensorflow(weights))
        logits = network(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(logits, model["logits"], rtol=0, atol=5e-6, err_msg=name)
        np.testing.assert_allclose(
            softmax(logits.astype(float), axis=1), model["softmax"], rtol=0, atol=5e-6, err_msg=name
        )


@pytest.mark.golden("detectors", "*.json", detector="mesoinception4")
def test_mesoinception_gives_the_published_maps_and_logits(golden: GoldenDocument) -> None:
    published, images = PUBLISHED["mesoinception4"], golden.beside("images.npz")
    weights = {key: keras_entry(golden["rule_seed"], key, shape) for key, shape in golden["keys"].items()}
    network = load(MesoInception4(), of_keras(weights)).double()
    assert parameters(network) == golden["trainable_parameters"]
    assert published.preprocessing is not None
    maps: dict[str, Any] = {}
    for name, module in network.named_children():
        module.register_forward_hook(lambda _m, _i, output, name=name: maps.__setitem__(name, output.numpy()))
    for case in golden["cases"]:
        rule = replace(published.preprocessing, filter=case["resize"].split()[0])
        x = rule(images[case["image"]])
        check(x.transpose(1, 2, 0), case["input_hwc"], 1e-6, "input", absolute=1e-6)
        output = network(torch.from_numpy(x[None]).double()).numpy()
        for name, summary in case["maps_hwc"].items():
            check(maps[name][0].transpose(1, 2, 0), summary, 1e-9, name)
        np.testing.assert_allclose(output[0], [case["logit"]], rtol=0, atol=1e-9)
        found = fake_probability(output, published.decision)
        np.testing.assert_allclose(found, [case["p_fake_if_class1_real"]], rtol=0, atol=1e-9)
    for trap in golden["traps"]:
        assert trap["trap"].startswith("WRONG")
