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
from golden_files import GoldenDocument
from rule_weights import Arrays, check, keys_digest, load, parameters, torch_entry, values_digest, z
from scipy.special import softmax
from torch import nn

from detectors.decisions import fake_probability, is_fake
from detectors.ensembles import after_softmax, before_softmax, vote
from detectors.networks.input_filters import npr
from detectors.published import PUBLISHED, Published
from detectors.published_preprocessing import CLIP, Preprocessing, standardized, tiles

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
    check(softmax(output.astype(np.float64), axis=1)[0, 0], case["heat_map_p_fake"], slack, "heat map")
    for name, ensemble in (("after_softmax", after_softmax), ("before_softmax", before_softmax)):
        np.testing.assert_allclose(ensemble(torch.from_numpy(output).double())[0], case[name], rtol=0, atol=slack)
    if not single:
        np.testing.assert_allclose(vote(torch.from_numpy(output))[0], case["vote"], rtol=0, atol=1e-12)
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


def variant(golden: GoldenDocument, name: str) -> Preprocessing | None:
    """The preprocessing of a published variant; None: the same with another filter in the network."""
    rule = PUBLISHED[golden["detector"]].preprocessing
    assert rule is not None
    if name.startswith(("no_crop", "no crop")):
        return replace(rule, crop=None)
    if name.startswith("aug_norm=False"):
        return replace(rule, statistics=None)
    if name.startswith("native size"):
        return replace(rule, resize=None, even="dropped" in name)
    if name.startswith("load size = fine size"):
        whole = PUBLISHED[golden["detector"].split("_")[0] + "_full"].preprocessing
        assert whole is not None
        return replace(rule, resize=whole.crop, crop=whole.crop)
    assert name.startswith("filter "), f"{name} is a variant that no option gives"
    return None


@pytest.mark.golden("detectors", "*.json", detector=f"{PICTURES}|{PATCHES}")
def test_options_give_the_published_variants(golden: GoldenDocument) -> None:
    published, images = PUBLISHED[golden["detector"]], golden.beside("images.npz")
    right = {case["image"]: case.get("p_fake") for case in golden["cases"]}
    weights, network = entries(golden), built(golden).float()
    for trap in golden["traps"]:
        if trap["trap"].startswith("WRONG"):
            continue
        rule = variant(golden, trap["trap"])
        if rule is None:
            arguments = {**published.arguments, "input_filter": trap["trap"].removeprefix("filter ")}
            network = load(replace(published, arguments=arguments).build({}), weights)
        x = (rule or published.preprocessing)(images[trap["image"]])[None]
        if "error" in trap:
            with pytest.raises(ValueError, match="need even sides, not"):
                network(torch.from_numpy(x))
            continue
        assert list(x.shape) == trap.get("shape", list(x.shape))
        output = run(network, x)[0]
        if "logit" in trap:
            np.testing.assert_allclose(output.item(), trap["logit"], rtol=0, atol=1e-4, err_msg=trap["trap"])
        else:
            assert list(output.shape[2:]) == trap["map"]
            found = fake_probability(output, published.decision)[0]
            np.testing.assert_allclose(found, trap["p_fake"], rtol=0, atol=1e-4, err_msg=trap["trap"])
            np.testing.assert_allclose(found - right[trap["image"]], trap["differs_by"], rtol=0, atol=1e-4)


@pytest.mark.golden("detectors", "*.json", keys="tiling", whole=True)
def test_large_pictures_are_scored_in_tiles_weighted_by_area(golden: GoldenDocument) -> None:
    images, network = golden.beside("images.npz"), built(golden).float()
    rule = PUBLISHED[golden["detector"]].preprocessing
    limit, side = (int(re.search(rf"{name}=(\d+)", golden["tiling"]["rule"])[1]) for name in ("SIZE", "SLIDE"))  # type: ignore[index]
    for case in golden["tiling"]["cases"]:
        name, height, width = case["image"].split()[0], *case["size_hw"]
        x = rule(images[name][:height, :width])
        parts = list(tiles(x, limit, side))
        assert (len(parts) > 1) == case["tiled"]
        logits = [run(network, part[None])[0].item() * area for part, area in parts]
        found = sum(logits) / sum(area for _, area in parts)
        np.testing.assert_allclose(found, case["logit"], rtol=0, atol=5e-5 * 4)


