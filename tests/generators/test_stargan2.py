"""StarGAN v2 against outputs of its authors' code, and against closed forms and slow loops."""

from __future__ import annotations

import gzip
import re
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden_files import Golden
from PIL import Image
from torchvision.utils import save_image

from stages.generators import stargan2, stargan2_masks, stargan2_official
from stages.generators.layers import parameters
from stages.generators.stargan2_discriminator import Discriminator
from stages.weights.checkpoints import Contents, read_contents
from stages.weights.filling import fill

FILES = ("generators", "stargan2_*.npz")
SMALL: dict[str, Any] = {"resolution": 32, "c_dim": 3, "width": 6, "max_width": 10, "mapping_width": 12, "w_dim": 5}
FACES: dict[str, Any] = {**SMALL, "resolution": 128, "w_hpf": 1.0}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For unpacked checkpoints."""
    return tmp_path_factory.mktemp("checkpoints")


@lru_cache(maxsize=4)
def checkpoints_of(path: Path, folder: Path) -> list[Contents]:
    """The checkpoints beside a file of outputs: those whose name is its stem, unpacked if they are gzipped."""
    found = []
    for file in sorted(path.parent.iterdir()):
        if file.suffix in (".npz", ".md") or not re.match(rf"{re.escape(path.stem)}(\.|_discriminator\.)", file.name):
            continue
        if file.suffix == ".gz":
            unpacked = folder / file.stem
            with gzip.open(file) as packed, unpacked.open("wb") as plain:
                shutil.copyfileobj(packed, plain)
            file = unpacked
        found.append(read_contents(file))
    return found


@lru_cache(maxsize=4)
def generator_of(path: Path, folder: Path) -> stargan2.Generator:
    """The generator behind a file of outputs."""
    contents = [each for each in checkpoints_of(path, folder) if stargan2_official.recognize(each) == "networks"]
    assert len(contents) == 1
    converted = stargan2_official.generator(contents[0])
    generator = stargan2.build(converted.architecture)
    fill("golden", generator, converted.tensors)
    return generator


def pixels(golden: Golden, key: str) -> torch.Tensor:
    return (torch.from_numpy(golden[key]).float() / 255 - 0.5) / 0.5


@lru_cache(maxsize=4)
def masks_of(path: Path, folder: Path) -> stargan2.Masks | None:
    return generator_of(path, folder).masks(pixels(Golden(path), "x_src_uint8"))


def styles_of(golden: Golden, generator: stargan2.Generator) -> dict[str, torch.Tensor]:
    target, own = (torch.from_numpy(golden[key]) for key in ("y_trg", "y_src"))
    with torch.no_grad():
        return {
            "s_latent": generator.style_of_latent(torch.from_numpy(golden["z"]), target),
            "s_reference": generator.style_of_reference(pixels(golden, "x_ref_uint8"), target),
            "s_source": generator.style_of_reference(pixels(golden, "x_src_uint8"), own),
        }


def assert_close(found: torch.Tensor, expected: np.ndarray[Any, Any]) -> None:
    assert found.shape == expected.shape
    difference = np.abs(found.detach().numpy() - expected)
    assert difference.max() <= 1e-4
    assert difference.mean() <= 1e-5


@pytest.mark.golden(*FILES)
def test_styles_of_latents_and_references_are_the_official_ones(golden: Golden, folder: Path) -> None:
    generator = generator_of(golden.path, folder)
    found = styles_of(golden, generator)
    for key, style in found.items():
        assert_close(style, golden[key])
    truncated = [key for key in golden.keys() if key.startswith("s_latent_psi")]  # noqa: SIM118
    assert truncated
    domain, bank = torch.from_numpy(golden["y_trg"]), torch.from_numpy(golden["psi_z_bank"])
    for key in truncated:
        psi = float(key.removeprefix("s_latent_psi"))
        assert_close(generator.truncate(found["s_latent"], domain, psi, bank), golden[key])


@pytest.mark.golden(*FILES)
def test_images_and_bytes_are_the_official_ones(golden: Golden, folder: Path) -> None:
    generator, masks = generator_of(golden.path, folder), masks_of(golden.path, folder)
    styles, source = styles_of(golden, generator), pixels(golden, "x_src_uint8")
    keys = [
        re.fullmatch(r"(image|uint8)_(latent|reference)(_masks_none)?_(\d+)(?:_stride(\d+))?", key)
        for key in golden.keys()  # noqa: SIM118
    ]
    assert {match[1] for match in keys if match} == {"image", "uint8"}
    made: dict[tuple[str, bool, int], torch.Tensor] = {}
    for match in filter(None, keys):
        one, step = slice(int(match[4]), int(match[4]) + 1), int(match[5] or 1)
        edges = masks is not None and not match[3]
        what = (match[2], edges, one.start)
        if what not in made:
            mask = (masks[0][one], masks[1][one]) if masks is not None and edges else None
            with torch.no_grad():
                made[what] = generator.translate(source[one], styles[f"s_{match[2]}"][one], mask)
        if match[1] == "image":
            assert_close(made[what][..., ::step, ::step], golden[match[0]])
        else:
            found = stargan2.to_uint8(made[what]).permute(0, 3, 1, 2)[..., ::step, ::step].numpy()
            difference = np.abs(found.astype(int) - golden[match[0]])
            assert difference.max() <= 1
            assert (difference == 0).mean() >= 0.995


@pytest.mark.golden(*FILES)
def test_landmarks_and_masks_are_the_official_ones(golden: Golden, folder: Path) -> None:
    generator, masks = generator_of(golden.path, folder), masks_of(golden.path, folder)
    assert (masks is None) == ("mask0_0" not in golden.arrays)
    for key in golden.keys():  # noqa: SIM118
        if match := re.fullmatch(r"mask([01])_(\d+)", key):
            assert masks is not None
            index = int(match[2])
            difference = np.abs(masks[int(match[1])][index : index + 1].numpy() - golden[key])
            assert (difference <= 1e-3).mean() >= 0.999
        elif match := re.fullmatch(r"fan_raw_heatmap_f16_(\d+)(?:_stride(\d+))?", key):
            assert generator.fan is not None
            index, step = int(match[1]), int(match[2] or 1)
            with torch.no_grad():
                heatmaps = generator.fan(pixels(golden, "x_src_uint8")[index : index + 1] * 0.5 + 0.5)
            assert np.abs(heatmaps[..., ::step, ::step].numpy() - golden[key].astype(np.float32)).max() <= 2e-3


def test_scores_and_the_gradient_penalty_are_the_official_ones(pytestconfig: pytest.Config, folder: Path) -> None:
    compared = 0
    for path in sorted((pytestconfig.getoption("--golden") / FILES[0]).glob(FILES[1])):
        golden = Golden(path)
        converted = [stargan2_official.discriminator(contents) for contents in checkpoints_of(path, folder)]
        for each in filter(None, converted):
            discriminator = Discriminator(**each.architecture)
            fill("golden", discriminator, each.tensors)
            source = pixels(golden, "x_src_uint8").requires_grad_(True)
            scores = discriminator(source, torch.from_numpy(golden["y_src"]))
            np.testing.assert_allclose(scores[:, 0].detach().numpy(), golden["d_logit_src"], rtol=1e-4, atol=1e-5)
            (gradient,) = torch.autograd.grad(scores.sum(), source)
            penalty = 0.5 * gradient.square().sum(dim=(1, 2, 3)).mean()
            np.testing.assert_allclose(penalty.numpy(), golden["r1"].item(), rtol=1e-4, atol=1e-5)
            generator, masks = generator_of(path, folder), masks_of(path, folder)
            with torch.no_grad():
                fakes = generator.translate(source, styles_of(golden, generator)["s_latent"], masks)
                scores = discriminator(fakes, torch.from_numpy(golden["y_trg"]))
            np.testing.assert_allclose(scores[:, 0].numpy(), golden["d_logit_fake"], rtol=1e-4, atol=1e-5)
            compared += 1
    assert compared


@pytest.mark.parametrize(
    ("c_dim", "w_hpf", "translator", "mapping", "encoder", "scores"),
    [
        (2, 1.0, 43_467_395, 2_438_272, 20_916_928, 20_852_290),  # faces
        (3, 0.0, 33_892_995, 3_259_072, 20_949_760, 20_852_803),  # animals
    ],
)
def test_published_sizes_have_the_published_number_of_parameters(
    c_dim: int, w_hpf: float, translator: int, mapping: int, encoder: int, scores: int
) -> None:
    with torch.device("meta"):
        generator = stargan2.Generator(resolution=256, c_dim=c_dim, w_hpf=w_hpf, fan=w_hpf > 0)
        discriminator = Discriminator(resolution=256, c_dim=c_dim)
    assert parameters(generator.generator) == translator
    assert parameters(generator.mapping_network) == mapping
    assert parameters(generator.style_encoder) == encoder
    assert parameters(discriminator) == scores
    assert (0 if generator.fan is None else parameters(generator.fan)) == (6_333_603 if w_hpf else 0)


@pytest.mark.parametrize(
    "sizes",
    [
        {"resolution": 32, "width": 1, "max_width": 1},
        {"resolution": 32, "width": 7, "max_width": 5},
        {"resolution": 64, "width": 16, "max_width": 64},
        {"resolution": 32, "width": 6, "max_width": 10, "w_hpf": 2.0},
        {"resolution": 512, "max_width": 40},
    ],
)
def test_any_resolution_and_width_translates_and_is_scored(sizes: dict[str, Any]) -> None:
    side = sizes["resolution"]
    with torch.device("meta"):
        generator = stargan2.Generator(**{**SMALL, "width": None, **sizes})
        own = {key: value for key, value in sizes.items() if key != "w_hpf"}
        discriminator = Discriminator(c_dim=3, **own)
        images = torch.zeros(2, 3, side, side)
        made = generator.translate(images, torch.zeros(2, 5), None)
        assert made.shape == images.shape
        assert generator.style_encoder.shared(images).shape[2:] == (1, 1)
        assert discriminator.main(images).shape == (2, 3, 1, 1)


def test_each_image_gets_the_style_and_the_score_of_its_own_domain() -> None:
    generator, discriminator = stargan2.Generator(**SMALL), Discriminator(resolution=32, c_dim=3, width=6, max_width=10)
    random = torch.Generator().manual_seed(1)
    images, z = torch.randn(4, 3, 32, 32, generator=random), torch.randn(4, 16, generator=random)
    domains = torch.tensor([2, 0, 1, 2])
    latent, reference = generator.style_of_latent(z, domains), generator.style_of_reference(images, domains)
    scores = discriminator(images, domains)
    assert scores.shape == (4, 1)
    for index, domain in enumerate(domains.tolist()):
        h = generator.mapping_network.shared(z[index])
        torch.testing.assert_close(latent[index], generator.mapping_network.unshared[domain](h))
        h = generator.style_encoder.shared(images[index : index + 1]).flatten()
        torch.testing.assert_close(reference[index], generator.style_encoder.unshared[domain](h))
        torch.testing.assert_close(scores[index, 0], discriminator.main(images[index : index + 1])[0, domain, 0, 0])


def test_every_head_of_the_mapping_network_gets_a_gradient_as_in_the_official_training() -> None:
    generator: Any = stargan2.Generator(**SMALL)
    generator.style_of_latent(torch.ones(1, 16), torch.tensor([1])).sum().backward()
    heads = [head[0].weight.grad for head in generator.mapping_network.unshared]
    assert [float(gradient.abs().sum()) > 0 for gradient in heads] == [False, True, False]


def test_a_block_normalizes_scales_and_shifts_each_map_by_the_style() -> None:
    block, random = stargan2.AdaptiveNorm(4, 5), torch.Generator().manual_seed(2)
    x, style = torch.randn(2, 4, 6, 6, generator=random) * 3 + 1, torch.randn(2, 5, generator=random)
    found = block(x, style).detach().numpy()
    h = style.numpy() @ block.fc.weight.detach().numpy().T + block.fc.bias.detach().numpy()
    for image in range(2):
        for channel in range(4):
            plane = x[image, channel].numpy().astype(np.float64)
            expected = (plane - plane.mean()) / np.sqrt(plane.var() + 1e-5)
            expected = (1 + h[image, channel]) * expected + h[image, 4 + channel]
            np.testing.assert_allclose(found[image, channel], expected, atol=1e-5)


def test_weights_begin_as_he_normal_and_biases_as_zero() -> None:
    torch.manual_seed(0)
    generator: Any = stargan2.Generator(**{**SMALL, "width": 32, "max_width": 64, "mapping_width": 256, "w_dim": 64})
    for layer, inputs in (
        (generator.generator.encode[0].conv1, 32 * 9),
        (generator.generator.decode[0].norm1.fc, 64),
        (generator.mapping_network.shared[2], 256),
        (generator.style_encoder.shared[1].conv2, 32 * 9),
    ):
        assert layer.weight.std().item() == pytest.approx((2 / inputs) ** 0.5, rel=0.05)
        assert not layer.bias.any()


def test_the_average_style_is_that_of_ten_thousand_drawn_latents_and_psi_draws_to_it() -> None:
    generator = stargan2.Generator(**SMALL).requires_grad_(False)
    domain = torch.tensor([2, 0, 2])
    latents = torch.from_numpy(np.random.RandomState(0).randn(10_000, 16).astype(np.float32))
    h = generator.mapping_network.shared(latents)
    expected = torch.stack([generator.mapping_network.unshared[index](h).mean(dim=0) for index in (2, 0, 2)])
    torch.testing.assert_close(generator.average_style(domain), expected)
    style = torch.ones(3, 5)
    torch.testing.assert_close(generator.truncate(style, domain, 0.25), expected + 0.25 * (1 - expected))
    assert generator.truncate(style, domain, 1.0) is style


def test_the_high_pass_filter_is_the_laplacian_with_zeros_outside() -> None:
    x = torch.ones(1, 2, 5, 5)
    x[0, 1, 2, 2] = 3
    found = stargan2.high_pass(x, 2.0) * 2
    border = np.array([[5, 3, 3, 3, 5], [3, 0, 0, 0, 3], [3, 0, 0, 0, 3], [3, 0, 0, 0, 3], [5, 3, 3, 3, 5]])
    point = np.zeros((5, 5))
    point[1:4, 1:4], point[2, 2] = -2, 16
    assert np.array_equal(found[0, 0].numpy(), border)
    assert np.array_equal(found[0, 1].numpy(), border + point)


def test_edges_of_the_source_enter_behind_the_blocks_of_three_sides_by_their_mask() -> None:
    generator = stargan2.Generator(**FACES).requires_grad_(False).generator
    random = torch.Generator().manual_seed(3)
    source, style = torch.randn(1, 3, 128, 128, generator=random), torch.randn(1, 5, generator=random)
    coarse, fine = torch.rand(2, 1, 1, 256, 256, generator=random)
    encoded: dict[int, torch.Tensor] = {}
    decoded: list[torch.Tensor] = []
    for block in generator.encode:
        block.register_forward_pre_hook(lambda _, given: encoded.update({given[0].shape[2]: given[0]}))
    for block in (*generator.decode, generator.to_rgb):
        block.register_forward_pre_hook(lambda _, given: decoded.append(given[0]))
    generator(source, style, (coarse, fine))
    steps = list(zip(generator.decode, decoded[:-1], decoded[1:], strict=True))
    assert {after.shape[2] for _, _, after in steps} == {8, 16, 32, 64, 128}
    for block, before, after in steps:
        expected, side = block(before, style), after.shape[2]
        if side >= 32:
            mask = F.interpolate(coarse if side == 32 else fine, size=(side, side), mode="bilinear")
            expected = expected + stargan2.high_pass(mask * encoded[side], 1.0)
        torch.testing.assert_close(after, expected, atol=1e-5, rtol=1e-5)


def test_blocks_with_edges_have_no_shortcut_but_its_weight() -> None:
    block: Any = stargan2.StyledBlock(4, 3, 5, up=True, edges=True)
    made = block(torch.randn(1, 4, 8, 8), torch.randn(1, 5))
    made.sum().backward()
    assert made.shape == (1, 3, 16, 16)
    assert block.conv1x1.weight.grad is None
    for layer in (block.conv2, block.conv1):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    assert not block(torch.randn(1, 4, 8, 8), torch.randn(1, 5)).any()


def test_masks_follow_the_published_list_of_shifts_and_powers() -> None:
    random = np.random.RandomState(5)
    heatmaps = random.rand(98, 256, 256) * (random.rand(98, 256, 256) < 0.005) - 0.01  # few points, many of them faint
    heatmaps[10] = random.rand(256, 256) + 0.2  # nowhere faint
    found = stargan2_masks.combined(torch.from_numpy(heatmaps[None]))
    parts = {
        **dict.fromkeys(range(8, 25), (0, 3)),
        **dict.fromkeys(range(33, 51), (-7, 2)),
        **dict.fromkeys(range(55, 60), (8, 4)),
        **dict.fromkeys(range(77, 82), (-8, 4)),
        **dict.fromkeys(range(83, 88), (8, 4)),
        **dict.fromkeys(range(88, 96), (-2, 3)),
        **dict.fromkeys(range(52, 55), (4, 1)),
    }
    dropped = {*range(8), *range(25, 33), 33, 46, 76, 82}
    both, fine = np.zeros((256, 256)), np.zeros((256, 256))
    for channel in set(range(98)) - dropped:
        plane = np.where(heatmaps[channel] < 0.1, 0, heatmaps[channel])
        plane = (plane - plane.min()) / (plane.max() - plane.min() + 1e-6)
        up = {pixels: plane[(np.arange(256) + pixels) % 256] for pixels in (-24, -8, parts.get(channel, (0, 1))[0])}
        if 60 <= channel <= 75:
            plane = up[-8] ** 3 + up[-24]
        elif channel in parts:
            plane = up[parts[channel][0]] ** parts[channel][1]
        both += plane
        fine += 0 if 8 <= channel <= 24 or 33 <= channel <= 50 or 76 <= channel <= 95 else plane
    np.testing.assert_allclose(found[0][0, 0].numpy(), both.clip(0, 1), atol=1e-9)
    np.testing.assert_allclose(found[1][0, 0].numpy(), fine.clip(0, 1), atol=1e-9)
    assert (both > 1).mean() < 0.5


def test_coordinates_are_row_column_and_distance_from_the_middle() -> None:
    found = stargan2_masks.with_coordinates(torch.zeros(1, 2, 5, 3))[0, 2:].numpy()
    for row, y in enumerate((-1, -0.5, 0, 0.5, 1)):
        for column, x in enumerate((-1, 0, 1)):
            expected = (y, x, (x * x + y * y) ** 0.5 / 2**0.5)
            np.testing.assert_allclose(found[:, row, column], expected, atol=1e-6)


def test_bytes_are_those_that_torchvision_saves(tmp_path: Path) -> None:
    ties = (2 * np.arange(255) + 1) / 255 - 1
    values = np.concatenate([ties, np.nextafter(ties, -2), np.nextafter(ties, 2), [-3, -1, 0, 1, 3, 0.1]])
    images = torch.from_numpy(values.astype(np.float32)).reshape(1, 1, 3, -1).expand(1, 3, 3, 257).contiguous()
    save_image(((images + 1) / 2).clamp(0, 1), tmp_path / "image.png", padding=0)
    assert np.array_equal(stargan2.to_uint8(images)[0].numpy(), np.array(Image.open(tmp_path / "image.png")))
    assert stargan2.to_uint8(torch.zeros(1, 3, 1, 1)).flatten().tolist() == [128] * 3


def test_a_seed_gives_one_latent_and_nothing_else() -> None:
    drawn = stargan2.draw({"z_dim": 7, "resolution": 64}, 11, None)
    assert list(drawn) == ["z"]
    assert drawn["z"].dtype == np.float32
    assert np.array_equal(drawn["z"], np.random.RandomState(11).randn(1, 7)[0].astype(np.float32))
    assert stargan2.NOISES == ()
    assert stargan2.styles({}) == 0


@pytest.mark.parametrize("kind", ["z", "reference"])
def test_rows_are_rendered_one_by_one_as_in_a_batch(kind: str) -> None:
    generator, random = stargan2.Generator(**SMALL), torch.Generator().manual_seed(4)
    rows = {"source": torch.randn(3, 3, 32, 32, generator=random), "domain": torch.tensor([1, 0, 1])}
    shape = (3, 16) if kind == "z" else (3, 3, 32, 32)
    rows[kind] = torch.randn(shape, generator=random)
    psi = 0.6 if kind == "z" else 1.0
    images = stargan2.render(generator, rows, psi=psi)
    assert images.shape == (3, 3, 32, 32)
    assert not images.requires_grad
    for index in range(3):
        one = stargan2.render(generator, {key: row[index : index + 1] for key, row in rows.items()}, psi=psi)
        torch.testing.assert_close(images[index : index + 1], one, atol=1e-5, rtol=1e-5)


def test_impossible_requests_are_refused_in_a_sentence() -> None:
    generator = stargan2.Generator(**SMALL)
    rows = {"source": torch.zeros(1, 3, 32, 32), "domain": torch.tensor([0]), "z": torch.zeros(1, 16)}
    with pytest.raises(ValueError, match="no cutoff, not 4"):
        stargan2.render(generator, rows, cutoff=4)
    with pytest.raises(ValueError, match="its noise is None, not 'const'"):
        stargan2.render(generator, rows, noise="const")
    with pytest.raises(ValueError, match="its noise is None, not 'per-seed'"):
        stargan2.draw({}, 0, "per-seed")
    with pytest.raises(ValueError, match=r"is not truncated: psi is 1, not 0\.5"):
        stargan2.render(
            generator, {"source": rows["source"], "domain": rows["domain"], "reference": rows["source"]}, psi=0.5
        )
    with pytest.raises(ValueError, match='either "z" or "reference"'):
        stargan2.render(generator, {**rows, "reference": rows["source"]})
    with pytest.raises(ValueError, match=r"domains 0 to 2, not all of \[3\]"):
        stargan2.render(generator, {**rows, "domain": torch.tensor([3])})
    with pytest.raises(ValueError, match=r"32x32 pixels, not \(64, 64\)"):
        stargan2.render(generator, {**rows, "source": torch.zeros(1, 3, 64, 64)})
    with pytest.raises(ValueError, match="power of two from 32 to 4096, not 16"):
        stargan2.Generator(**{**SMALL, "resolution": 16})
    with pytest.raises(ValueError, match="landmark network only with w_hpf > 0"):
        stargan2.Generator(**SMALL, fan=True)
