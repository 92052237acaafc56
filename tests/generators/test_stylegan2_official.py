"""Checkpoints of StyleGAN2 in other forms: made here from our networks by rules of their own, converted, compared.

The rules are those of the public codes (names, layouts, constants); `test_stylegan2` has files that these codes wrote.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from stages.generators import stylegan2
from stages.generators.stylegan2_discriminator import Discriminator
from stages.generators.stylegan2_official import discriminator, generator, recognize
from stages.generators.weights import WeightsError
from stages.weights.checkpoints import Contents, Converted, NetworkData
from stages.weights.filling import fill

Tensors = dict[str, np.ndarray[Any, Any]]
WIDTHS: dict[str, Any] = {"resolution": 16, "channel_base": 128, "channel_max": 12}
SMALL: dict[str, Any] = {"z_dim": 5, "c_dim": 0, "w_dim": 7, **WIDTHS, "mapping_layers": 3, "mapping_features": 6}
FMAPS = {"resolution": 16, "fmap_base": 64, "fmap_max": 12}
TENSORFLOW = {"latent_size": 5, "dlatent_size": 7, **FMAPS, "mapping_layers": 3, "mapping_fmaps": 6}
FILTER = np.outer([1, 3, 3, 1], [1, 3, 3, 1]).astype(np.float32) / 64


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def randomized(network: torch.nn.Module) -> Tensors:
    """Random values for all tensors of a network, also for those that are 0 or 1 at first."""
    random = np.random.RandomState(3)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    tensors = {name: np.float32(random.randn(*shape)).reshape(shape) for name, shape in shapes.items()}
    fill("made here", network, tensors)
    return tensors


def assert_same(found: Converted | None, network: torch.nn.Module, tensors: Tensors) -> None:
    """The tensors of `network`, and its outputs, which also depend on settings that shapes do not show."""
    assert found is not None
    assert found.family == "stylegan2"
    assert found.tensors.keys() == tensors.keys()
    for name, array in tensors.items():
        np.testing.assert_allclose(found.tensors[name], array, atol=1e-6, err_msg=name)
    made = type(network)(**found.architecture)
    fill("converted", made, found.tensors)
    random = torch.Generator().manual_seed(5)
    classes = found.architecture["c_dim"]
    label = torch.rand(8, classes, generator=random) if classes else None
    if isinstance(network, stylegan2.Generator):
        x = torch.randn(8, network.z_dim, generator=random)
        torch.testing.assert_close(made(x, label, psi=0.5), network(x, label, psi=0.5), atol=1e-4, rtol=1e-4)
    else:
        x = torch.randn(8, 3, 16, 16, generator=random)
        torch.testing.assert_close(made(x, label), network(x, label), atol=1e-4, rtol=1e-4)


def kernel(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array.transpose(2, 3, 1, 0)


def parts(tensors: Tensors) -> list[tuple[int, str, str, np.ndarray[Any, Any]]]:
    """Side, layer, value and array of the tensors of blocks."""
    names = {name: re.fullmatch(r"(?:synthesis\.)?b(\d+)\.(\w+)\.(.+)", name) for name in tensors}
    return [(int(match[1]), match[2], match[3], tensors[name]) for name, match in names.items() if match]


def tensorflow_variables(tensors: Tensors) -> Tensors:
    """Of G_main."""
    made: Tensors = {
        "dlatent_avg": tensors["mapping.w_avg"],
        "synthesis/4x4/Const/const": tensors["synthesis.b4.const"][None],
    }
    for name, array in tensors.items():
        if match := re.fullmatch(r"mapping\.([a-z]+)(\d*)\.(weight|bias)", name):
            layer = {"embed": "LabelEmbed", "concat": "LabelConcat", "fc": "Dense"}[match[1]]
            made[f"mapping/{layer}{match[2]}/{match[3]}"] = array.T
    for side, layer, value, array in parts(tensors):
        scope = (
            f"synthesis/{side}x{side}/"
            + {"conv0": "Conv0_up", "conv1": "Conv1", "torgb": "ToRGB", "skip": "Skip"}[layer]
        )
        scope = scope.replace("/4x4/Conv1", "/4x4/Conv")
        if value == "noise_const":
            made[f"synthesis/noise{2 * side.bit_length() - 7 + int(layer == 'conv1')}"] = array[None, None]
        elif value == "weight":
            made[f"{scope}/weight"] = kernel(array)[::-1, ::-1] if layer in ("conv0", "skip") else kernel(array)
        elif value.startswith("affine"):
            made[f"{scope}/mod_weight" if value == "affine.weight" else f"{scope}/mod_bias"] = (array.T, array - 1)[
                value == "affine.bias"
            ]
        else:
            made[f"{scope}/{value}"] = array
    return made


def tensorflow_critic(tensors: Tensors) -> Tensors:
    """Of D_stylegan2 or D_main."""
    names = {
        "fromrgb": "FromRGB",
        "conv0": "Conv0",
        "conv1": "Conv1_down",
        "skip": "Skip",
        "conv": "Conv",
        "fc": "Dense0",
    }
    made = {}
    for side, layer, value, array in parts(tensors):
        scope = "Output" if layer == "out" else f"{side}x{side}/{names[layer]}"
        made[f"{scope}/{value}"] = kernel(array) if array.ndim == 4 else array.T
    for name, array in tensors.items():
        if match := re.fullmatch(r"mapping\.(embed|fc)(\d*)\.(weight|bias)", name):
            made[f"{'LabelEmbed' if match[1] == 'embed' else 'Mapping' + match[2]}/{match[3]}"] = array.T
    return made


def tensorflow(settings: Mapping[str, Any], tensors: Tensors, function: str = "G_main", part: str = "") -> Contents:
    attributes = {"synthesis/class_name": part or "G_synthesis_stylegan2"} if function == "G_main" else {}
    name = "D" if function.startswith("D") else "Gs"
    return Contents("tensorflow pickle", 4, {name: NetworkData(function, settings, tensors, attributes)})


def torch_file(networks: Mapping[str, Tensors], **extra: Any) -> Contents:
    return Contents("torch zip", None, {name: NetworkData("", {}, part) for name, part in networks.items()}, extra)


@pytest.mark.parametrize("network", stylegan2.NETWORKS)
@pytest.mark.parametrize("classes", [0, 3])
def test_variables_of_tensorflow_come_to_their_places(network: str, classes: int) -> None:
    made = stylegan2.Generator(**{**SMALL, "c_dim": classes}, network=network, mapping_labels="concat")
    tensors = randomized(made)
    settings = {**TENSORFLOW, "label_size": classes, "architecture": network, "style_mixing_prob": None}
    found = generator(tensorflow(settings, {"lod": np.asarray(0.0), **tensorflow_variables(tensors)}))
    assert_same(found, made, tensors)
    assert (found.source, found.truncation) == ("Gs", {"psi": 0.5, "cutoff": None})
    critic = Discriminator(**WIDTHS, c_dim=classes, network=network, labels="select", group=4)
    tensors = randomized(critic)
    settings = {**FMAPS, "label_size": classes, "architecture": network}
    assert_same(discriminator(tensorflow(settings, tensorflow_critic(tensors), "D_stylegan2")), critic, tensors)


@pytest.mark.parametrize("classes", [0, 3])
def test_variables_of_the_later_tensorflow_code_come_to_their_places(classes: int) -> None:
    """stylegan2-ada: labels are embedded, mapping layers are as wide as w, the whole batch is compared."""
    settings = {**SMALL, "c_dim": classes, "mapping_features": None, "mapping_embedding": 5}
    made = stylegan2.Generator(**settings, conv_clamp=0.5)
    tensors = randomized(made)
    given = {**TENSORFLOW, "mapping_fmaps": None, "label_size": classes, "conv_clamp": 0.5, "num_fp16_res": 4}
    assert_same(generator(tensorflow(given, tensorflow_variables(tensors), part="G_synthesis")), made, tensors)
    for layers in (0, 2):
        labels: dict[str, Any] = {
            "label_width": 9,
            "mapping_features": 9,
            "mapping_embedding": 9,
            "mapping_layers": layers,
        }
        critic = Discriminator(**WIDTHS, c_dim=classes, **labels, mapping_rate=0.1, group=None, conv_clamp=0.5)
        tensors = randomized(critic)
        given = {**FMAPS, "label_size": classes, "mapping_layers": layers, "mapping_fmaps": 9, "conv_clamp": 0.5}
        assert_same(discriminator(tensorflow(given, tensorflow_critic(tensors), "D_main")), critic, tensors)


@pytest.mark.parametrize(
    "fmaps",
    [
        {"fmap_base": 20, "fmap_max": 64},
        {"fmap_base": 300, "fmap_decay": 1.5, "fmap_max": 40},
        {"fmap_base": 20, "fmap_min": 4, "fmap_max": 8},
    ],
)
def test_feature_maps_follow_the_rule_of_the_tensorflow_code(fmaps: dict[str, Any]) -> None:
    """nf(stage) = clip(int(base / 2^(stage decay)), min, max); the last hidden layer has nf(0)."""
    decay, least = fmaps.get("fmap_decay", 1), fmaps.get("fmap_min", 1)
    rule = [min(max(int(fmaps["fmap_base"] / 2 ** (s * decay)), least), fmaps["fmap_max"]) for s in range(4)]
    made = stylegan2.Generator(**SMALL, features=rule[1:])
    tensors = randomized(made)
    settings = {**TENSORFLOW, **fmaps}
    assert_same(generator(tensorflow(settings, tensorflow_variables(tensors))), made, tensors)
    critic = Discriminator(c_dim=0, resolution=16, features=rule[1:], end_features=rule[0])
    tensors = randomized(critic)
    contents = tensorflow({"resolution": 16, **fmaps}, tensorflow_critic(tensors), "D_stylegan2")
    assert_same(discriminator(contents), critic, tensors)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (0.5, None)),
        ({"truncation_psi": 0.7, "truncation_cutoff": 4}, (0.7, 4)),
        ({"truncation_psi": None}, (1.0, None)),
        ({"truncation_psi": 1, "truncation_cutoff": 4}, (1.0, None)),
        ({"truncation_psi": 0.7, "truncation_cutoff": 0}, (1.0, None)),
    ],
)
def test_the_usual_truncation_is_that_of_the_file(given: dict[str, Any], expected: tuple[float, int | None]) -> None:
    tensors = randomized(stylegan2.Generator(**SMALL))
    found = generator(tensorflow({**TENSORFLOW, **given}, tensorflow_variables(tensors)))
    assert found.truncation == {"psi": expected[0], "cutoff": expected[1]}


@pytest.mark.parametrize("classes", [0, 3])
def test_persistent_modules_have_their_tensors_and_their_settings(classes: int) -> None:
    """The bound of values, the default of which depends on the public code, is what the layers say."""
    made = stylegan2.Generator(**{**SMALL, "c_dim": classes, "mapping_embedding": 4}, network="resnet", conv_clamp=0.3)
    tensors = randomized(made)
    filters = {"synthesis.b8.resample_filter": FILTER, "synthesis.b16.conv0.resample_filter": FILTER}
    top: dict[str, Any] = {"z_dim": 5, "c_dim": classes, "w_dim": 7, "img_resolution": 16, "img_channels": 3}
    top["mapping_kwargs"] = {"num_layers": 3, "layer_features": 6, "embed_features": 4, "activation": "lrelu"}
    widths = {"channel_base": 128, "channel_max": 12, "num_fp16_res": 4}
    clamp = {"synthesis.b4.conv1.conv_clamp": 0.3}
    for settings in (
        {**top, "synthesis_kwargs": {**widths, "block_kwargs": {"architecture": "resnet"}}},  # stylegan2-ada-pytorch
        {**top, **widths, "architecture": "resnet", "fused_modconv_default": "inference_only"},  # stylegan3
    ):
        network = NetworkData("Generator", settings, {**tensors, **filters}, clamp)
        assert_same(generator(Contents("persistence pickle", 6, {"G_ema": network})), made, tensors)
    width: dict[str, Any] = {"mapping_features": 6, "mapping_embedding": 4, "label_width": 5, "mapping_layers": 2}
    critic = Discriminator(**WIDTHS, c_dim=classes, **width, group=2, group_features=3, conv_clamp=0.3)
    tensors = randomized(critic)
    for name in ("z_dim", "w_dim"):
        del top[name]
    settings = {
        **top,
        **widths,
        "cmap_dim": 5,
        "block_kwargs": {"freeze_layers": 0},
        "mapping_kwargs": {"num_layers": 2, "layer_features": 6, "embed_features": 4},
        "epilogue_kwargs": {"mbstd_group_size": 2, "mbstd_num_channels": 3},
    }
    network = NetworkData("Discriminator", settings, tensors, {"b4.conv.conv_clamp": 0.3})
    assert_same(discriminator(Contents("persistence pickle", 6, {"D": network})), critic, tensors)


def genforce_variables(tensors: Tensors) -> Tensors:
    made: Tensors = {
        "truncation.w_avg": tensors["mapping.w_avg"],
        "synthesis.early_layer.const": tensors["synthesis.b4.const"][None],
    }
    made["synthesis.upsample.kernel"] = 4 * FILTER[None, None]
    for name, array in tensors.items():
        if match := re.fullmatch(r"mapping\.fc(\d+)\.(weight|bias)", name):
            made[f"mapping.dense{match[1]}.{match[2]}"] = array
        elif name == "mapping.concat.weight":
            made["mapping.label_weight"] = array.T
    for side, layer, value, array in parts(tensors):
        block = side.bit_length() - 3
        scope = (
            f"synthesis.output{block}" if layer == "torgb" else f"synthesis.layer{2 * block - int(layer == 'conv0')}"
        )
        if value == "weight" and layer == "conv0":
            array = array[:, :, ::-1, ::-1]
        array = array - 1 if value == "affine.bias" else array[None, None] if value == "noise_const" else array
        made[f"{scope}.{value.replace('affine', 'style').replace('noise_const', 'noise')}"] = array
    return made


def genforce_critic(tensors: Tensors) -> Tensors:
    made: Tensors = {}
    for side, layer, value, array in parts(tensors):
        block = (16).bit_length() - side.bit_length()  # counted from the image
        scope = {"fromrgb": f"input{block}", "skip": f"skip_layer{block}", "conv0": f"layer{2 * block}"}.get(layer)
        last = {"conv1": 2 * block + 1, "conv": 4, "fc": 5, "out": 6}
        made[f"{scope or f'layer{last[layer]}'}.{value}"] = array
    return made


@pytest.mark.parametrize("network", ["skip", "orig"])
@pytest.mark.parametrize("classes", [0, 3])
def test_tensors_of_genforce_come_to_their_places(network: str, classes: int) -> None:
    made = stylegan2.Generator(**{**SMALL, "c_dim": classes}, network=network, mapping_labels="concat")
    tensors = randomized(made)
    variables = genforce_variables(tensors)
    found = generator(torch_file({"generator_smooth": variables}))
    assert_same(found, made, tensors)
    assert {key: found.architecture[key] for key in WIDTHS} == {**WIDTHS, "channel_base": 128}
    assert_same(generator(torch_file({"": variables})), made, tensors)
    for kind in stylegan2.NETWORKS:
        critic = Discriminator(**WIDTHS, c_dim=classes, network=kind, labels="select")
        tensors = randomized(critic)
        contents = torch_file({"generator": variables, "discriminator": genforce_critic(tensors)})
        assert_same(discriminator(contents), critic, tensors)
    assert discriminator(torch_file({"generator": variables})) is None


def rosinality_variables(tensors: Tensors) -> Tensors:
    made: Tensors = {"input.input": tensors["synthesis.b4.const"][None]}
    for name, array in tensors.items():
        if match := re.fullmatch(r"mapping\.fc(\d+)\.(weight|bias)", name):
            made[f"style.{int(match[1]) + 1}.{match[2]}"] = array
    values = {"bias": "activate.bias", "noise_strength": "noise.weight"}
    for side, layer, value, array in parts(tensors):
        index = 2 * (side.bit_length() - 4) + int(layer == "conv1")  # -1: the first
        rest = value.replace("affine", "conv.modulation")
        if value == "noise_const":
            made[f"noises.noise_{index + 1 if side > 4 else 0}"] = array[None, None]
            continue
        rest, array = ("conv.weight", array[None]) if value == "weight" else (rest, array)
        if layer == "torgb":
            scope = "to_rgb1" if side == 4 else f"to_rgbs.{side.bit_length() - 4}"
            array = array.reshape(1, 3, 1, 1) if value == "bias" else array
        else:
            scope, rest = "conv1" if side == 4 else f"convs.{index}", values.get(value, rest)
            array = array.reshape(1) if value == "noise_strength" else array
        made[f"{scope}.{rest}"] = array
    return {**made, "convs.0.conv.blur.kernel": 4 * FILTER, "to_rgbs.0.upsample.kernel": 4 * FILTER}


def rosinality() -> tuple[stylegan2.Generator, Tensors, Tensors]:
    made = stylegan2.Generator(**{**SMALL, "z_dim": 7, "mapping_features": None})
    tensors = randomized(made)
    return made, tensors, rosinality_variables(tensors)


def test_tensors_of_rosinality_come_to_their_places() -> None:
    made, tensors, variables = rosinality()
    average = tensors["mapping.w_avg"]
    assert_same(generator(torch_file({"g_ema": variables}, latent_avg=average)), made, tensors)
    assert_same(generator(torch_file({"g_ema": variables}, latent_avg=average[None])), made, tensors)


def test_a_missing_average_style_is_computed() -> None:
    made, _, variables = rosinality()
    found = generator(torch_file({"g_ema": variables}))
    z = torch.randn(20_000, 7, generator=torch.Generator().manual_seed(1))
    w = made.mapping(z)
    error = 6 * w.std(dim=0) * (1 / 20_000 + 1 / 10_000) ** 0.5
    assert (torch.from_numpy(found.tensors["mapping.w_avg"]) - w.mean(dim=0)).abs().le(error).all()
    raw = generator(torch_file({"g": variables, "g_ema": variables}, latent_avg=np.zeros(7, np.float32)), "raw")
    assert np.array_equal(raw.tensors["mapping.w_avg"], found.tensors["mapping.w_avg"])  # the file's is of the average


def test_missing_noise_maps_are_drawn_and_do_not_matter_where_noise_is_given() -> None:
    made, tensors, variables = rosinality()
    without = {name: array for name, array in variables.items() if not name.startswith("noises")}
    found = generator(torch_file({"g_ema": without}, latent_avg=tensors["mapping.w_avg"]))
    again = generator(torch_file({"g_ema": without}, latent_avg=tensors["mapping.w_avg"]))
    network = stylegan2.build(found.architecture)
    fill("converted", network, found.tensors)
    rows = stylegan2.draw(found.architecture, 4, "per-seed")
    batch = {name: torch.from_numpy(array)[None] for name, array in rows.items()}
    torch.testing.assert_close(stylegan2.render(network, batch), stylegan2.render(made, batch))
    for name, array in found.tensors.items():
        assert np.array_equal(array, again.tensors[name])
        if name.endswith("b16.conv0.noise_const"):
            assert 0.8 < array.std() < 1.2


def test_networks_of_other_families_are_not_recognized() -> None:
    assert recognize(tensorflow({}, {}, "G_style")) is None
    assert recognize(tensorflow({}, {}, "G_paper")) is None
    assert recognize(torch_file({"generator_smooth": {"mapping.dense0.weight": np.zeros((2, 2))}})) is None
    assert recognize(Contents("persistence pickle", 6, {"G_ema": NetworkData("G_main", {})})) is None
    with pytest.raises(WeightsError, match="it has no StyleGAN2 generator; it has 'Gs'"):
        generator(tensorflow({}, {}, "G_style"))


def changed(contents: Contents, **changes: Any) -> Contents:
    name, network = next(iter(contents.networks.items()))
    changes = {
        key: {**getattr(network, key), **value} if isinstance(value, dict) else value for key, value in changes.items()
    }
    return replace(contents, networks={name: replace(network, **changes)})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"attributes": {"synthesis/class_name": "G_synthesis_stylegan_revised"}},
            "configurations A to D .* not supported",
        ),
        ({"settings": {"synthesis_func": "G_synthesis_stylegan_revised"}}, "configurations A to D .* not supported"),
        ({"attributes": {"synthesis/class_name": "G_own"}}, "made by 'G_main' with 'G_own'; expected 'G_main' with"),
        ({"settings": {"warp": 2}}, "its generator has the setting 'warp', which is not one of StyleGAN2"),
        ({"settings": {"resample_kernel": None}}, r"has resample_kernel None; only \[1, 3, 3, 1\] is supported"),
        ({"settings": {"nonlinearity": "relu"}}, "has nonlinearity 'relu'; only 'lrelu' is supported"),
        ({"settings": {"resolution": 24}}, "its resolution is 24; expected a power of two from 8 to 4096"),
        ({"settings": {"fmap_base": "wide"}}, "its numbers of feature maps are set by 'wide'"),
        ({"settings": {"fmap_decay": float("nan")}}, "its numbers of feature maps are set by 64, nan"),
        ({"settings": {"truncation_psi": "half"}}, "its truncation is 'half' with cutoff None; expected numbers"),
        ({"settings": {"mapping_layers": "many"}}, "its generator Gs: its architecture .* cannot be built"),
        (
            {"settings": {"fmap_max": 11}},
            r"tensor 'synthesis.b4.const' has shape \(1, 12, 4, 4\), its network needs \(11, 4, 4\)",
        ),
        (
            {"settings": {"architecture": "resnet"}},
            "its generator Gs does not fit its network: it lacks synthesis.b16.skip",
        ),
        (
            {"tensors": {"synthesis/4x4/Extra/weight": np.zeros(2)}},
            "its tensor 'synthesis/4x4/Extra/weight' is not one of",
        ),
        ({"tensors": {"synthesis/32x32/Conv1/bias": np.zeros(2)}}, "it has the unknown synthesis.b32.conv1.bias"),
        ({"tensors": {"synthesis/4x4/Conv1/bias": np.zeros(12)}}, "which it has twice"),
        ({"tensors": {"dlatent_avg": np.full(7, np.nan)}}, "'mapping.w_avg' has 7 values that are not finite"),
        ({"tensors": {"synthesis/8x8/Conv1/weight": np.zeros(3)}}, r"'synthesis.b8.conv1.weight' has shape \(3,\)"),
    ],
)
def test_what_is_not_our_network_is_refused_in_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    contents = tensorflow(TENSORFLOW, tensorflow_variables(randomized(stylegan2.Generator(**SMALL))))
    generator(contents)
    with pytest.raises(WeightsError, match=sentence):
        generator(changed(contents, **changes))


def test_discriminators_of_other_functions_are_refused() -> None:
    for function in ("D_stylegan", "D_own"):
        contents = Contents("tensorflow pickle", 4, {"Gs": NetworkData("G_main", {}), "D": NetworkData(function, {})})
        with pytest.raises(WeightsError, match=f"its discriminator is .*{function}"):
            discriminator(contents)


def test_torch_files_that_are_no_whole_network_are_refused() -> None:
    _, _, variables = rosinality()
    for name in ("style.1.weight", "conv1.activate.bias", "convs.2.activate.bias", "to_rgb1.conv.weight"):
        with pytest.raises(WeightsError, match="lacks"):
            generator(torch_file({"g_ema": {key: array for key, array in variables.items() if key != name}}))
    with pytest.raises(WeightsError, match=r"filter convs.0.conv.blur.kernel is not the one of StyleGAN2"):
        generator(torch_file({"g_ema": {**variables, "convs.0.conv.blur.kernel": np.ones((4, 4)) / 16}}))
    with pytest.raises(WeightsError, match=r"it has no average generator \(network g_ema\); it has 'g'"):
        generator(torch_file({"g": variables}))
    with pytest.raises(ValueError, match="the average or the raw one, not 'best'"):
        generator(torch_file({"g": variables}), "best")
    wrong = Contents("persistence pickle", 6, {"G_ema": NetworkData("Discriminator", {})})
    with pytest.raises(WeightsError, match="its G_ema is of class 'Discriminator'; expected 'Generator'"):
        generator(wrong)
