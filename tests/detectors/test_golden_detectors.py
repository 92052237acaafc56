"""Published detectors from the picture to the logit, against runs of the authors' programs with weights by rule.

Files are told apart by their key `detector`; sizes, pictures and weights come from them alone.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import GoldenDocument
from rule_weights import Arrays, check, keys_digest, load, parameters, torch_entry, values_digest, z
from torch import nn

from detectors.ensembles import after_softmax, before_softmax, softmax, vote
from detectors.published import PUBLISHED, Published, fake_probability, is_fake
from detectors.published_preprocessing import Preprocessing, standardized

PICTURES = "cnndetection|dire_classifier|npr|ladeda9|tiny_ladeda|ferretnet_s|grip_nodown|gramnet(_aigcdetect)?"
PATCHES = r"xception_block\d+|resnet18_layer\d"
OTHERS = "xception_full|resnet18_full|autogan_fft|fredect_aigcdetect"
FEATURES = r"he_\w+|univfd_head|rine_\w+"


def entries(golden: GoldenDocument) -> Arrays:
    made = {name: torch_entry(golden["rule_seed"], name, shape) for name, shape in golden["keys"].items()}
    if "rule_filled_values_sha256" in golden:
        assert values_digest(made) == golden["rule_filled_values_sha256"]
    return made


def built(golden: GoldenDocument) -> nn.Module:
    """The network of a file in double precision, after its keys, shapes and counts were compared."""
    made = PUBLISHED[golden["detector"]].build({name: tuple(shape) for name, shape in golden["keys"].items()})
    assert {name: list(value.shape) for name, value in made.state_dict().items()} == golden["keys"]
    assert parameters(made) == golden["parameters"]
    assert len(made.state_dict()) == golden["state_dict_entries"]
    assert keys_digest(made) == golden["state_dict_keys_sha256"]
    return load(made, entries(golden)).double()


def run(network: nn.Module, x: Any, names: list[str] = []) -> tuple[Any, dict[str, Any]]:  # noqa: B006
    """Output and the outputs of named modules, as arrays, in the network's precision."""
    maps: dict[str, Any] = {}
    hooks = [
        network.get_submodule(name).register_forward_hook(
            lambda _module, _input, output, name=name: maps.__setitem__(name, output.detach().clone().numpy())
        )
        for name in names
    ]
    precision = next(network.parameters()).dtype
    output = network(torch.from_numpy(np.ascontiguousarray(x)).to(precision)).numpy()
    for hook in hooks:
        hook.remove()
    return output, maps


def check_output(output: Any, case: dict[str, Any], published: Published, single: bool) -> None:
    """Logits (or logarithms of probabilities), probability and decision of one precision."""
    expected = np.array(case.get("logits", case.get("log_probs")))
    tolerance = (5e-5 if single else 1e-9) * max(1, np.abs(expected).max())
    np.testing.assert_allclose(output.reshape(expected.shape), expected, rtol=0, atol=tolerance)
    if "p_fake" not in case:
        return
    found = fake_probability(output, published.decision)
    # in single precision, as far as the logit is told apart
    slack = max(2e-5, tolerance) if single else 1e-9
    np.testing.assert_allclose(found, np.atleast_1d(case["p_fake"]), rtol=0, atol=slack)
    assert is_fake(output, published.decision).tolist() == np.atleast_1d(case["is_fake"]).tolist()


def preprocessing(golden: GoldenDocument, case: dict[str, Any]) -> Preprocessing:
    """The published one, with what a case says of it."""
    found = PUBLISHED[golden["detector"]].preprocessing
    assert found is not None
    if "mode" in case:
        found = replace(found, band=(None, "low", "mid", "high")[case["mode"]])
    if opencv := re.fullmatch(r"cv2\.resize to (\d+)x\1", case.get("preprocess", "")):
        found = replace(found, resize=int(opencv[1]), shape="square", library="opencv")
    if smaller := re.search(r"(\d+) in these fixtures, loadSize (\d+)", golden["preprocessing"]):
        found = replace(found, crop=int(smaller[1]), resize=int(smaller[2]))
    return found


def prepared(golden: GoldenDocument, case: dict[str, Any], image: Any) -> Any:
    """The network's input (C, h, w) of a picture."""
    rule = preprocessing(golden, case)
    if offsets := re.search(r"offsets y=(\d+), x=(\d+)", case.get("crop", "")):
        top, left = map(int, offsets.groups())
        picture = replace(rule, crop=None).picture(image)
        side = rule.crop or 0
        plain = replace(rule, resize=None, crop=None, order="rgb")
        return plain(picture[top : top + side, left : left + side])
    x = rule(image)
    if "statistics_rule" in case:
        mean = 1.5 * z(golden["rule_seed"], "input:dct_mean", x.shape)
        variance = 1 + z(golden["rule_seed"], "input:dct_var", x.shape) ** 2
        x = standardized(x, np.float32(mean), np.float32(variance))
    return x


