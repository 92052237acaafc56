"""Logistic curves, joined scores and heat maps against closed forms and the authors' programs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from golden_files import GoldenDocument
from rule_weights import check, load, torch_entry
from scipy.special import softmax

from detectors.calibration import platt, temperature
from detectors.fusion import mean_probability, probability_of_mean_logit
from detectors.heat_maps import class_activation, enlarged, positive, scaled
from detectors.published import PUBLISHED


@pytest.mark.golden("detectors", "*.json", keys="calibration")
def test_curves_are_those_of_scipy_and_scikit_learn(golden: GoldenDocument) -> None:
    expected = golden["calibration"]
    scores, labels = np.array(expected["scores"]), np.array(expected["labels"], np.uint8)
    plain = platt(scores, labels, balanced=False, softened=False)
    np.testing.assert_allclose(plain, [expected["platt"]["a"], expected["platt"]["b"]], rtol=0, atol=1e-6)
    logits = plain[0] * scores + plain[1]
    loss = (np.logaddexp(0, logits) - labels * logits).sum()
    assert loss == pytest.approx(expected["platt"]["nll"], abs=1e-6)
    found = platt(scores, labels, balanced=False)
    smooth = expected["platt_smoothed"]
    np.testing.assert_allclose(found, [smooth["a"], smooth["b"]], rtol=0, atol=1e-6)
    assert temperature(scores, labels) == pytest.approx(expected["temperature"]["T"], abs=1e-6)


def test_curves_of_two_values_have_closed_forms() -> None:
    scores = np.array([0.0] * 10 + [1.0] * 8)
    labels = np.array([1] * 2 + [0] * 8 + [1] * 7 + [0], np.uint8)
    slope, intercept = platt(scores, labels, balanced=False, softened=False)
    assert intercept == pytest.approx(math.log(2 / 8), abs=1e-6)
    assert slope + intercept == pytest.approx(math.log(7), abs=1e-6)
    signs = np.array([3.0] * 12 + [-3.0] * 4)
    fakes = np.array([1] * 9 + [0] * 3 + [1] + [0] * 3, np.uint8)
    assert temperature(signs, fakes) == pytest.approx(3 / math.log(3), abs=1e-9)


def test_classes_that_do_not_overlap_have_no_curve() -> None:
    scores, labels = np.array([-2.0, -1.0, 1.0, 2.0]), np.array([0, 0, 1, 1], np.uint8)
    with pytest.raises(ValueError, match="do not overlap, so no finite slope is best; soften the targets"):
        platt(scores, labels, softened=False)
    with pytest.raises(ValueError, match="the sign of their labels always; no temperature is best"):
        temperature(scores, labels)
    with pytest.raises(ValueError, match="the sign of their labels not even on the mean"):
        temperature(-scores, labels)


@pytest.mark.golden("detectors", "*.json", keys="fusion")
def test_scores_of_the_same_rows_are_joined(golden: GoldenDocument) -> None:
    expected = golden["fusion"]
    first, second = dict(expected["first"]), dict(expected["second"])
    logits = np.array([[member[row] for row in first] for member in (first, second)])
    probabilities = np.stack([softmax(one, axis=1)[:, 0] for one in logits])
    joined = mean_probability(probabilities)
    np.testing.assert_allclose(joined, [expected["mean_probability_fake"][row] for row in first], rtol=0, atol=1e-9)
    assert (joined > 0.5).tolist() == [expected["is_fake"][row] for row in first]
    found = probability_of_mean_logit(logits[..., 0] - logits[..., 1])
    np.testing.assert_allclose(
        found, [expected["softmax_of_mean_logits_fake"][row] for row in first], rtol=0, atol=1e-9
    )


def test_weights_of_members_are_shares() -> None:
    probabilities = np.array([[0.2, 0.4], [0.6, 0.8]])
    assert mean_probability(probabilities, (0.25, 0.75)).tolist() == pytest.approx([0.5, 0.7])
    for weights in ((0.5,), (0.5, 0.6), (-0.5, 1.5)):
        with pytest.raises(ValueError, match="expected 2 numbers of at least 0 that sum to 1"):
            mean_probability(probabilities, weights)


def network_of(golden: GoldenDocument, name: str) -> torch.nn.Module:
    network = PUBLISHED[name].build({})
    others = (GoldenDocument(path) for path in sorted(golden.path.parent.glob("*.json")))
    seed = next(other["rule_seed"] for other in others if "rule_seed" in other.content)
    entries = {key: torch_entry(seed, key, tuple(value.shape)) for key, value in network.state_dict().items()}
    return load(network, entries).double()


@pytest.mark.golden("detectors", "*.json", keys="patch_heat_map")
def test_heat_maps_of_cells_are_the_published_ones(golden: GoldenDocument) -> None:
    images = golden.beside("images.npz")
    for case in golden["patch_heat_map"]["cases"]:
        rule = PUBLISHED[case["detector"]].preprocessing
        assert rule is not None
        x = torch.from_numpy(rule(images[case["image"]])[None]).double()
        logits = network_of(golden, case["detector"])(x).numpy()
        fake = torch.from_numpy(softmax(logits, axis=1)[:, 0])
        check(fake[0], case["p_fake"], 1e-9, "fake")
        check(scaled(fake)[0], case["min_max"], 1e-9, "scaled")
        check(enlarged(scaled(fake), (case["side"], case["side"]))[0], case["upsampled"], 1e-9, "enlarged")
        assert np.unravel_index(fake[0].argmax().item(), fake[0].shape) == tuple(case["argmax"])


@pytest.mark.golden("detectors", "*.json", keys="ferretnet_gradcam")
def test_class_activation_of_ferretnet_is_its_gradient_map(golden: GoldenDocument) -> None:
    images, network = golden.beside("images.npz"), network_of(golden, "ferretnet_s")
    rule = PUBLISHED["ferretnet_s"].preprocessing
    assert rule is not None
    for case in golden["ferretnet_gradcam"]["cases"]:
        x = torch.from_numpy(replace(rule, crop=None)(images[case["image"]])[None]).double()
        maps = network.maps(x)
        found = class_activation(maps, network.logit[1].weight[0])
        check(found[0], case["map_before_relu"], 1e-9, "map")
        check(positive(found)[0], case["cam"], 1e-9, "scaled")
        assert network(x).item() == pytest.approx(case["logit"], abs=1e-9)


@pytest.mark.golden("detectors", "*.json", keys="class_activation_map", whole=True)
def test_class_activation_sums_to_the_logit(golden: GoldenDocument) -> None:
    expected = golden["class_activation_map"]
    network = network_of(golden, expected["detector"])
    for case in expected["cases"]:
        x = PUBLISHED[expected["detector"]].preprocessing(golden.beside("images.npz")[case["image"]])
        found = class_activation(network.maps(torch.from_numpy(x[None]).double()), network.fc.weight[0])
        assert found.mean().item() + case["bias"] == pytest.approx(case["logit"], abs=1e-7)
        np.testing.assert_allclose(found[0], case["cam_7x7"], rtol=0, atol=1e-8)
        check(scaled(found)[0], case["min_max"], 1e-9, "scaled")
        check(enlarged(scaled(found), x.shape[1:])[0], case["upsampled_224"], 1e-9, "enlarged")


def test_nothing_positive_is_a_map_of_zeros() -> None:
    assert positive(torch.full((1, 2, 3), -1.0)).tolist() == torch.zeros(1, 2, 3).tolist()
    assert scaled(torch.full((1, 2, 3), 0.7)).tolist() == torch.zeros(1, 2, 3).tolist()
