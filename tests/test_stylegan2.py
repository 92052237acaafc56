"""StyleGAN2 against outputs of its authors' code, and against closed forms."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Golden

from stages.generators import stylegan2, weights
from stages.generators.pickles import read_pickle
from stages.generators.stylegan2_discriminator import Discriminator
from stages.generators.stylegan2_official import discriminator_architecture, drop_constants, generator_architecture

ADA = ("generators", "stylegan2ada_torch_*.npz")
SMALL: dict[str, Any] = {"z_dim": 5, "c_dim": 0, "w_dim": 7, "resolution": 16, "channel_base": 128, "channel_max": 12}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def official_generator(golden: Golden) -> stylegan2.Generator:
    network = read_pickle(golden.path.with_suffix(".pkl"))["G_ema"]
    generator = stylegan2.build(generator_architecture(network))
    weights.fill("golden", generator, drop_constants(network.tensors))
    return generator


def assert_close(found: torch.Tensor, expected: np.ndarray[Any, Any]) -> None:
    difference = np.abs(found.detach().numpy() - expected)
    assert difference.max() <= 1e-4
    assert difference.mean() <= 1e-5


@pytest.mark.golden(*ADA)
def test_mapping_gives_the_official_w(golden: Golden) -> None:
    generator = official_generator(golden)
    assert_close(generator.mapping(torch.tensor(golden["z"]).float(), torch.tensor(golden["labels"])), golden["w"])


@pytest.mark.golden(*ADA)
def test_images_are_the_official_ones_for_each_truncation_and_noise_mode(golden: Golden) -> None:
    generator = official_generator(golden)
    z, label = torch.tensor(golden["z"]).float(), torch.tensor(golden["labels"])
    found = [re.fullmatch(r"image_psi_([\d.]+)(?:_cut_(\d+))?_(const|none)", key) for key in golden.keys()]  # noqa: SIM118
    assert any(found)
    for match in filter(None, found):
        psi, cutoff, noise = float(match[1]), int(match[2]) if match[2] else None, match[3]
        with torch.no_grad():
            images = generator(z, label, psi=psi, cutoff=cutoff, noise=noise)
        assert_close(images, golden[match[0]])


@pytest.mark.golden(*ADA)
def test_bytes_follow_the_official_rule(golden: Golden) -> None:
    if "uint8_of_image_psi_1_const" in golden:
        found = stylegan2.to_uint8(torch.tensor(golden["image_psi_1_const"])).numpy()
        assert np.array_equal(found.transpose(0, 3, 1, 2), golden["uint8_of_image_psi_1_const"])


@pytest.mark.golden(*ADA)
def test_a_seed_gives_the_image_of_the_official_sampler(golden: Golden) -> None:
    generator = official_generator(golden)
    keys = [re.fullmatch(r"seed(\d+)(?:_class(\d+))?_psi1_const_uint8_nhwc", key) for key in golden.keys()]  # noqa: SIM118
    assert any(keys)
    for match in filter(None, keys):
        drawn = stylegan2.draw({"z_dim": generator.z_dim}, int(match[1]), "const")
        label = torch.zeros(1, generator.c_dim)
        if match[2]:
            label[0, int(match[2])] = 1
        rows = {"z": torch.from_numpy(drawn["z"])[None], "label": label}
        image = stylegan2.to_uint8(stylegan2.render(generator, rows, noise="const")).numpy()
        difference = np.abs(image.astype(int) - golden[match[0]])
        assert difference.max() <= 1
        assert (difference == 0).mean() >= 0.995


@pytest.mark.golden(*ADA)
def test_scores_and_gradient_norms_are_the_official_ones(golden: Golden) -> None:
    network = read_pickle(golden.path.with_suffix(".pkl"))["D"]
    discriminator = Discriminator(**discriminator_architecture(network))
    weights.fill("golden", discriminator, drop_constants(network.tensors))
    reals = torch.tensor(golden["d_reals"]).requires_grad_(True)
    scores = discriminator(reals, torch.tensor(golden["d_labels"]))
    np.testing.assert_allclose(scores.detach().numpy(), golden["d_score"], rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(scores.sum(), reals)
    norms = gradient.square().sum(dim=(1, 2, 3)).numpy()
    np.testing.assert_allclose(norms, golden["r1_sqnorm"], rtol=1e-4, atol=1e-5)


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