@pytest.mark.golden("detectors", "*.json", detector=f"{PICTURES}|{OTHERS}")
def test_pictures_give_the_published_maps_and_logits(golden: GoldenDocument) -> None:
    published, images, network = PUBLISHED[golden["detector"]], golden.beside("images.npz"), built(golden)
    outputs = []
    for case in golden["cases"]:
        x = prepared(golden, case, images[case["image"]])[None]
        tolerance = 2e-6 if golden["detector"] == "autogan_fft" else 1e-6
        check(x, case["input"], tolerance, "input", None if golden["detector"].startswith("fredect") else tolerance)
        output, maps = run(network, x, list(case.get("maps", {})))
        for name, summary in case.get("maps", {}).items():
            check(maps[name], summary, 1e-9, name)
        check_output(output, case, published, single=False)
        outputs.append((x, case))
    network.float()
    for x, case in outputs[:: max(1, len(outputs) // 3)]:
        check_output(run(network, x)[0], case, published, single=True)


@pytest.mark.golden("detectors", "*.json", detector=PATCHES)
def test_patches_give_the_published_maps_and_ensembles(golden: GoldenDocument) -> None:
    published, images, network = PUBLISHED[golden["detector"]], golden.beside("images.npz"), built(golden)
    inputs = []
    for case in golden["cases"]:
        x = prepared(golden, case, images[case["image"]])[None]
        check(x, case["input"], 1e-6, "input", absolute=1e-6)
        output, maps = run(network, x, list(case["maps"]))
        for name, summary in case["maps"].items():
            check(maps[name], summary, 1e-9, name)
        check_cells(output, case, published, single=False)
        inputs.append((x, case))
    network.float()
    for x, case in inputs[:1]:
        check_cells(run(network, x)[0], case, published, single=True)


def check_cells(output: Any, case: dict[str, Any], published: Published, single: bool) -> None:
    """Logits of each cell, and what becomes of them."""
    for place in (0, 1):
        check(output[0, place], case[f"logit_map_class{place}"], 5e-5 if single else 1e-9, f"class {place}")
    slack = 2e-5 if single else 1e-9
    check(softmax(output.astype(np.float64))[0, 0], case["heat_map_p_fake"], slack, "heat map")
    for name, ensemble in (("after_softmax", after_softmax), ("before_softmax", before_softmax)):
        np.testing.assert_allclose(ensemble(output.astype(np.float64))[0], case[name], rtol=0, atol=slack)
    if not single:
        np.testing.assert_allclose(vote(output)[0], case["vote"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(fake_probability(output, published.decision), case["p_fake"], rtol=0, atol=slack)
    assert is_fake(output, published.decision).tolist() == [case["is_fake"]]


@pytest.mark.golden("detectors", "*.json", detector=FEATURES)
def test_features_give_the_published_maps_and_logits(golden: GoldenDocument) -> None:
    published, network = PUBLISHED[golden["detector"]], built(golden)
    inputs = []
    for case in golden["cases"]:
        x = by_rule(golden["rule_seed"], case["input_rule"])
        if "input" in case:
            check(x, case["input"], 0, "input", absolute=0)
        output, maps = run(network, x, list(case.get("maps", {})))
        for name, summary in case.get("maps", {}).items():
            check(maps[name], summary, 1e-9, name)
        check_output(output, case, published, single=False)
        if "embedding_z" in case:
            check(network.embedding(torch.from_numpy(x).double()), case["embedding_z"], 1e-9, "embedding")
        if "cam_fake_class" in case:
            cam = np.einsum("c,chw->hw", network.fc.weight[0].numpy(), network.maps(torch.from_numpy(x).double())[0])
            check(cam, case["cam_fake_class"], 1e-9, "class activation map")
        inputs.append((x, case))
    network.float()
    for x, case in inputs[:1]:
        check_output(run(network, x)[0], case, published, single=True)


def by_rule(seed: str, rule: str) -> np.ndarray[Any, Any]:
    """Features that a file names as: float32(factor * z("name", [shape])), with or without absolute values."""
    found = re.search(r'z\("([^"]+)", \[([\d, ]+)\]\)', rule)
    assert found
    values = z(seed, found[1], [int(side) for side in found[2].split(",")])
    if "abs(" in rule:
        values = abs(values)
    if factor := re.search(r"float32\(([\d.]+)\*|\* ([\d.]+)\)$", rule):
        values = values * float(factor[1] or factor[2])
    if "tokens" in rule:
        values = values.transpose(1, 0, 2)
    return np.ascontiguousarray(values.astype(np.float32))