@pytest.mark.golden("detectors", "*.json", keys="tiling", whole=True)
def test_the_mean_of_the_logits_of_cells_is_the_logit(golden: GoldenDocument) -> None:
    images, network = golden.beside("images.npz"), built(golden)
    rule = PUBLISHED[golden["detector"]].preprocessing
    for case in golden["cases"][:1]:
        maps = network.maps(torch.from_numpy(rule(images[case["image"]])[None]).double())
        cells = torch.nn.functional.conv2d(maps, network.fc.weight[:, :, None, None], network.fc.bias)[0]
        check(cells.numpy(), case["logit_map_dmimagedetection"], 1e-9, "cells")
        assert cells.mean().item() == pytest.approx(case["mean_of_logit_map"], abs=1e-9)


@pytest.mark.golden("detectors", "*.json", keys="filters")
def test_filters_of_tiny_ladeda_are_the_published_ones(golden: GoldenDocument) -> None:
    images, weights = golden.beside("images.npz"), entries(golden)
    published = PUBLISHED[golden["detector"]]
    assert published.preprocessing is not None
    for name, cases in golden["filters"].items():
        network = load(replace(published, arguments={"input_filter": name}).build({}), weights).double()
        for case in cases:
            x = torch.from_numpy(published.preprocessing(images[case["image"]])[None]).double()
            check(network.input_filter(x).numpy(), case["filtered"], 5e-7, name)  # made in single precision
            assert network(x).item() == pytest.approx(case["logit"], abs=1e-9)
    expected = golden["patch_logit_map"]
    network = built(golden)
    maps = network.maps(torch.from_numpy(published.preprocessing(images[expected["image"]])[None]).double())
    cells = torch.nn.functional.conv2d(maps, network.fc.weight[:, :, None, None], network.fc.bias)
    check(cells.numpy(), expected["map"], 1e-9, "cells")


@pytest.mark.golden("detectors", "*.json", keys="filter_check")
def test_the_filter_of_npr_is_the_published_one(golden: GoldenDocument) -> None:
    expected = golden["filter_check"]
    rule = replace(PUBLISHED[golden["detector"]].preprocessing, resize=None, even=True)
    x = rule(golden.beside("images.npz")[expected["image"]])
    check(npr(torch.from_numpy(x[None]).double()).numpy(), expected["tensor"], 1e-6, "filter", absolute=1e-6)


CLIP_INPUTS = {
    "UnivFD": Preprocessing(crop=224, statistics=CLIP),
    "FatFormer": Preprocessing(resize=256, shape="square", crop=224),
    "C2P-CLIP": Preprocessing(resize=224, crop=224, statistics=CLIP),
    "ClipBased": Preprocessing(resize=224, filter="bicubic", crop=224, statistics=CLIP),
    "SAFE": Preprocessing(crop=256, statistics=None),
}


@pytest.mark.golden("detectors", "*.json", keys="clip_preprocessing")
def test_inputs_of_clip_detectors_are_the_published_ones(golden: GoldenDocument) -> None:
    images = golden.beside("images.npz")
    for case in golden["clip_preprocessing"]:
        rule = CLIP_INPUTS[re.split("[:,]", case["variant"])[0]]
        check(rule(images[case["image"]]), case["input"], 1e-6, case["variant"], absolute=1e-6)


@pytest.mark.golden("detectors", "*.json", keys="resized_256_bgr", whole=True)
def test_opencv_resizes_as_published(golden: GoldenDocument) -> None:
    images = golden.beside("images.npz")
    rule = replace(PUBLISHED[golden["detector"]].preprocessing, crop=None)
    for case in golden["resized_256_bgr"]:
        picture = rule.picture(images[case["image"]])
        check(picture, case["values"], 1e-9, "resized", absolute=0)
        assert int(picture.astype(np.int64).sum()) == case["sum"]
