"""StyleGAN checkpoints: names, settings and shapes of three forms, and files that do not fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from golden_files import Golden
from small_stylegan import (
    BINOMIAL,
    ROSINALITY,
    SMALL,
    Array,
    checkpoints,
    discriminator_of,
    generator_of,
    inputs,
    small,
)

from stages.generators import stylegan, stylegan_official
from stages.generators.stylegan_discriminator import Discriminator
from stages.generators.weights import WeightsError
from stages.weights.checkpoints import Contents, NetworkData


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.golden(*ROSINALITY)
def test_the_mean_style_that_a_file_lacks_is_that_of_ten_thousand_latents(golden: Golden) -> None:
    contents = checkpoints(golden.path)["rosinality"]
    converted = stylegan_official.generator(contents)
    state, tensors = np.random.RandomState(0), contents.networks[converted.source].tensors
    x = np.concatenate([state.randn(1024, converted.architecture["z_dim"]) for _ in range(10)])
    x /= np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-8)
    for index in range(converted.architecture["mapping_layers"]):
        weight = tensors[f"style.{2 * index + 1}.linear.weight_orig"].astype(float)
        x = x @ (weight * math.sqrt(2 / weight.shape[1])).T + tensors[f"style.{2 * index + 1}.linear.bias"]
        x = np.where(x > 0, x, 0.2 * x)
    np.testing.assert_allclose(converted.tensors["mapping.w_avg"], x.mean(axis=0), rtol=1e-5, atol=1e-6)


@pytest.mark.golden(*ROSINALITY)
def test_resolutions_that_were_never_trained_are_left_out(golden: Golden) -> None:
    contents = checkpoints(golden.path)["rosinality"]
    network = contents.networks["g_running"]
    converted = stylegan_official.generator(contents)
    levels = len(converted.architecture["features"])
    more = {}
    for name, array in network.tensors.items():  # the last resolution once more, as it is before training
        for start in (f"generator.progression.{levels - 1}.", f"generator.to_rgb.{levels - 1}."):
            if name.startswith(start):
                fresh = ".noise" in name or (name.endswith("bias") and ".adain" not in name)
                more[name.replace(f".{levels - 1}.", f".{levels}.", 1)] = np.zeros_like(array) if fresh else array
    larger = replace(network, tensors={**network.tensors, **more})
    found = stylegan_official.generator(replace(contents, networks={"g_running": larger}))
    assert found.architecture == converted.architecture
    changed = f"generator.to_rgb.{levels}.conv.bias"
    trained = {**larger.tensors, changed: np.ones_like(larger.tensors[changed])}
    assert stylegan_official.trained_levels("golden", trained) == levels + 1


@pytest.mark.golden(*ROSINALITY)
@pytest.mark.parametrize("first", [8, 32])
def test_a_file_may_fuse_from_any_side_on(golden: Golden, first: int) -> None:
    """The same network with more layers in the fused form, which has the mirrored kernel: its images do not change."""
    contents = checkpoints(golden.path)["rosinality"]
    network = contents.networks["g_running"]
    plain = stylegan_official.generator(contents)
    assert plain.architecture["fused"] == "auto"
    tensors: dict[str, Array] = {}
    for name, array in network.tensors.items():
        parts = name.split(".")
        if parts[:2] == ["generator", "progression"] and parts[3] == "conv1" and first <= 4 << int(parts[2]) < 128:
            start = ".".join(parts[:4])
            if parts[-1] == "weight_orig":  # (outputs, inputs, 3, 3), after nearest-neighbor upsampling
                tensors[f"{start}.0.weight"] = 4 * array.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]
            elif parts[-1] == "bias":
                tensors[f"{start}.0.bias"] = array
            else:  # the filter, one place earlier without the upsampling layer
                tensors[f"{start}.1.{parts[-1]}"] = array
        else:
            tensors[name] = array
    changed = replace(contents, networks={"g_running": replace(network, tensors=tensors)})
    found = stylegan_official.generator(changed)
    assert found.architecture == {**plain.architecture, "fused": True if first == 8 else first}
    z = torch.tensor(golden["z"])
    noise = [torch.tensor(golden[f"noise_{index}"]) for index in range(6)]
    with torch.no_grad():
        images, wanted = (generator_of(one)(z, noise=noise) for one in (changed, contents))
    torch.testing.assert_close(images, wanted, atol=1e-4, rtol=1e-3)


def test_a_file_with_gaps_between_its_fused_layers_is_refused() -> None:
    fused = [False, True, False, True]
    with pytest.raises(WeightsError, match=r"upsamples in one step at \[8, 32\] pixels only"):
        stylegan_official.fusion("its network 'g'", fused)


@pytest.mark.golden(*ROSINALITY)
def test_a_file_with_the_usual_filter_has_no_filter_of_its_own(golden: Golden) -> None:
    contents = checkpoints(golden.path)["rosinality"]
    network = contents.networks["g_running"]

    def plain(array: Array) -> Array:
        return np.broadcast_to(BINOMIAL, array.shape).astype(np.float32) if array.shape[1:] == (1, 3, 3) else array

    usual = replace(network, tensors={name: plain(array) for name, array in network.tensors.items()})
    found = stylegan_official.generator(replace(contents, networks={"": usual}))
    assert found.source == ""
    assert not found.architecture["stored_filter"]
    assert not [name for name in found.tensors if name.endswith("filter")]


def tensorflow_file(generator: stylegan.Generator, discriminator: Discriminator) -> Contents:
    """Both networks as the authors' code names and orders its variables."""
    ours = {name: tensor.numpy() for name, tensor in generator.state_dict().items()}
    last = len(generator.synthesis.sides) - 1
    theirs: dict[str, Array] = {"lod": ours["lod"], "synthesis/lod": ours["lod"], "dlatent_avg": ours["mapping.w_avg"]}
    theirs["mapping/LabelConcat/weight"] = ours["mapping.embed.weight"].T
    for index in range(SMALL["mapping_layers"]):
        theirs[f"mapping/Dense{index}/weight"] = ours[f"mapping.fc{index}.weight"].T
        theirs[f"mapping/Dense{index}/bias"] = ours[f"mapping.fc{index}.bias"]
    for index, side in enumerate(generator.synthesis.sides):
        block = f"synthesis.b{side}"
        theirs[f"synthesis/ToRGB_lod{last - index}/weight"] = ours[f"{block}.torgb.weight"].transpose(2, 3, 1, 0)
        theirs[f"synthesis/ToRGB_lod{last - index}/bias"] = ours[f"{block}.torgb.bias"]
        for part, name in enumerate(("Const", "Conv") if side == 4 else ("Conv0_up", "Conv1")):
            layer = f"synthesis/{side}x{side}/{name}"
            if name == "Const":
                theirs[f"{layer}/const"] = ours[f"{block}.const"][None]
            else:
                theirs[f"{layer}/weight"] = ours[f"{block}.conv{part}.weight"].transpose(2, 3, 1, 0)
            theirs[f"{layer}/bias"] = ours[f"{block}.style{part}.bias"]
            theirs[f"{layer}/Noise/weight"] = ours[f"{block}.style{part}.noise_strength"]
            theirs[f"{layer}/StyleMod/weight"] = ours[f"{block}.style{part}.affine.weight"].T
            theirs[f"{layer}/StyleMod/bias"] = ours[f"{block}.style{part}.affine.bias"]
            theirs[f"synthesis/noise{2 * index + part}"] = ours[f"{block}.style{part}.noise_const"][None, None]
    settings = {"resolution": 32, "label_size": 3, "fmap_base": 64, "fmap_max": 12, "num_channels": 3}
    mapping = {"latent_size": 6, "dlatent_size": 5, "mapping_fmaps": 7, "mapping_layers": 3, "truncation_psi": 0.6}
    networks = {
        "Gs": NetworkData("G_style", {**settings, **mapping}, theirs),
        "D": NetworkData("D_basic", {**settings, "mbstd_group_size": 4}, tensorflow_discriminator(discriminator)),
    }
    return Contents("tensorflow pickle", 3, networks)


