"""ProGAN against outputs of its authors' code and of two foreign versions of it, and against closed forms."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden_files import Golden
from torch import Tensor

from stages.generators import progan, progan_official
from stages.generators.layers import parameters
from stages.generators.progan_discriminator import ConsecutiveDeviation, Discriminator
from stages.generators.weights import WeightsError
from stages.weights.checkpoints import Contents, Converted, NetworkData, read_contents
from stages.weights.filling import fill

ALL = ("generators", "progan_*.npz")
TENSORFLOW = ("generators", "progan_tf_*.npz")
SMALL: dict[str, Any] = {"c_dim": 3, "resolution": 32, "fmap_base": 64, "fmap_max": 8}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def checkpoint(path: Path) -> Contents:
    (found,) = (file for file in path.parent.glob(f"{path.stem}.*") if file.suffix != ".npz")
    return read_contents(found)


def generator_of(contents: Contents, which: str = "average") -> progan.Generator:
    return filled(progan.build, progan_official.generator(contents, which))


def discriminator_of(contents: Contents) -> Discriminator:
    found = progan_official.discriminator(contents)
    assert found is not None
    return filled(lambda architecture: Discriminator(**architecture), found)


def filled(build: Callable[[dict[str, Any]], Any], converted: Converted) -> Any:
    return fill("golden", build(converted.architecture), converted.tensors)


def small(kind: type[Any], *, seed: int = 0, **settings: Any) -> Any:
    """A network with random biases too, without gradients of its parameters."""
    torch.manual_seed(seed)
    network = kind(**{**SMALL, **settings}).requires_grad_(False)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            parameter.normal_(std=0.3)
    return network


def inputs(count: int = 4, z_dim: int = 5) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    return torch.randn(count, z_dim, generator=random), torch.eye(3)[torch.arange(count) % 3]


def assert_close(found: Tensor, expected: np.ndarray[Any, Any]) -> None:
    difference = np.abs(found.detach().numpy() - expected)
    assert difference.max() <= 1e-4
    assert difference.mean() <= 1e-5


def assert_scores(found: Tensor, expected: np.ndarray[Any, Any]) -> None:
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.golden(*ALL)
def test_images_are_those_of_the_reference_at_each_level_of_detail(golden: Golden) -> None:
    contents = checkpoint(golden.path)
    z = torch.tensor(golden["z"])
    label = torch.tensor(golden["labels"]) if "labels" in golden.arrays else None
    found = [(key, re.fullmatch(r"(gs|g|avg)_image(?:_lod([\d.]+)|_alpha(\d+p\d+))?", key)) for key in golden.arrays]
    matches = [(key, match) for key, match in found if match]
    assert matches
    for key, match in matches:
        generator = generator_of(contents, "raw" if match[1] == "g" else "average")
        lod = float(match[2] or match[3].replace("p", ".")) if match[2] or match[3] else None
        assert_close(generator(z, label, lod=lod), golden[key])


@pytest.mark.golden(*ALL)
def test_rendering_gives_the_image_of_the_averaged_network(golden: Golden) -> None:
    generator = generator_of(checkpoint(golden.path))
    rows = {"z": torch.tensor(golden["z"])}
    if generator.c_dim:
        rows["label"] = torch.tensor(golden["labels"])
    images = progan.render(generator, rows)
    assert_close(images, golden["gs_image" if "gs_image" in golden.arrays else "avg_image"])
    if "gs_uint8" in golden.arrays:
        difference = np.abs(progan.to_uint8(images).numpy().transpose(0, 3, 1, 2).astype(int) - golden["gs_uint8"])
        assert difference.max() <= 1
        assert (difference == 0).mean() >= 0.995


@pytest.mark.golden(*TENSORFLOW)
def test_bytes_follow_the_rule_of_the_authors(golden: Golden) -> None:
    found = progan.to_uint8(torch.tensor(golden["gs_image"])).numpy()
    assert np.array_equal(found.transpose(0, 3, 1, 2), golden["gs_uint8"])


@pytest.mark.golden(*ALL)
def test_scores_are_those_of_the_reference_at_each_level_of_detail(golden: Golden) -> None:
    discriminator = discriminator_of(checkpoint(golden.path))
    if "d_in" in golden.arrays:
        assert_scores(discriminator(torch.tensor(golden["d_in"])), golden["d_out"])
        return
    reals = torch.tensor(golden["d_reals"])
    matches = [match for key in golden.arrays if (match := re.fullmatch(r"score_real(?:_lod([\d.]+))?", key))]
    assert matches
    for match in matches:
        score, logits = discriminator.scores(reals, lod=float(match[1]) if match[1] else None)
        assert_scores(score, golden[match[0]])
        if match[1] is None and discriminator.c_dim:
            assert_scores(logits, golden["dlabels_real"])


@pytest.mark.golden(*TENSORFLOW)
def test_gradient_penalty_and_loss_are_those_of_the_authors(golden: Golden) -> None:
    contents = checkpoint(golden.path)
    generator, discriminator = generator_of(contents, "raw"), discriminator_of(contents)
    reals, label = torch.tensor(golden["d_reals"]), torch.tensor(golden["d_labels"])
    fakes = generator(torch.tensor(golden["d_z"]), label)
    (real, real_logits), (fake, fake_logits) = discriminator.scores(reals), discriminator.scores(fakes)
    assert_scores(fake, golden["score_fake"])
    mixed = torch.lerp(reals, fakes, torch.tensor(golden["gp_eps"])).requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(mixed).sum(), mixed)
    norm = gradient.square().sum(dim=(1, 2, 3)).sqrt()
    assert_scores(norm, golden["gp_norm"])
    loss = (fake - real)[:, 0] + 10 * (norm - 1).square() + 0.001 * real[:, 0].square()
    if discriminator.c_dim:
        assert_scores(fake_logits, golden["dlabels_fake"])
        for logits in (real_logits, fake_logits):
            loss = loss - (label * logits.log_softmax(dim=1)).sum(dim=1)
    assert_scores(loss, golden["d_loss_per_sample"])


def genforce_tensors(network: NetworkData, color: str) -> dict[str, np.ndarray[Any, Any]]:
    """Tensors of an unconditional, unfused TensorFlow network ("ToRGB" or "FromRGB") as genforce stores them."""
    theirs = network.tensors
    levels = sum(name.startswith(color) and name.endswith("weight") for name in theirs)
    last = 2 * levels - 2
    if color == "ToRGB":
        order, names = range(levels), {"layer0": "4x4/Dense", "layer1": "4x4/Conv"}
    else:
        order = range(levels)[::-1]
        names = {f"layer{last}": "4x4/Conv", f"layer{last + 1}": "4x4/Dense0", f"layer{last + 2}": "4x4/Dense1"}
    for number, level in enumerate(order):
        names[f"{'output' if color == 'ToRGB' else 'input'}{number}"] = f"{color}_lod{levels - 1 - level}"
        if level:
            names |= {f"layer{2 * number + part}": f"{4 << level}x{4 << level}/Conv{part}" for part in (0, 1)}
    found = {"lod": np.asarray(theirs["lod"], dtype=np.float32)}
    for name, source in names.items():
        weight = theirs[f"{source}/weight"]
        if source == "4x4/Dense":  # a fully connected layer as a convolution that sees its one pixel from 4x4 places
            weight = weight.reshape(weight.shape[0], -1, 4, 4).transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]
        else:
            weight = weight.transpose(3, 2, 0, 1) if weight.ndim == 4 else weight.T
        found |= {f"{name}.weight": weight, f"{name}.bias": theirs[f"{source}/bias"]}
    return found


def is_first(name: str) -> bool:
    """Whether genforce's layer of this name doubles the resolution."""
    return re.fullmatch(r"layer([2468]|\d+[02468])\.weight", name) is not None


