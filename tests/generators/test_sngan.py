"""SNGAN: six upsamplings, spectral normalization and its counts of weights, against golden vectors and slow loops."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from golden_files import Golden, GoldenDocument
from small_games import game_of, recipe_of, watched
from torch import nn

from stages.generators import sngan, sngan_discriminator
from stages.generators.layers import BatchNorm, parameters
from stages.generators.sngan import METHODS, doubled
from stages.generators.sngan_recipe import generator_parameters, matching
from stages.train_generator import discriminator_architecture, generator_architecture


def by_rule(network: nn.Module, gain: float) -> nn.Module:
    """Weights by the rule of the golden set, in float64."""
    network = network.double()
    state = network.state_dict()
    for name, value in state.items():
        start = np.random.RandomState(sum(name.encode()))
        if name.endswith(".u"):
            name = f"u.{name.removesuffix('u')}weight"
            drawn = np.random.RandomState(sum(name.encode())).standard_normal(tuple(value.shape))
        else:
            drawn = start.standard_normal(tuple(value.shape))
            last = name.rpartition(".")[2]
            if value.ndim > 1:
                drawn *= gain / np.sqrt(drawn[0].size)
            elif last == "running_var":
                drawn = 1 + np.abs(0.3 * drawn)
            else:
                drawn = 1 + 0.2 * drawn if last == "weight" else 0.1 * drawn
        state[name if name in state else name.removeprefix("u.").removesuffix("weight") + "u"] = torch.from_numpy(drawn)
    network.load_state_dict(state)
    return network.requires_grad_(False)


def of_golden(golden: Golden) -> dict[str, Any]:
    return GoldenDocument(golden.path.parent / "expected.json").content


def generator_of(about: dict[str, Any], upsampling: str) -> Any:
    given = {"z_dim": about["z_dim"], "c_dim": 0, "resolution": about["side"], "ch": about["ch"]}
    return by_rule(sngan.Generator(**given, upsampling=upsampling), 1.4).eval()


def discriminator_of(about: dict[str, Any]) -> Any:
    given = {"c_dim": 0, "resolution": about["side"], "ch": about["ch"]}
    return by_rule(sngan_discriminator.Discriminator(**given), 1.2)


@pytest.mark.golden("sngan", "*.npz", keys="G_.*")
def test_images_of_all_upsamplings_are_those_of_the_reference(golden: Golden) -> None:
    about, z = of_golden(golden), torch.from_numpy(golden["z"])
    assert {f"G_{method}" for method in METHODS} <= set(golden.keys())
    for match in golden.matches(r"G_(\w+)_mean_std"):
        made = generator_of(about, match[1])(z).numpy()
        wanted = golden[f"G_{match[1]}"]
        np.testing.assert_allclose(
            [made.mean(), made.std(ddof=1)], golden[match[0]], rtol=0, atol=1e-9, err_msg=match[1]
        )
        part = made[:, :, 5 : 5 + wanted.shape[2], 5 : 5 + wanted.shape[3]]
        np.testing.assert_allclose(part, wanted, rtol=0, atol=1e-6, err_msg=match[1])  # stored in single precision


@pytest.mark.golden("sngan", "*.npz", keys="D_.*")
def test_scores_and_vectors_after_one_step_are_those_of_the_reference(
    golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = of_golden(golden)
    judge = discriminator_of(about)
    images = generator_of(about, "nearest")(torch.from_numpy(golden["z"]))
    names = {name.removesuffix(".u"): value for name, value in judge.state_dict().items() if name.endswith(".u")}
    first = {name: value.clone() for name, value in names.items()}
    scores = judge.eval()(images).numpy()
    assert all(torch.equal(first[name], value) for name, value in names.items())  # evaluation moves nothing
    np.testing.assert_allclose(judge.train()(images).numpy(), golden["D_with_one_iteration"], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(scores, golden["D_with_one_iteration"], rtol=1e-9, atol=1e-9)
    for name, value in names.items():
        np.testing.assert_allclose(value.numpy(), golden[f"u1.{name}.weight"], atol=1e-9, err_msg=name)
    monkeypatch.setattr(sngan_discriminator, "normalized", lambda weight, u, keep: weight)
    np.testing.assert_allclose(judge(images).numpy(), golden["D_without_normalization"], rtol=1e-9, atol=1e-9)


@pytest.mark.golden("sngan", "*.json", keys="sigma")
def test_estimated_singular_values_are_those_of_the_reference_and_converge(golden: GoldenDocument) -> None:
    judge = discriminator_of(golden.content)
    for name, wanted in golden["sigma"].items():
        layer = judge.get_submodule(name.removesuffix(".weight"))
        assert (layer.weight / layer.bounded()).mean().item() == pytest.approx(wanted["sigma_after_1"], abs=1e-9)
        assert np.linalg.svd(layer.weight.flatten(1).numpy())[1][0] == pytest.approx(wanted["sigma_svd"], abs=1e-9)
        for _ in range(100):
            bounded = layer.bounded()
        assert (layer.weight / bounded).mean().item() == pytest.approx(wanted["sigma_svd"], abs=1e-6)


@pytest.mark.golden("sngan", "*.json", keys="generator_names_transposed")
def test_names_and_shapes_are_those_of_the_reference(golden: GoldenDocument) -> None:
    about = golden.content
    for network, wanted in (
        (generator_of(about, "transposed"), golden["generator_names_transposed"]),
        (discriminator_of(about), golden["discriminator_names"]),
    ):
        assert {name: list(value.shape) for name, value in network.named_parameters()} == wanted


@pytest.mark.golden("sngan", "*.json", keys="parameters")
def test_counts_of_weights_are_those_of_the_published_sizes(golden: GoldenDocument) -> None:
    for name, count in golden["parameters"].items():
        found = re.fullmatch(r"([GD])(\d+)_ch(\d+)(?:_(\w+))?", name)
        if found is None:  # of another family
            continue
        side, ch, method = int(found[2]), int(found[3]), found[4]
        if found[1] == "G":
            given: Any = {"z_dim": 128, "upsampling": method}
            assert generator_parameters(side, ch, method, 128) == count
        module, given = (sngan.Generator, given) if found[1] == "G" else (sngan_discriminator.Discriminator, {})
        with torch.device("meta"):
            network: Any = module(c_dim=0, resolution=side, ch=ch, **given)
        assert parameters(network) == count, name


def test_what_is_left_out_is_as_published_and_counts_may_be_matched() -> None:
    recipe = recipe_of("sngan", network={}, discriminator={})
    for side, ch, of_judge in ((32, 256, 128), (64, 64, 64), (128, 64, 64)):
        assert generator_architecture(recipe, side, 0) == {
            "z_dim": 128, "ch": ch, "upsampling": "nearest", "c_dim": 0, "resolution": side,
        }  # fmt: skip
        assert discriminator_architecture(recipe, side, 0) == {"ch": of_judge, "c_dim": 0, "resolution": side}
    matched = {"upsampling": "pixel_shuffle", "match_parameters": True}
    for side in (32, 64):
        given = generator_architecture(recipe_of("sngan", network=matched), side, 0)
        with torch.device("meta"):
            counts = [parameters(sngan.Generator(**{**given, "ch": given["ch"] + more})) for more in (-1, 0, 1)]
        distances = [abs(count - {32: 4_276_739, 64: 12_220_675}[side]) for count in counts]
        assert distances[1] < min(distances[0], distances[2])
    assert matching(32, 256, "bicubic", 128) == 256
    with torch.device("meta"):
        classes = sngan.Generator(z_dim=5, c_dim=3, resolution=64, ch=2, upsampling="transposed")
    assert parameters(classes) == generator_parameters(64, 2, "transposed", 5, 3)


def test_doublings_are_those_of_slow_loops() -> None:
    x = np.random.default_rng(0).normal(size=(1, 2, 3, 4))
    near = {0: [(-1, 0.25), (0, 0.75)], 1: [(0, 0.75), (1, 0.25)]}
    cubic = [-0.03515625, 0.26171875, 0.87890625, -0.10546875]  # of a = -3/4, a quarter of a pixel before the middle
    wide = {0: [(k - 2, cubic[k]) for k in range(4)], 1: [(k - 1, cubic[::-1][k]) for k in range(4)]}
    for method in ("nearest", "bed_of_nails", "bilinear", "bicubic"):
        found = doubled(torch.from_numpy(x), method).numpy()[0]
        assert found.shape == (2, 6, 8)
        for row in range(6):
            for column in range(8):
                if method == "nearest":
                    wanted = x[0, :, row // 2, column // 2]
                elif method == "bed_of_nails":
                    wanted = x[0, :, row // 2, column // 2] * (row % 2 == 0 and column % 2 == 0)
                else:
                    taps = near if method == "bilinear" else wide
                    wanted = sum(
                        a * b * x[0, :, np.clip(row // 2 + i, 0, 2), np.clip(column // 2 + j, 0, 3)]
                        for i, a in taps[row % 2]
                        for j, b in taps[column % 2]
                    )
                np.testing.assert_allclose(found[:, row, column], wanted, atol=1e-7, err_msg=method)


def test_classes_choose_gains_and_add_a_projection() -> None:
    random = torch.Generator().manual_seed(0)
    x, label = torch.randn(3, 2, 4, 4, generator=random), torch.eye(2)[[0, 1, 1]]
    layer = BatchNorm(2, 2).eval()
    layer.running_mean[:] = torch.tensor([0.5, -1.0])
    layer.running_var[:] = torch.tensor([4.0, 0.25])
    with torch.no_grad():
        layer.weight[:] = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        layer.bias[:] = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    wanted = torch.stack([(x[0] - torch.tensor([0.5, -1.0])[:, None, None]) / torch.tensor([2.0, 0.5])[:, None, None]])
    wanted = wanted * torch.tensor([1.0, 2.0])[:, None, None] + torch.tensor([0.0, 1.0])[:, None, None]
    torch.testing.assert_close(layer(x, label)[:1], wanted, rtol=1e-4, atol=1e-4)
    judge = sngan_discriminator.Discriminator(c_dim=2, resolution=8, ch=3).eval()
    images = torch.randn(2, 3, 8, 8, generator=random)
    features: list[torch.Tensor] = []
    judge.l.register_forward_pre_hook(lambda module, given: features.append(given[0]))
    with torch.no_grad():
        scores = [judge(images, torch.eye(2)[[k, k]]) for k in (0, 1)]
        rows = judge.l_y.weight / (judge.l_y.weight / judge.l_y.bounded()).mean()
        difference = (features[0] * (rows[0] - rows[1])).sum(dim=1)
    torch.testing.assert_close((scores[0] - scores[1])[:, 0], difference, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="is conditional: it needs a label of width 2"):
        judge(images)
    with pytest.raises(ValueError, match="is conditional: it needs a label of width 2"):
        layer(x)


def test_the_generator_goes_first_with_more_latents_then_the_discriminator_several_times() -> None:
    game = game_of("sngan", batch=2, discriminator_steps=3, generator_batches=2, kimg=0.06, decay=0.5)
    calls: list[tuple[Any, Any]] = []
    game.update = watched(lambda name, loss: type(game).update(game, name, loss), calls)
    latents: list[tuple[Any, Any]] = []
    game.normal = watched(game.normal, latents)
    used, log = game.step(0)
    assert [given[0] for given, _ in calls] == ["generator", *["discriminator"] * 3]
    assert [given for given, _ in latents] == [(4, 4), *[(2, 4)] * 3]
    assert used == 6
    assert {"generator", "discriminator"} == set(log)
    rate = game.recipe.learning_rate
    for seen, share in ((0, 1.0), (29, 1.0), (30, 1.0), (45, 0.5), (54, 0.2)):
        game.set_fall(seen)
        game.set_rates(8)
        assert game.optimizers["generator"].param_groups[0]["lr"] == pytest.approx(rate * share)
    game.warm_up_images = 15
    game.set_fall(60)
    assert game.fall == pytest.approx(0.5)


def test_photographs_are_scaled_to_128_levels_with_noise_below_one() -> None:
    game = game_of("sngan")
    before = game.random.get_state()
    found, _ = game.photographs(4)
    game.random.set_state(before)
    levels = (game.images.draw(4)[0] + 1) * 127.5
    noise = (found + 1) * 128 - levels
    assert noise.min() > -1e-3
    assert noise.max() < 1 + 1e-3
    assert noise.std().item() == pytest.approx(12**-0.5, rel=0.2)


def test_networks_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a SNGAN doubles images by nearest, bilinear, .*, not by 'lanczos'"):
        sngan.Generator(z_dim=4, c_dim=0, resolution=8, ch=2, upsampling="lanczos")
    with pytest.raises(ValueError, match="a SNGAN has ch and z_dim of at least 1, not 0 and 4"):
        sngan.Generator(z_dim=4, c_dim=0, resolution=8, ch=0)
    with pytest.raises(ValueError, match="has ch of at least 1, not 0"):
        sngan_discriminator.Discriminator(c_dim=0, resolution=8, ch=0)
    with pytest.raises(ValueError, match=r"no styles to truncate: psi is 1 and cutoff is none, not 0\.5 and None"):
        sngan.render(nn.Identity(), {}, psi=0.5)