def tensorflow_discriminator(discriminator: Discriminator) -> dict[str, Array]:
    ours = {name: tensor.numpy() for name, tensor in discriminator.state_dict().items()}
    names = {"b4.conv": "4x4/Conv", "b4.dense": "4x4/Dense0", "b4.out": "4x4/Dense1"}
    for index, side in enumerate(discriminator.sides):
        names[f"b{side}.fromrgb"] = f"FromRGB_lod{index}"
        if side > 4:
            names |= {f"b{side}.conv0": f"{side}x{side}/Conv0", f"b{side}.conv1": f"{side}x{side}/Conv1_down"}
    theirs: dict[str, Array] = {"lod": ours["lod"]}
    for our, their in names.items():
        weight = ours[f"{our}.weight"]
        theirs[f"{their}/weight"] = weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T
        theirs[f"{their}/bias"] = ours[f"{our}.bias"]
    return theirs


def official() -> tuple[stylegan.Generator, Discriminator, Contents]:
    generator, discriminator = small(stylegan.Generator), small(Discriminator)
    return generator, discriminator, tensorflow_file(generator, discriminator)


def test_a_conditional_file_that_is_still_growing_gives_the_same_networks() -> None:
    generator, discriminator, _ = official()
    generator.lod.fill_(1.25)
    discriminator.lod.fill_(1.25)
    contents = tensorflow_file(generator, discriminator)
    converted = stylegan_official.generator(contents)
    assert converted.truncation == {"psi": 0.6, "cutoff": 8}
    z, label = inputs()
    images = generator(z, label)
    assert torch.equal(generator_of(contents)(z, label), images)
    assert torch.equal(discriminator_of(contents)(images, label), discriminator(images, label))