def plain_torch(**networks: Mapping[str, Any]) -> Contents:
    found = {name: NetworkData("", {}, tensors, {}) for name, tensors in networks.items()}
    return Contents("torch zip", None, found, {})


@pytest.mark.golden(*TENSORFLOW)
def test_genforce_files_give_the_images_and_scores_of_the_tensorflow_file(golden: Golden) -> None:
    files = [read_contents(path) for path in golden.path.parent.glob(f"genforce_{golden.path.stem}.*")]
    twin = checkpoint(golden.path)
    settings = twin.networks["Gs"].settings
    if not settings.get("fused_scale", True) and not settings.get("label_size", 0):
        smooth, raw = (genforce_tensors(twin.networks[name], "ToRGB") for name in ("Gs", "G"))
        judge = genforce_tensors(twin.networks["D"], "FromRGB")
        files.append(plain_torch(generator=raw, generator_smooth=smooth, discriminator=judge))
        turned = {name: a[..., ::-1, ::-1].swapaxes(0, 1) for name, a in smooth.items() if is_first(name)}
        files.append(plain_torch(generator_smooth={**smooth, **turned}))  # fused: the kernel of the transposed step
    for contents in files:
        assert progan_official.recognize(contents) == "genforce"
        assert_close(generator_of(contents)(torch.tensor(golden["z"])), golden["gs_image"])
        if "generator" in contents.networks:
            assert_close(generator_of(contents, "raw")(torch.tensor(golden["z"])), golden["g_image"])
        if "discriminator" in contents.networks:
            assert_scores(discriminator_of(contents)(torch.tensor(golden["d_reals"])), golden["score_real"])


