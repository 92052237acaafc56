"""StyleGAN2 against outputs of its authors' code, and against closed forms.

Golden files are checkpoints of any form with an .npz of outputs beside them; the outputs of a file "genforce_NAME" may
be those of NAME, the TensorFlow file with the same numbers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from golden_files import Golden

from stages.generators import stylegan2
from stages.generators.layers import parameters
from stages.generators.stylegan2_discriminator import Discriminator
from stages.generators.stylegan2_official import discriminator, generator, recognize
from stages.generators.weights import WeightsError
from stages.weights.checkpoints import Contents, Converted, read_contents
from stages.weights.filling import fill

CHECKPOINTS = ("generators", "*stylegan2*.p*")
ADA = ("generators", "stylegan2ada*.p*")
SMALL: dict[str, Any] = {"z_dim": 5, "c_dim": 0, "w_dim": 7, "resolution": 16, "channel_base": 128, "channel_max": 12}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def generator_of(converted: Converted) -> stylegan2.Generator:
    network = stylegan2.build(converted.architecture)
    fill("golden", network, converted.tensors)
    return network


def discriminator_of(converted: Converted) -> Discriminator:
    network = Discriminator(**converted.architecture)
    fill("golden", network, converted.tensors)
    return network


@dataclass
class Case:
    """A checkpoint of the golden set, its average generator, and the outputs of its authors' code."""

    contents: Contents
    converted: Converted
    network: stylegan2.Generator
    golden: Golden

    def inputs(self) -> tuple[torch.Tensor, torch.Tensor]:
        z = torch.tensor(self.golden["z"]).float()
        return z, torch.tensor(self.golden["labels"]) if "labels" in self.golden.keys() else torch.zeros(len(z), 0)  # noqa: SIM118

    def truncation(self, psi: str | None, cutoff: str | None) -> dict[str, Any]:
        """Of the words in a key: a number, "default" or nothing."""
        usual = self.converted.truncation
        cut = usual["cutoff"] if cutoff == "default" else None if cutoff is None else int(cutoff)
        return {"psi": usual["psi"] if psi in (None, "default") else float(psi), "cutoff": cut}


@lru_cache(maxsize=4)
def read(path: Path) -> Case:
    outputs = path.with_suffix(".npz")
    if not outputs.exists():
        outputs = outputs.with_name(outputs.name.removeprefix("genforce_"))
    contents = read_contents(path)
    converted = generator(contents)
    return Case(contents, converted, generator_of(converted), Golden(outputs))


@pytest.fixture
def case(golden_path: Path | None, request: pytest.FixtureRequest) -> Case:
    if golden_path is None:
        pytest.fail(f"no checkpoint of StyleGAN2 in {request.config.getoption('--golden')}")
    return read(golden_path)


def assert_close(found: torch.Tensor, expected: np.ndarray[Any, Any]) -> None:
    difference = np.abs(found.detach().numpy() - expected)
    assert difference.max() <= 1e-4
    assert difference.mean() <= 1e-5


def assert_bytes_close(found: torch.Tensor, expected: np.ndarray[Any, Any]) -> None:
    difference = np.abs(found.numpy().astype(int) - expected)
    assert difference.max() <= 1
    assert (difference == 0).mean() >= 0.995


@pytest.mark.golden(*CHECKPOINTS)
def test_mapping_gives_the_official_w(case: Case) -> None:
    if "w" in case.golden:
        with torch.no_grad():
            assert_close(case.network.mapping(*case.inputs()), case.golden["w"])


@pytest.mark.golden(*CHECKPOINTS)
def test_images_are_the_official_ones_for_each_truncation_and_noise_mode(case: Case) -> None:
    compared = 0
    for key in case.golden.keys():  # noqa: SIM118
        match = re.fullmatch(r"image(?:_psi_?([\dp.]+|default)(?:_cut_(\d+|default))?(?:_(const|none))?)?", key)
        if match is None or (match[1] == "default" and recognize(case.contents) == "genforce"):  # it has no default
            continue
        truncation = case.truncation((match[1] or "1").replace("p", "."), match[2])
        with torch.no_grad():
            assert_close(case.network(*case.inputs(), **truncation, noise=match[3] or "const"), case.golden[key])
        compared += 1
    assert compared