def test_a_discriminator_of_genforce_is_that_of_the_authors_under_other_names() -> None:
    discriminator = small(Discriminator, fmap_max=40)  # so that the fully connected layer is wider than the others
    ours = {name: tensor.numpy() for name, tensor in discriminator.state_dict().items()}
    names = {"b32.conv0": 0, "b32.conv1": 1, "b16.conv0": 2, "b16.conv1": 3, "b8.conv0": 4, "b8.conv1": 5}
    names |= {"b4.conv": 6, "b4.dense": 7, "b4.out": 8}
    theirs = {"lod": ours["lod"]}
    for part in ("weight", "bias"):
        theirs |= {f"layer{number}.{part}": ours[f"{name}.{part}"] for name, number in names.items()}
        theirs |= {f"input{index}.{part}": ours[f"b{32 >> index}.fromrgb.{part}"] for index in range(4)}
    filters = {f"layer{index}.blur.kernel": np.tile(BINOMIAL, (12, 1, 1, 1)) for index in (1, 3, 5)}
    networks = {"discriminator": NetworkData("", {}, {**theirs, **filters})}
    found = discriminator_of(Contents("torch zip", None, networks))
    label = inputs()[1]
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    assert torch.equal(found(images, label), discriminator(images, label))
    wrong = {**theirs, **filters, "layer1.blur.kernel": np.ones((12, 1, 3, 3))}
    with pytest.raises(WeightsError, match=r"filter layer1.blur.kernel of shape \(12, 1, 3, 3\)"):
        stylegan_official.discriminator(Contents("torch zip", None, {"discriminator": NetworkData("", {}, wrong)}))


Change = Callable[[dict[str, Any], dict[str, Any]], None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda settings, tensors: tensors.pop("synthesis/8x8/Conv1/bias"),
            "lacks the tensor synthesis/8x8/Conv1/bias",
        ),
        (lambda settings, tensors: tensors.update(extra=np.zeros(2)), "1 unknown tensors, for example extra"),
        (
            lambda settings, tensors: tensors.update(dlatent_avg=np.zeros(9)),
            r"w_avg' has shape \(9,\), .* needs \(5,\)",
        ),
        (
            lambda settings, tensors: tensors.update({"mapping/Dense0/weight": np.zeros(3)}),
            r"shape \(3,\), which does not",
        ),
        (lambda settings, tensors: tensors.update({"synthesis/noise0": np.zeros((2, 1, 4, 4))}), "which does not fit"),
        (lambda settings, tensors: tensors.update(dlatent_avg=np.full(5, np.nan)), "5 values that are not finite"),
        (lambda settings, tensors: tensors.update(lod=np.float32(3.5)), "state of growing: .* is 0 to 3, not 3.5"),
        (lambda settings, tensors: settings.update(use_noise=False), "use_noise False; only True is supported"),
        (lambda settings, tensors: settings.update(beauty=1), "the setting 'beauty', which is not one of StyleGAN"),
        (lambda settings, tensors: settings.update(resolution=48), "power of two from 8 to 4096, not 48"),
        (lambda settings, tensors: settings.update(resolution="big"), "resolution 'big'; expected something like 1024"),
        (lambda settings, tensors: settings.update(fmap_decay=2**70), "fmap_decay 1180591620717411303424; expected"),
        (lambda settings, tensors: settings.update(fmap_base=math.nan), "fmap_base nan; expected something like"),
        (lambda settings, tensors: settings.update(fused_scale="often"), "'auto', true and false, not 'often'"),
        (lambda settings, tensors: settings.update(mapping_layers=10**9), "1 to 64 layers, not 1000000000"),
        (lambda settings, tensors: settings.update(truncation_psi="low"), "psi 'low' with cutoff 8"),
    ],
)
def test_files_that_our_network_cannot_repeat_are_refused(change: Change, message: str) -> None:
    contents = official()[2]
    network = contents.networks["Gs"]
    settings, tensors = dict(network.settings), dict(network.tensors)
    change(settings, tensors)
    changed = replace(contents, networks={"Gs": replace(network, settings=settings, tensors=tensors)})
    with pytest.raises(WeightsError, match=message):
        stylegan_official.generator(changed)


def test_networks_that_a_file_lacks_are_named() -> None:
    contents = official()[2]
    with pytest.raises(WeightsError, match=r"no StyleGAN generator with raw weights; its networks are 'Gs', 'D'"):
        stylegan_official.generator(contents, "raw")
    assert stylegan_official.discriminator(replace(contents, networks={"Gs": contents.networks["Gs"]})) is None
    other = NetworkData("G_main", {}, {})
    assert stylegan_official.recognize(replace(contents, networks={"Gs": other})) is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"truncation_psi": None}, {"psi": 1.0, "cutoff": None}),
        ({"truncation_cutoff": None}, {"psi": 1.0, "cutoff": None}),
        ({"truncation_cutoff": 0}, {"psi": 1.0, "cutoff": None}),
        ({"truncation_psi": 0.3}, {"psi": 0.3, "cutoff": 8}),
        ({}, {"psi": 0.7, "cutoff": 8}),
    ],
)
def test_truncation_of_the_authors_code_becomes_ours(given: dict[str, Any], expected: dict[str, Any]) -> None:
    contents = official()[2]
    network = contents.networks["Gs"]
    settings = {key: value for key, value in network.settings.items() if key != "truncation_psi"}
    changed = replace(network, settings={**settings, **given})
    assert stylegan_official.generator(replace(contents, networks={"Gs": changed})).truncation == expected