@pytest.mark.golden(*ALL)
def test_conversion_names_its_source_and_leaves_nothing_out(golden: Golden) -> None:
    contents = checkpoint(golden.path)
    found = progan_official.generator(contents)
    assert found.family == "progan"
    assert found.truncation == {"psi": 1.0, "cutoff": None}
    assert found.source in contents.networks
    assert (
        found.architecture["resolution"] == golden["gs_image" if "gs_image" in golden.arrays else "avg_image"].shape[3]
    )
    assert found.architecture["z_dim"] == golden["z"].shape[1]
    count = sum(np.size(array) for array in contents.networks[found.source].tensors.values())
    assert sum(array.size for array in found.tensors.values()) == count + (contents.container != "tensorflow pickle")


def changed(contents: Contents, name: str, tensors: Mapping[str, Any], **settings: Any) -> Contents:
    """With some tensors (None: taken out) and settings of one network replaced."""
    network = contents.networks[name]
    merged = {key: value for key, value in {**network.tensors, **tensors}.items() if value is not None}
    network = replace(network, tensors=merged, settings={**network.settings, **settings})
    return replace(contents, networks={**contents.networks, name: network})


@pytest.mark.golden(*TENSORFLOW)
def test_the_stored_level_of_detail_is_kept(golden: Golden) -> None:
    contents = checkpoint(golden.path)
    growing = changed(contents, "Gs", {"lod": np.float32(1.25)})
    z = torch.tensor(golden["z"])
    label = torch.tensor(golden["labels"])
    assert torch.equal(generator_of(growing)(z, label), generator_of(contents)(z, label, lod=1.25))
    judged = discriminator_of(changed(contents, "D", {"lod": np.float32(0.5)}))
    reals = torch.tensor(golden["d_reals"])
    assert torch.equal(judged(reals), discriminator_of(contents)(reals, lod=0.5))


@pytest.mark.golden(*TENSORFLOW)
def test_a_generator_with_turned_kernels_is_the_same_fused_and_unfused(golden: Golden) -> None:
    contents = checkpoint(golden.path)
    network = contents.networks["Gs"]
    fused = network.settings.get("fused_scale", True)
    before, after = ("Conv0_up/", "Conv0/") if fused else ("Conv0/", "Conv0_up/")
    tensors: dict[str, Any] = {}
    for name, array in network.tensors.items():
        if before in name:
            turned = array[::-1, ::-1].swapaxes(2, 3) if array.ndim == 4 else array
            tensors |= {name: None, name.replace(before, after): turned}
    other = changed(contents, "Gs", tensors, fused_scale=not fused)
    assert_close(generator_of(other)(torch.tensor(golden["z"]), torch.tensor(golden["labels"])), golden["gs_image"])