@pytest.mark.golden(*CHECKPOINTS)
def test_bytes_follow_the_official_rule(case: Case) -> None:
    for key in case.golden.keys():  # noqa: SIM118
        if key.startswith("uint8_of_"):
            found = stylegan2.to_uint8(torch.tensor(case.golden[key.removeprefix("uint8_of_")])).numpy()
            assert np.array_equal(found.transpose(0, 3, 1, 2), case.golden[key])


@pytest.mark.golden(*CHECKPOINTS)
def test_a_seed_gives_the_image_of_the_official_sampler(case: Case) -> None:
    """TensorFlow's redraws all noise for each seed, after z; the torch version uses the stored noise."""
    pattern = r"seed(\d+)(?:_class(\d+))?_(?:redrawn_noise_(image|uint8)|psi([\d.]+)_const_uint8_nhwc)"
    for key in case.golden.keys():  # noqa: SIM118
        match = re.fullmatch(pattern, key)
        if match is None or (match[3] and recognize(case.contents) == "genforce"):
            continue
        noise: Literal["per-seed", "const"] = "per-seed" if match[3] else "const"
        rows = stylegan2.draw(case.converted.architecture, int(match[1]), noise)
        batch = {name: torch.from_numpy(array)[None] for name, array in rows.items()}
        batch["label"] = torch.zeros(1, case.network.c_dim)
        if match[2]:
            batch["label"][0, int(match[2])] = 1
        truncation = case.truncation(match[4], "default" if match[3] else None)
        image = stylegan2.render(case.network, batch, **truncation, noise=noise)
        if match[3] == "image":
            assert_close(image, case.golden[key])
        else:
            expected = case.golden[key].transpose(0, 2, 3, 1) if match[3] else case.golden[key]
            assert_bytes_close(stylegan2.to_uint8(image), expected)


