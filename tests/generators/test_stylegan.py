"""StyleGAN against outputs of its authors' code and of two foreign versions of it, and against closed forms."""

from __future__ import annotations

import math
import re

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
from torch import Tensor

from stages.generators import stylegan, stylegan_official
from stages.generators.layers import parameters
from stages.generators.stylegan_discriminator import Discriminator
from stages.weights.checkpoints import read_contents

TENSORFLOW = ("generators", "stylegan_tf_*.npz")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def assert_close(found: Tensor, expected: Array) -> None:
    difference = np.abs(found.detach().numpy() - expected)
    assert difference.max() <= 1e-4
    assert difference.mean() <= 1e-5


def assert_scores(found: Tensor, expected: Array) -> None:
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def assert_bytes(found: Tensor, expected: Array) -> None:
    difference = np.abs(found.numpy().astype(int) - expected)
    assert difference.max() <= 1
    assert (difference == 0).mean() >= 0.995


@pytest.mark.golden(*TENSORFLOW)
def test_mapping_gives_the_official_w(golden: Golden) -> None:
    z, label = torch.tensor(golden["z"]), torch.tensor(golden["labels"])
    for contents in checkpoints(golden.path).values():
        assert_close(generator_of(contents).mapping(z, label), golden["w"])


@pytest.mark.golden(*TENSORFLOW)
def test_images_are_the_official_ones_for_each_truncation_and_level_of_detail(golden: Golden) -> None:
    z, label = torch.tensor(golden["z"]), torch.tensor(golden["labels"])
    pattern = r"image_psi_?([\d.]+?|default)(?:_cut_(\d+|default))?(?:_lod([\d.]+))?"
    matches = [match for key in golden.arrays if (match := re.fullmatch(pattern, key))]
    assert matches
    found = checkpoints(golden.path)
    assert "tensorflow" in found
    for contents in found.values():
        generator, suggested = generator_of(contents), stylegan_official.generator(contents).truncation
        for match in matches:
            psi = suggested["psi"] if match[1] == "default" else float(match[1])
            cutoff = suggested["cutoff"] if match[2] in (None, "default") else int(match[2])
            with torch.no_grad():
                images = generator(z, label, psi=psi, cutoff=cutoff, lod=float(match[3]) if match[3] else None)
            assert_close(images, golden[match[0]])


@pytest.mark.golden(*TENSORFLOW)
def test_bytes_are_the_official_ones(golden: Golden) -> None:
    contents = checkpoints(golden.path)["tensorflow"]
    generator, suggested = generator_of(contents), stylegan_official.generator(contents).truncation
    rows = {"z": torch.tensor(golden["z"]), "label": torch.tensor(golden["labels"])}
    matches = [key for key in golden.arrays if key.startswith("uint8_of_")]
    assert matches
    for key in matches:
        images = torch.tensor(golden[key.removeprefix("uint8_of_")])
        assert np.array_equal(stylegan.to_uint8(images).numpy().transpose(0, 3, 1, 2), golden[key])
        if key == "uint8_of_image_psi_default_cut_default":
            made = stylegan.to_uint8(stylegan.render(generator, rows, **suggested, noise="const"))
            assert_bytes(made.permute(0, 3, 1, 2), golden[key])


@pytest.mark.golden(*TENSORFLOW)
def test_a_seed_gives_the_image_of_the_official_protocol(golden: Golden) -> None:
    contents = checkpoints(golden.path)["tensorflow"]
    converted = stylegan_official.generator(contents)
    generator = generator_of(contents)
    for match in (re.fullmatch(r"seed(\d+)_redrawn_noise_image", key) for key in golden.arrays):
        if match:
            drawn = stylegan.draw(converted.architecture, int(match[1]), "per-seed")
            rows = {name: torch.from_numpy(array)[None] for name, array in drawn.items()}
            rows["label"] = torch.zeros(1, generator.c_dim)
            assert_close(stylegan.render(generator, rows, **converted.truncation), golden[match[0]])


@pytest.mark.golden(*TENSORFLOW)
def test_scores_and_gradient_norms_are_the_official_ones(golden: Golden) -> None:
    discriminator = discriminator_of(checkpoints(golden.path)["tensorflow"])
    reals, label = torch.tensor(golden["d_reals"]).requires_grad_(True), torch.tensor(golden["d_labels"])
    scores = discriminator(reals, label)
    assert_scores(scores, golden["d_score"])
    (gradient,) = torch.autograd.grad(scores.sum(), reals)
    assert_scores(gradient.square().sum(dim=(1, 2, 3)), golden["r1_sqnorm"])
    for match in (re.fullmatch(r"d_score_lod([\d.]+)", key) for key in golden.arrays):
        if match:
            assert_scores(discriminator(reals, label, lod=float(match[1])), golden[match[0]])