@pytest.mark.golden(*TENSORFLOW)
@pytest.mark.parametrize(
    ("tensors", "settings", "message"),
    [
        ({"4x4/Conv/bias": None}, {}, "'Gs' lacks the tensor 4x4/Conv/bias"),
        ({"2x2/Conv/bias": np.zeros(3)}, {}, "'Gs' has 1 unknown tensors, for example 2x2/Conv/bias"),
        ({"4x4/Conv/bias": np.zeros(5)}, {}, r"'b4.conv.bias' has shape \(5,\)"),
        ({"4x4/Conv/weight": np.zeros((3, 3))}, {}, r"4x4/Conv/weight of shape \(3, 3\); expected 4 axes"),
        ({"4x4/Dense/weight": np.full((1, 16), np.nan)}, {}, "shape|not finite"),
        ({"lod": np.float32(np.nan)}, {}, "level of detail .* not nan"),
        ({"lod": np.float32(99)}, {}, "level of detail .* not 99"),
        ({}, {"use_pixelnorm": False}, "use_pixelnorm False; only True is supported"),
        ({}, {"tanh_at_end": 1}, "tanh_at_end 1; only None is supported"),
        ({}, {"spectral_norm": True}, "setting 'spectral_norm', which is not one of ProGAN"),
        ({}, {"resolution": "big"}, "resolution 'big', which is not of type int"),
        ({}, {"resolution": 48}, "power of two from 8 to 4096, not 48"),
        ({}, {"fmap_base": 1}, "positive numbers of feature maps"),
        ({}, {"fmap_base": float("inf")}, "fmap_base inf, which is not of type int"),
        ({}, {"fused_scale": "auto"}, "fused_scale 'auto', which is not of type bool"),
    ],
)
def test_a_file_that_does_not_fit_its_network_is_refused(
    golden: Golden, tensors: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    contents = changed(checkpoint(golden.path), "Gs", tensors, **settings)
    with pytest.raises(WeightsError, match=message):
        progan_official.generator(contents)


@pytest.mark.golden(*TENSORFLOW)
def test_settings_without_effect_are_passed_over(golden: Golden) -> None:
    contents = checkpoint(golden.path)
    settings = {"mbstd_group_size": 16, "use_gdrop": True, "dtype": "float32", "tanh_at_end": None, "structure": None}
    found = progan_official.generator(changed(contents, "Gs", {}, **settings))
    assert found.architecture == progan_official.generator(contents).architecture
    judge = progan_official.discriminator(changed(contents, "D", {}, mbstd_group_size=16, latent_size=512))
    assert judge is not None
    assert judge.architecture["group"] == 16


@pytest.mark.golden("generators", "progan_ganzoo_*.npz")
def test_settings_of_a_zoo_file_are_used_or_refused(golden: Golden) -> None:
    contents = checkpoint(golden.path)
    config = dict(contents.extra.get("config", {}))

    def configured(**settings: Any) -> Contents:
        return replace(contents, extra={**contents.extra, "config": {**config, **settings}})

    assert progan_official.generator(configured(alpha=0.25)).tensors["lod"] == 0.25
    for settings, message in (
        ({"alpha": 2}, "alpha is 2; expected a number from 0 to 1"),
        ({"equalizedlR": False}, "equalizedlR is False; only True"),
        ({"lossCriterion": "DCGAN"}, "lossCriterion is 'DCGAN'; only 'WGANGP'"),
    ):
        with pytest.raises(WeightsError, match=message):
            progan_official.generator(configured(**settings))
    decision = next(
        name for name in contents.networks["netD"].tensors if name.startswith("decisionLayer") and "bias" in name
    )
    labelled = changed(contents, "netD", {decision: np.zeros(4, np.float32)})
    for convert in (progan_official.generator, progan_official.discriminator):
        with pytest.raises(WeightsError, match=r"conditional ProGAN of pytorch_GAN_zoo \(3 label outputs\)"):
            convert(labelled)


def test_other_files_are_not_recognized_as_progan() -> None:
    style = plain_torch(generator_smooth={"synthesis.layer0.weight": np.zeros((4, 4, 3, 3)), "lod": np.zeros(())})
    assert progan_official.recognize(style) is None
    assert progan_official.discriminator(style) is None
    with pytest.raises(WeightsError, match="no ProGAN generator with raw weights; its networks are 'generator_smooth'"):
        progan_official.generator(style, "raw")


def test_the_network_of_the_paper_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        assert parameters(progan.build({"z_dim": 512, "c_dim": 0, "resolution": 1024})) == 23_079_115
        assert parameters(Discriminator(c_dim=0, resolution=1024)) == 23_087_249


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(("lod", "side"), [(0, 32), (0.75, 32), (1, 16), (1.5, 16), (2.25, 8), (3, 4)])
def test_a_level_of_detail_fades_two_resolutions_and_is_enlarged_by_repetition(
    lod: float, side: int, fused: bool
) -> None:
    generator = small(progan.Generator, z_dim=5, fused=fused)
    z, label = inputs()
    native = generator(z, label, lod=lod, native=True)
    assert native.shape == (4, 3, side, side)
    repeated = native.repeat_interleave(32 // side, dim=2).repeat_interleave(32 // side, dim=3)
    assert torch.equal(generator(z, label, lod=lod), repeated)
    whole = int(lod)
    if lod != whole:
        finer, coarser = (generator(z, label, lod=level) for level in (whole, whole + 1))
        torch.testing.assert_close(repeated, finer + (coarser - finer) * (lod - whole))


@pytest.mark.parametrize("fused", [False, True])
def test_scores_are_continuous_in_the_level_of_detail_and_take_either_side(fused: bool) -> None:
    discriminator = small(Discriminator, fused=fused).double()
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for level in (1, 2, 3):
        whole = discriminator(images, lod=level)
        for near in (level - 1e-9, min(level + 1e-9, 3)):
            torch.testing.assert_close(discriminator(images, lod=near), whole, rtol=1e-6, atol=1e-7)
        reduced = images.reshape(4, 3, 32 >> level, 1 << level, 32 >> level, 1 << level).mean(dim=(3, 5))
        torch.testing.assert_close(discriminator(reduced, lod=level), whole)
    score, logits = discriminator.scores(images, lod=0.5)
    assert (score.shape, logits.shape) == ((4, 1), (4, 3))
    assert torch.equal(discriminator(images, torch.zeros(4, 3).double(), lod=0.5), score)


@pytest.mark.parametrize(
    ("lod", "used"), [(0.0, {"b32"}), (1.0, {"b16"}), (1.5, {"b16", "b8"}), (2.5, {"b8", "b4"}), (3.0, {"b4"})]
)
def test_only_the_layers_of_a_level_of_detail_are_run(lod: float, used: set[str]) -> None:
    largest = max(int(name[1:]) for name in used)
    z, label = inputs()
    for network, color in ((small(progan.Generator, z_dim=5), "torgb"), (small(Discriminator), "fromrgb")):
        for name, parameter in network.named_parameters():
            block, layer = name.split(".")[:2]
            if (layer == color and block not in used) or int(block[1:]) > largest:
                parameter.fill_(torch.nan)
        found = network(z, label, lod=lod) if color == "torgb" else network(torch.ones(4, 3, 32, 32), lod=lod)
        assert torch.isfinite(found).all()


@pytest.mark.parametrize("fused", [False, True])
def test_the_gradient_penalty_has_gradients_at_a_fractional_level_of_detail(fused: bool) -> None:
    discriminator = small(Discriminator, fused=fused).double()
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    images.requires_grad_(True)
    weight = discriminator.b8.conv0.weight

    def penalty(shift: Tensor) -> Tensor:
        replaced = {"b8.conv0.weight": weight + shift}
        scores = torch.func.functional_call(discriminator, replaced, (images,), {"lod": 1.5})
        (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
        return (gradient.square().sum(dim=(1, 2, 3)).sqrt() - 1).square().mean()

    shift = torch.zeros_like(weight).requires_grad_(True)
    (gradient,) = torch.autograd.grad(penalty(shift), shift)
    direction = torch.randn(weight.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    difference = (penalty(1e-5 * direction) - penalty(-1e-5 * direction)).detach() / 2e-5
    torch.testing.assert_close((gradient * direction).sum(), difference, rtol=1e-3, atol=1e-9)


def test_labels_are_normalized_together_with_z() -> None:
    generator = small(progan.Generator, z_dim=5).double()
    z, label = (array.double() for array in inputs())
    images = generator(z, label)
    torch.testing.assert_close(generator(3 * z, 3 * label), images, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(generator(3 * z, label), images, atol=1e-2)
    plain = small(progan.Generator, z_dim=5, normalize_latents=False).double()
    assert not torch.allclose(plain(3 * z, 3 * label), plain(z, label), atol=1e-2)


def test_fused_upsampling_is_repetition_and_convolution_with_the_turned_kernel() -> None:
    fused, parted = small(progan.Generator, z_dim=5, fused=True), small(progan.Generator, z_dim=5)
    turned = {
        name: value.flip(2, 3) if name.endswith("conv0.weight") else value for name, value in fused.state_dict().items()
    }
    parted.load_state_dict(turned)
    z, label = (array.double() for array in inputs())
    torch.testing.assert_close(fused.double()(z, label), parted.double()(z, label))


def test_fused_downsampling_averages_before_bias_and_rectifier_and_unfused_after_them() -> None:
    x = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(5))
    for fused in (False, True):
        block = small(Discriminator, fused=fused).get_submodule("b8")
        first = F.leaky_relu(block.conv0(x), 0.2)
        plain = F.conv2d(first, block.conv1.weight * (2 / 72) ** 0.5, padding=1)
        bias = block.conv1.bias[:, None, None]
        expected = (
            F.leaky_relu(F.avg_pool2d(plain, 2) + bias, 0.2)
            if fused
            else F.avg_pool2d(F.leaky_relu(plain + bias, 0.2), 2)
        )
        torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("count", "group"), [(8, 4), (6, 6), (3, 3), (1, 1)])  # 6 is no multiple of 4: one group
def test_consecutive_deviation_is_unbiased_over_images_that_follow_each_other(count: int, group: int) -> None:
    x = torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(6))
    found = ConsecutiveDeviation(4)(x)
    assert torch.equal(found[:, :3], x)
    for image in range(count):
        first = image // group * group
        values = x[first : first + group].numpy().astype(np.float64)
        deviation = np.sqrt(values.var(axis=0, ddof=1) + 1e-8).mean() if group > 1 else 0
        np.testing.assert_allclose(found[image, 3].numpy(), deviation, rtol=1e-5)


def test_without_a_group_the_discriminator_looks_at_each_image_alone() -> None:
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(7))
    discriminator = small(Discriminator, group=0)
    torch.testing.assert_close(discriminator(images)[:1], discriminator(images[:1]), rtol=1e-5, atol=1e-6)
    assert discriminator.b4.conv.weight.shape[1] == discriminator.b4.conv.weight.shape[0]


def test_a_seed_gives_the_latent_of_numpy_whatever_the_noise_mode() -> None:
    for noise in ("none", "per-seed"):
        drawn = progan.draw({"z_dim": 6, "c_dim": 2}, 17, noise)
        assert list(drawn) == ["z"]
        assert drawn["z"].dtype == np.float32
        assert np.array_equal(drawn["z"], np.random.RandomState(17).randn(1, 6).astype(np.float32)[0])
    assert progan.NOISES == ()
    assert progan.styles({"resolution": 64}) == 0


def test_bytes_are_rounded_half_to_even_and_clipped() -> None:
    steps = np.arange(-127, 128, dtype=np.float32) / np.float32(127.5)
    levels = steps * np.float32(127.5) + np.float32(127.5)
    ties = steps[levels % 1 == 0.5]
    assert len(ties) > 100
    found = progan.to_uint8(torch.tensor(ties).reshape(1, 1, 1, -1).expand(1, 3, 1, -1))
    assert found.shape == (1, 1, len(ties), 3)
    assert (found % 2 == 0).all()
    assert np.array_equal(found[0, 0, :, 1].numpy(), np.rint(levels[levels % 1 == 0.5]))
    edges = torch.tensor([-9.0, -1.0, 1.0, 9.0]).reshape(1, 1, 1, 4).expand(1, 3, 1, 4)
    assert progan.to_uint8(edges)[0, 0, :, 0].tolist() == [0, 0, 255, 255]


def test_impossible_requests_are_refused_in_a_sentence() -> None:
    generator, discriminator = small(progan.Generator, z_dim=5), small(Discriminator)
    z, label = inputs()
    with pytest.raises(ValueError, match="it needs a label of width 3"):
        generator(z)
    for lod in (-0.5, 3.5, float("nan")):
        with pytest.raises(ValueError, match=f"network of 32 pixels is 0 to 3, not {lod:g}"):
            generator(z, label, lod=lod)
    with pytest.raises(ValueError, match=r"32 pixels or 16 \(level of detail 1\), not \(8, 8\)"):
        discriminator(torch.zeros(4, 3, 8, 8), lod=1.5)
    with pytest.raises(ValueError, match=r"square images of 32 pixels, not \(32, 16\)"):
        discriminator(torch.zeros(4, 3, 32, 16))
    with pytest.raises(ValueError, match=r"psi is 1 and cutoff is none, not 0\.5 and None"):
        progan.render(generator, {"z": z, "label": label}, psi=0.5)
    with pytest.raises(ValueError, match="groups images interleaved or consecutive, not 'random'"):
        Discriminator(**SMALL, grouping="random")
    with pytest.raises(ValueError, match=r"32 pixels need 4 positive numbers of feature maps, not \[8, 8\]"):
        progan.Generator(**SMALL, z_dim=5, features=[8, 8])
    with pytest.raises(ValueError, match="power of two from 8 to 4096, not 48"):
        progan.build({"z_dim": 5, "c_dim": 0, "resolution": 48})
    with pytest.raises(TypeError, match="w_dim"):
        progan.build({"z_dim": 5, "c_dim": 0, "w_dim": 5, "resolution": 32})