@pytest.mark.golden(*CHECKPOINTS)
def test_scores_and_gradient_norms_are_the_official_ones(case: Case) -> None:
    converted = discriminator(case.contents)
    assert (converted is None) == (not {"D", "d", "discriminator"} & case.contents.networks.keys())
    if converted is None:
        return
    network, outputs = discriminator_of(converted), case.golden
    images = outputs["d_reals"] if "d_reals" in outputs.keys() else outputs["d_in"]  # noqa: SIM118
    reals = torch.tensor(images).requires_grad_(True)
    label = torch.tensor(outputs["d_labels"]) if network.c_dim else None
    scores = network(reals, label)
    expected = outputs["d_score"] if "d_score" in outputs.keys() else outputs["d_out"]  # noqa: SIM118
    np.testing.assert_allclose(scores.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    if "r1_sqnorm" in outputs:
        (gradient,) = torch.autograd.grad(scores.sum(), reals)
        norms = gradient.square().sum(dim=(1, 2, 3)).numpy()
        np.testing.assert_allclose(norms, outputs["r1_sqnorm"], rtol=1e-4, atol=1e-5)


@pytest.mark.golden(*CHECKPOINTS)
def test_the_raw_generator_comes_from_another_network_of_the_same_shape(case: Case) -> None:
    if not {"G", "g", "generator"} & case.contents.networks.keys():
        with pytest.raises(WeightsError, match=r"it has no raw generator \(network \w+\); it has "):
            generator(case.contents, "raw")
        return
    raw = generator(case.contents, "raw")
    assert raw.architecture == case.converted.architecture
    assert raw.source in {"G", "g", "generator"}
    assert case.converted.source not in {"G", "g", "generator"}


@pytest.mark.golden(*ADA)
def test_settings_of_the_later_torch_code_stand_flat(case: Case) -> None:
    """stylegan3's StyleGAN2 takes the arguments of its synthesis network as its own."""
    network = case.contents.networks["G_ema"]
    settings = dict(network.settings)
    synthesis = dict(settings.pop("synthesis_kwargs"))
    synthesis |= synthesis.pop("block_kwargs", {})
    flat = replace(network, settings={**settings, **synthesis, "fused_modconv_default": "inference_only"})
    found = generator(replace(case.contents, networks={**case.contents.networks, "G_ema": flat}))
    assert found.architecture == case.converted.architecture
    assert found.tensors.keys() == case.converted.tensors.keys()


@pytest.mark.parametrize(
    ("settings", "generator_count", "discriminator_count"),
    [
        ({"resolution": 1024}, 30_370_060, 29_012_513),  # config f of the paper
        ({"resolution": 1024, "channel_base": 16384}, 24_900_764, 24_038_161),  # config e
        ({"resolution": 256}, 30_034_338, None),
    ],
)
def test_published_sizes_have_the_published_number_of_parameters(
    settings: dict[str, Any], generator_count: int, discriminator_count: int | None
) -> None:
    with torch.device("meta"):
        generator = stylegan2.Generator(z_dim=512, c_dim=0, w_dim=512, **settings)
        discriminator = Discriminator(c_dim=0, **settings)
    assert parameters(generator) == generator_count
    assert discriminator_count in (None, parameters(discriminator))


def test_modulated_convolution_is_that_of_scaled_and_normalized_weights() -> None:
    random = torch.Generator().manual_seed(3)
    x, weight = torch.randn(2, 3, 6, 6, generator=random), torch.randn(4, 3, 3, 3, generator=random)
    style = torch.randn(2, 3, generator=random)
    found = stylegan2.modulated_convolution(x, weight, style, up=False, demodulate=True)
    for image in range(2):  # equations 1 and 3, one image at a time
        scaled = weight * style[image][None, :, None, None]
        scaled = scaled / (scaled.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        expected = torch.nn.functional.conv2d(x[image : image + 1], scaled, padding=1)
        torch.testing.assert_close(found[image : image + 1], expected, atol=1e-5, rtol=1e-5)


def test_upsampling_keeps_a_constant_inside_and_interpolates_three_to_one() -> None:
    x = torch.zeros(1, 1, 4, 4)
    x[..., 1, 1] = 1
    line = np.array([0, 1, 3, 3, 1, 0, 0, 0]) / 4
    np.testing.assert_allclose(stylegan2.upsample(x)[0, 0].numpy(), np.outer(line, line), atol=1e-7)
    assert torch.allclose(stylegan2.upsample(torch.ones(1, 1, 4, 4))[..., 1:-1, 1:-1], torch.ones(6, 6))


@pytest.mark.parametrize("network", stylegan2.NETWORKS)
def test_each_way_to_combine_resolutions_has_its_tensors_and_shapes(network: str) -> None:
    generator = stylegan2.Generator(**SMALL, network=network)
    discriminator = Discriminator(c_dim=0, resolution=16, channel_base=128, channel_max=12, network=network)
    images = generator(torch.zeros(4, 5), noise="none")
    assert images.shape == (4, 3, 16, 16)
    assert discriminator(images).shape == (4, 1)
    to_rgb = [name for name in generator.state_dict() if name.endswith("torgb.bias")]
    assert len(to_rgb) == (3 if network == "skip" else 1)
    assert ("synthesis.b8.skip.weight" in generator.state_dict()) == (network == "resnet")
    assert ("b8.skip.weight" in discriminator.state_dict()) == (network == "resnet")


def test_a_latent_and_its_noise_come_from_one_random_state_in_stored_order() -> None:
    drawn = stylegan2.draw({"z_dim": 5, "resolution": 16}, 11, "per-seed")
    state = np.random.RandomState(11)
    expected = [state.randn(1, 5), *(state.randn(1, 1, side, side) for side in (4, 8, 8, 16, 16))]
    assert list(drawn) == ["z", "noise0", "noise1", "noise2", "noise3", "noise4"]
    for array, value in zip(drawn.values(), expected, strict=True):
        assert array.dtype == np.float32
        assert np.array_equal(array, value[0].astype(np.float32))


def test_there_are_two_styles_for_each_side_to_cut_off() -> None:
    assert stylegan2.styles(SMALL) == stylegan2.Generator(**SMALL).styles == 6
    assert stylegan2.styles({"resolution": 1024}) == 18
    assert stylegan2.NOISES == ("per-seed", "const", "none")


def test_concatenated_labels_are_normalized_together_with_z() -> None:
    """G_mapping of the TensorFlow version; the golden conditional file has it too."""
    mapping = stylegan2.MappingNetwork(5, 3, 7, layers=1, labels="concat")
    z, matrix = torch.randn(2, 5), mapping.get_parameter("concat.weight")
    label = torch.eye(3)[:2]
    x = torch.stack([torch.cat([z[image], matrix[:, image]]) for image in range(2)])
    x = x / (x.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()
    expected = torch.nn.functional.leaky_relu(x @ mapping.get_parameter("fc0.weight").T * 0.01 / 10**0.5, 0.2) * 2**0.5
    torch.testing.assert_close(mapping(z, label), expected)


def test_a_selecting_discriminator_gives_the_score_of_the_class_and_a_projecting_one_needs_no_layers() -> None:
    settings = {**{key: SMALL[key] for key in ("resolution", "channel_base", "channel_max")}, "c_dim": 3}
    images, label = torch.randn(4, 3, 16, 16), torch.eye(3)[[0, 2, 1, 1]]
    selecting = Discriminator(**settings, labels="select", end_features=5)
    scores = selecting(images, torch.ones(4, 3))
    parts = [selecting(images, row.expand(4, 3)) for row in torch.eye(3)]
    torch.testing.assert_close(scores, sum(parts))
    torch.testing.assert_close(selecting(images, label)[:, 0], torch.cat(parts, dim=1)[range(4), [0, 2, 1, 1]])
    assert selecting.b4.fc.weight.shape == (5, 12 * 16)
    projecting = Discriminator(**settings, mapping_layers=0)
    torch.testing.assert_close(projecting.mapping(None, label).square().mean(dim=1), torch.ones(4))
    assert projecting(images, label).shape == (4, 1)


def test_feature_maps_may_be_listed() -> None:
    listed = {key: value for key, value in SMALL.items() if not key.startswith("channel")}
    generator = stylegan2.Generator(**listed, features=[6, 3, 5])
    assert [block.conv1.weight.shape[0] for block in generator.synthesis.blocks()] == [6, 3, 5]
    with pytest.raises(ValueError, match=r"16 pixels need 3 positive numbers of feature maps, not \[6, 3\]"):
        stylegan2.Generator(**listed, features=[6, 3])


def test_truncation_draws_the_first_styles_to_the_average_only() -> None:
    generator = stylegan2.Generator(**SMALL).requires_grad_(False)
    generator.mapping.get_buffer("w_avg").fill_(2)
    w = torch.full((1, 7), 6.0)
    assert generator.truncate(w, 0.25, 2)[0, :, 0].tolist() == [3, 3, 6, 6, 6, 6]
    assert generator.truncate(w, 0.25, None)[0, :, 6].tolist() == [3] * 6
    assert generator.truncate(w, 1.0, None)[0, :, 0].tolist() == [6] * 6


def test_given_noise_equal_to_the_stored_one_gives_the_same_image() -> None:
    generator = stylegan2.Generator(**SMALL).requires_grad_(False)
    for layer in (layer for block in generator.synthesis.blocks() for layer in block.layers()):
        layer.noise_strength.fill_(0.7)
    stored = [layer.noise_const[None, None] for block in generator.synthesis.blocks() for layer in block.layers()]
    z = torch.randn(1, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(generator(z, noise=stored), generator(z, noise="const"))
    assert not torch.equal(generator(z, noise="none"), generator(z, noise="const"))
    with pytest.raises(ValueError, match="noise maps have shapes"):
        generator(z, noise=stored[::-1])


def test_bytes_are_truncated_not_rounded_and_clipped() -> None:
    values = torch.tensor([-2.0, -1.0, 0.0, (100.9 - 128) / 127.5, 0.99, 2.0]).reshape(1, 1, 1, 6).expand(1, 3, 1, 6)
    assert stylegan2.to_uint8(values)[0, 0, :, 0].tolist() == [0, 0, 128, 100, 254, 255]


def test_impossible_networks_are_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="power of two from 8 to 4096, not 48"):
        stylegan2.Generator(**{**SMALL, "resolution": 48})
    with pytest.raises(ValueError, match="one of skip, resnet, orig, not 'dense'"):
        stylegan2.Generator(**SMALL, network="dense")
    with pytest.raises(ValueError, match="1 to 64 layers, not 1000000000"):
        stylegan2.Generator(**SMALL, mapping_layers=10**9)
    discriminator = Discriminator(c_dim=0, resolution=16, channel_base=128, channel_max=12)
    with pytest.raises(ValueError, match="groups of 4 images, and 6 is no multiple"):
        discriminator(torch.zeros(6, 3, 16, 16))
    with pytest.raises(ValueError, match="labels are mapped by embed or concat"):
        stylegan2.Generator(**SMALL, mapping_labels="added")
    with pytest.raises(ValueError, match="uses labels to project or select, not to 'ignore'"):
        Discriminator(c_dim=2, resolution=16, labels="ignore")
    with pytest.raises(ValueError, match="it needs a label of width 2"):
        Discriminator(c_dim=2, resolution=8, channel_max=4, labels="select")(torch.zeros(4, 3, 8, 8))