def test_genforce_files_are_in_the_set_and_hold_the_numbers_of_the_authors(pytestconfig: pytest.Config) -> None:
    folder = pytestconfig.getoption("--golden") / "generators"
    files = sorted(file for file in folder.glob("genforce_stylegan_*") if file.suffix not in (".npz", ".md"))
    assert files
    for file in files:
        outputs = folder / f"{file.stem.removeprefix('genforce_')}.npz"  # whose images are compared above
        assert outputs.is_file()
        found = stylegan_official.generator(read_contents(file))
        if twin := checkpoints(outputs).get("tensorflow"):
            tensors = stylegan_official.generator(twin).tensors
            assert found.tensors.keys() == tensors.keys()
            for name, array in found.tensors.items():
                np.testing.assert_array_equal(array, tensors[name], err_msg=name)


@pytest.mark.golden(*ROSINALITY)
def test_images_are_those_of_style_based_gan_pytorch(golden: Golden) -> None:
    generator = generator_of(checkpoints(golden.path)["rosinality"])
    z = torch.tensor(golden["z"])
    noise = [torch.tensor(golden[f"noise_{index}"]) for index in range(len(generator.noise_shapes()))]
    generator.mapping.w_avg.copy_(torch.tensor(golden["mean_style"]).reshape(-1))
    pattern = r"image(?:_psi(\d+p\d+))?(?:_stride(\d+))?"
    matches = [match for key in golden.arrays if (match := re.fullmatch(pattern, key))]
    assert matches
    for match in matches:
        psi, stride = float((match[1] or "1").replace("p", ".")), int(match[2] or 1)
        with torch.no_grad():
            images = generator(z, psi=psi, noise=noise)
        assert_close(images[..., ::stride, ::stride], golden[match[0]])


def test_the_published_size_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        generator = stylegan.Generator(z_dim=512, c_dim=0, w_dim=512, resolution=1024)
    assert parameters(generator.synthesis) == 24_118_379
    assert parameters(generator.mapping) == 2_101_248
    assert parameters(generator) == 26_219_627


def test_mapping_scales_latent_and_embedded_label_together() -> None:
    mapping = small(stylegan.Generator).mapping
    z, label = inputs()
    tensors = {name: tensor.double().numpy() for name, tensor in mapping.state_dict().items()}
    for row in range(len(z)):
        x = np.concatenate([z[row].double().numpy(), tensors["embed.weight"] @ label[row].double().numpy()])
        x = x / np.sqrt((x**2).mean() + 1e-8)
        for index in range(3):
            weight = tensors[f"fc{index}.weight"] * math.sqrt(2 / len(x)) * 0.01
            x = weight @ x + tensors[f"fc{index}.bias"] * 0.01
            x = np.maximum(x, 0.2 * x)
        np.testing.assert_allclose(mapping(z, label)[row].numpy(), x, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("epsilon", [1e-8, 1e-2])
def test_noise_bias_rectifier_normalization_and_style_follow_in_this_order(epsilon: float) -> None:
    torch.manual_seed(0)
    epilogue = stylegan.Epilogue(2, 5, 4, epsilon=epsilon, stored=True).requires_grad_(False)
    for name in ("noise_strength", "bias", "affine.bias"):
        epilogue.get_parameter(name).normal_()
    x, w = torch.randn(3, 2, 4, 4), torch.randn(3, 5)
    noise = torch.randn(3, 1, 4, 4)
    found = epilogue(x, w, noise).double().numpy()
    style = w.double().numpy() @ epilogue.affine.weight.double().numpy().T / math.sqrt(5)
    style += epilogue.get_parameter("affine.bias").numpy()
    for image in range(3):
        for channel in range(2):
            y = x[image, channel].double().numpy() + noise[image, 0].numpy() * epilogue.noise_strength[channel].item()
            y = y + epilogue.bias[channel].item()
            y = np.where(y > 0, y, 0.2 * y)
            y = (y - y.mean()) / math.sqrt(((y - y.mean()) ** 2).mean() + epsilon)
            y = y * (style[image, channel] + 1) + style[image, 2 + channel]
            np.testing.assert_allclose(found[image, channel], y, rtol=1e-4, atol=1e-5)


def test_blur_spreads_a_pixel_binomially_and_loses_what_leaves_the_image() -> None:
    x = torch.zeros(1, 2, 5, 5)
    x[0, 0, 2, 2] = x[0, 1, 0, 0] = 1
    expected = np.zeros((2, 5, 5))
    expected[0, 1:4, 1:4] = BINOMIAL
    expected[1, :2, :2] = BINOMIAL[1:, 1:]
    np.testing.assert_allclose(stylegan.blur(x)[0].numpy(), expected, atol=1e-7)


def test_fused_layers_are_the_others_with_mirrored_kernels_on_the_way_up() -> None:
    plain, fused = small(stylegan.Generator, fused=False), small(stylegan.Generator, fused=True)
    tensors = plain.state_dict()
    mirrored = {name: t.flip(2, 3) if name.endswith("conv0.weight") else t for name, t in tensors.items()}
    fused.load_state_dict(mirrored)
    z, label = inputs()
    torch.testing.assert_close(fused(z, label), plain(z, label), atol=1e-4, rtol=1e-4)
    images = plain(z, label)
    scores = [small(Discriminator, fused=choice)(images, label) for choice in (False, True)]
    torch.testing.assert_close(scores[0], scores[1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("side", [4, 64, 128, 1024])
def test_layers_are_fused_from_128_pixels_on_unless_said_otherwise(side: int) -> None:
    assert [stylegan.is_fused(choice, side) for choice in ("auto", True, False)] == [side >= 128, True, False]
    assert [stylegan.is_fused(choice, side) for choice in (8, 64, 512)] == [side >= 8, side >= 64, side >= 512]
    for nonsense in (1, 4, 48, 64.0):
        with pytest.raises(ValueError, match=r"the first side, 8, 16, \.\.\., or one of 'auto'"):
            stylegan.is_fused(nonsense, side)  # type: ignore[arg-type]


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_level_of_detail_fades_two_resolutions(level: int) -> None:
    generator = small(stylegan.Generator)
    z, label = inputs()
    fine, coarse = (generator(z, label, lod=each, native=True).double().numpy() for each in (level, level + 1))
    expected = 0.75 * fine + 0.25 * np.kron(coarse, np.ones((2, 2)))
    found = generator(z, label, lod=level + 0.25, native=True)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    shown = np.kron(found.numpy(), np.ones((1 << level, 1 << level)))
    assert np.array_equal(generator(z, label, lod=level + 0.25).numpy(), shown)
    generator.lod.fill_(level + 0.25)
    assert np.array_equal(generator(z, label).numpy(), shown)


@pytest.mark.parametrize("lod", [0.0, 0.4, 1.0, 2.7, 3.0])
def test_the_discriminator_takes_images_of_either_size(lod: float) -> None:
    discriminator = small(Discriminator)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    label, side = inputs()[1], 32 >> int(lod)
    reduced = images.reshape(4, 3, side, 32 // side, side, 32 // side).mean(dim=(3, 5))
    torch.testing.assert_close(
        discriminator(reduced, label, lod=lod), discriminator(images, label, lod=lod), atol=1e-5, rtol=1e-4
    )
    with pytest.raises(ValueError, match="takes square images of 32 pixels"):
        discriminator(images[..., :24], label, lod=lod)


def test_scores_are_continuous_where_a_resolution_is_faded_out() -> None:
    discriminator, images = small(Discriminator), torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    label = inputs()[1]
    nearly, fully = (discriminator(images, label, lod=lod) for lod in (1 - 1e-6, 1.0))
    torch.testing.assert_close(nearly, fully, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("lod", "sides"), [(0.0, {32, 16, 8, 4}), (1.0, {16, 8, 4}), (1.5, {16, 8, 4}), (3.0, {4})])
def test_only_layers_that_a_level_needs_are_run(lod: float, sides: set[int]) -> None:
    generator, discriminator = small(stylegan.Generator), small(Discriminator)
    for network in (generator, discriminator):
        network.requires_grad_(True)
    z, label = inputs()
    discriminator(generator(z, label, lod=lod), label, lod=lod).sum().backward()
    colors = {int(32 / 2**level) for level in (math.floor(lod), math.ceil(lod))}
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            if match := re.search(r"\bb(\d+)\.", name):
                needed = int(match[1]) in (colors if "rgb" in name else sides)
                assert (parameter.grad is not None) == needed, name


def test_gradients_of_gradients_are_right_while_a_resolution_is_faded_in() -> None:
    discriminator, label = small(Discriminator).double(), inputs()[1].double()
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    images.requires_grad_(True)
    assert torch.autograd.gradgradcheck(lambda x: discriminator(x, label, lod=1.4), (images,), fast_mode=True)


def test_a_label_picks_its_score() -> None:
    discriminator, images = small(Discriminator), torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    discriminator.b4.out.weight.zero_()
    discriminator.b4.out.bias.copy_(torch.tensor([1.0, 20.0, 300.0]))
    assert discriminator(images, inputs()[1])[:, 0].tolist() == [1, 20, 300, 1]
    for network in (discriminator, small(stylegan.Generator)):
        with pytest.raises(ValueError, match="needs a label of width 3"):
            network(inputs()[0] if network is not discriminator else images)


def test_truncation_draws_the_first_styles_to_the_average_only() -> None:
    generator = small(stylegan.Generator)
    generator.mapping.w_avg.fill_(2)
    w = torch.full((1, 5), 6.0)
    assert stylegan.styles(SMALL) == generator.styles == 8
    assert generator.truncate(w, 0.25, 3)[0, :, 0].tolist() == [3, 3, 3, 6, 6, 6, 6, 6]
    assert generator.truncate(w, 0.25, None)[0, :, 4].tolist() == [3] * 8
    assert generator.truncate(w, 0.25, 0)[0, :, 4].tolist() == [6] * 8


def test_mapped_styles_and_noise_give_the_same_image_as_the_whole_network() -> None:
    generator = small(stylegan.Generator)
    z, label = inputs()
    noise = [torch.randn(4, *shape, generator=torch.Generator().manual_seed(5)) for shape in generator.noise_shapes()]
    styles = generator.mapping(z, label)[:, None].expand(-1, generator.styles, -1)
    found = generator.synthesis(styles, noise, lod=1.5, native=True)
    assert torch.equal(found, generator(z, label, noise=noise, lod=1.5, native=True))


@pytest.mark.parametrize(("shared", "sides"), [(False, (4, 4, 8, 8, 16, 16)), (True, (4, 8, 16))])
def test_a_latent_and_its_noise_come_from_one_random_state_in_stored_order(
    shared: bool, sides: tuple[int, ...]
) -> None:
    drawn = stylegan.draw({"z_dim": 5, "resolution": 16, "shared_noise": shared}, 11, "per-seed")
    state = np.random.RandomState(11)
    expected = [state.randn(1, 5), *(state.randn(1, 1, side, side) for side in sides)]
    assert list(drawn) == ["z", *(f"noise{index}" for index in range(len(sides)))]
    for array, value in zip(drawn.values(), expected, strict=True):
        assert array.dtype == np.float32
        assert np.array_equal(array, value[0].astype(np.float32))
    assert list(stylegan.draw({"z_dim": 5, "resolution": 16}, 11, "const")) == ["z"]


def test_given_noise_equal_to_the_stored_one_gives_the_same_image() -> None:
    generator = small(stylegan.Generator)
    layers = [layer for block in generator.synthesis.blocks() for layer in (block.style0, block.style1)]
    stored = [layer.noise_const[None, None] for layer in layers]
    z, label = inputs()
    assert torch.equal(generator(z, label, noise=stored), generator(z, label, noise="const"))
    assert not torch.equal(generator(z, label, noise="none"), generator(z, label, noise="const"))
    with pytest.raises(ValueError, match="noise maps have shapes"):
        generator(z, label, noise=stored[::-1])


def test_shared_noise_is_added_by_both_layers_and_never_stored() -> None:
    shared = small(stylegan.Generator, shared_noise=True)
    own = small(stylegan.Generator)
    own.load_state_dict({**own.state_dict(), **shared.state_dict()})
    z, label = inputs()
    noise = [torch.randn(4, *shape, generator=torch.Generator().manual_seed(6)) for shape in shared.noise_shapes()]
    assert [map_.shape[-1] for map_ in noise] == [4, 8, 16, 32]
    twice = [map_ for map_ in noise for _ in range(2)]
    assert torch.equal(shared(z, label, noise=noise), own(z, label, noise=twice))
    with pytest.raises(ValueError, match="no stored noise"):
        shared(z, label, noise="const")


def test_impossible_networks_are_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="power of two from 8 to 4096, not 48"):
        stylegan.Generator(**{**SMALL, "resolution": 48})
    with pytest.raises(ValueError, match="1 to 64 layers, not 0"):
        stylegan.Generator(**{**SMALL, "mapping_layers": 0})
    with pytest.raises(ValueError, match="'auto', true and false, not 'often'"):
        stylegan.build({**SMALL, "fused": "often"})
    with pytest.raises(ValueError, match=r"32 pixels is 0 to 3, not 3\.5"):
        small(stylegan.Generator)(*inputs(), lod=3.5)


def test_bytes_are_truncated_not_rounded_and_clipped() -> None:
    values = torch.tensor([-2.0, -1.0, 0.0, (100.9 - 128) / 127.5, 0.99, 2.0]).reshape(1, 1, 1, 6).expand(1, 3, 1, 6)
    assert stylegan.to_uint8(values)[0, 0, :, 0].tolist() == [0, 0, 128, 100, 254, 255]
