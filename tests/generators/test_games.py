"""Steps of ProGAN, StyleGAN and StyleGAN2: growth, averages, style mixing, penalties; against tables and slow loops."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_games import GROWING, STYLED, game_of, photos, state_of, watched
from torch import Tensor, nn

from stages.generators import progan
from stages.generators.games import faded
from stages.generators.losses import Wasserstein

NOISE = ("progan", *STYLED)
PROGAN_TO_32 = [
    (0, 3), (599_999, 3), (600_000, 3), (750_000, 2.75), (900_000, 2.5), (1_200_000, 2), (1_800_000, 2),
    (2_100_000, 1.5), (2_400_000, 1), (3_000_000, 1), (3_300_000, 0.5), (3_600_000, 0), (12_000_000, 0),
]  # fmt: skip
STYLEGAN_TO_32 = [
    (0, 2), (600_000, 2), (900_000, 1.5), (1_200_000, 1), (1_800_000, 1), (2_100_000, 0.5), (2_400_000, 0),
    (25_000_000, 0),
]  # fmt: skip


def copies(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def changed(network: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}


# Growth


@pytest.mark.parametrize(("family", "start", "table"), [("progan", 4, PROGAN_TO_32), ("stylegan", 8, STYLEGAN_TO_32)])
def test_growth_follows_the_published_schedule(family: str, start: int, table: list[tuple[int, float]]) -> None:
    game = game_of(family, side=32, grow_from=start, grow_kimg=600.0, fade_kimg=600.0)
    assert [game.lod(seen) for seen, _ in table] == pytest.approx([lod for _, lod in table])


def test_growth_may_jump_or_be_absent() -> None:
    jumping = game_of("progan", side=16, grow_kimg=0.01, fade_kimg=0.0)
    assert [jumping.lod(seen) for seen in (0, 9, 10, 19, 20, 99)] == [2, 2, 1, 1, 0, 0]
    fading = game_of("progan", side=16, grow_kimg=0.0, fade_kimg=0.01)
    assert [fading.lod(seen) for seen in (0, 5, 10, 15, 20, 99)] == [2, 1.5, 1, 0.5, 0, 0]
    assert game_of("progan", grow_kimg=0.0, fade_kimg=0.0).lod(0) == 0
    assert game_of("stylegan", grow_from=8).lod(0) == 0
    assert game_of("stylegan2").lod(0) == 0


@pytest.mark.parametrize("family", GROWING)
def test_batch_rates_and_images_are_those_of_the_resolution_that_is_trained(family: str) -> None:
    game = game_of(family, side=16, batch={4: 16, 8: 8, 16: 4}, learning_rate={4: 0.001, 16: 0.003})
    seen: list[tuple[int, ...]] = []
    game.discriminator.register_forward_pre_hook(lambda module, given: seen.append(tuple(given[0].shape)))
    for images, lod, side, batch, rate in [
        (0, 2.0, 4, 16, 0.001),
        (8, 2.0, 4, 16, 0.001),  # nothing of the next resolution is visible yet
        (12, 1.5, 8, 8, 0.001),
        (16, 1.0, 8, 8, 0.001),
        (28, 0.5, 16, 4, 0.003),
        (32, 0.0, 16, 4, 0.003),
    ]:
        seen.clear()
        used, log = game.step(images)
        assert used == batch
        assert log["lod"] == lod
        assert set(seen) == {(batch, 3, side, side)}
        assert {group["lr"] for one in game.optimizers.values() for group in one.param_groups} == {rate}
        assert [float(network.lod) for network in game.networks().values()] == [lod] * 3


@pytest.mark.parametrize("family", GROWING)
def test_optimizers_are_renewed_when_a_fade_begins_or_ends_and_only_then(family: str) -> None:
    game = game_of(family, side=16)  # 8 images, 8 more to fade, for each of two levels
    renewed = []
    for seen in range(0, 44, 4):
        before = dict(game.optimizers)
        game.step(seen)
        fresh = [name for name, optimizer in game.optimizers.items() if optimizer is not before[name]]
        if fresh:
            renewed.append(seen)
            assert sorted(fresh) == ["discriminator", "generator"]
            steps = {int(one["step"]) for name in fresh for one in game.optimizers[name].state.values()}
            assert steps == {1}
    assert renewed == [12, 16, 28, 32]


@pytest.mark.parametrize(("family", "prefix"), [("progan", ""), ("stylegan", "synthesis.")])
def test_layers_of_resolutions_to_come_stay_as_they_are(family: str, prefix: str) -> None:
    game = game_of(family, side=16)
    before = {name: copies(player) for name, player in game.players.items()}
    game.step(0)
    later = tuple(f"{place}{block}." for place in (prefix, "") for block in ("b8", "b16"))
    for name, player in game.players.items():
        moved = changed(player, before[name])
        assert moved
        assert not [one for one in moved if one.startswith(later)]


@pytest.mark.parametrize("family", GROWING)
@pytest.mark.parametrize(("images", "factor"), [(0, 4), (12, 2), (32, 1)])
def test_gradient_penalties_are_those_of_images_enlarged_to_the_full_side(
    family: str, images: int, factor: int
) -> None:
    game = game_of(family, side=16, learning_rate=1e-12)
    calls: list[tuple[Any, Any]] = []
    loss = game.loss
    game.loss = SimpleNamespace(discriminator=watched(loss.discriminator, calls), generator=loss.generator)
    before = game.random.get_state()
    lod = game.step(images)[1]["lod"]
    (given, (_, log)) = calls[0]
    reals, fakes = (F.interpolate(x / factor, scale_factor=factor) for x in given[1:3])
    assert reals.shape == (4, 3, 16, 16)
    share = torch.zeros(4, 1, 1, 1)
    if family == "progan":
        random = torch.Generator()
        random.set_state(before)
        game.images.random, after = random, game.random
        game.random = random
        game.images.draw(4)
        game.normal(4, 4)
        share, game.random = torch.rand((4, 1, 1, 1), generator=random), after
    x = (reals + (fakes - reals) * share).requires_grad_(True)
    (gradient,) = torch.autograd.grad(game.discriminator(x, lod=lod).sum(), x)
    squares = gradient.square().sum(dim=(1, 2, 3))
    expected = squares.sqrt().mean() if family == "progan" else squares.mean()
    assert log["gradient_norm" if family == "progan" else "r1"] == pytest.approx(expected.item(), rel=1e-3)


def test_the_end_of_a_training_is_at_full_resolution() -> None:
    game = game_of("progan")
    game.step(12)
    assert float(game.average.lod) == 0.5
    game.finish(16)
    assert [float(network.lod) for network in game.networks().values()] == [0, 0, 0]


@pytest.mark.parametrize(("side", "share"), [(8, 0.0), (8, 0.3), (4, 0.0), (4, 0.75)])
def test_real_images_are_reduced_and_faded_as_in_a_slow_loop(side: int, share: float) -> None:
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = faded(images, side, share).numpy()

    def halved(image: Any) -> Any:
        small = np.zeros((image.shape[0] // 2, image.shape[1] // 2))
        for y in range(small.shape[0]):
            for x in range(small.shape[1]):
                small[y, x] = image[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean()
        return small

    for k in range(2):
        for color in range(3):
            fine = images[k, color].double().numpy()
            fine = fine if side == 8 else halved(fine)
            coarse = halved(fine)
            for y in range(side):
                for x in range(side):
                    expected = (1 - share) * fine[y, x] + share * coarse[y // 2, x // 2]
                    assert found[k, color, y, x] == pytest.approx(expected, abs=1e-5)


# Averages


@pytest.mark.parametrize("family", NOISE)
def test_the_averaged_generator_follows_as_in_a_slow_loop_and_copies_buffers(family: str) -> None:
    game = game_of(family, average_beta=0.8, average_kimg=None)
    expected = {name: tensor.double() for name, tensor in copies(game.average).items()}
    names = {name for name, _ in game.generator.named_parameters()}
    for step in range(3):
        game.step(4 * step)
        for name, tensor in copies(game.generator).items():
            expected[name] = 0.8 * expected[name] + 0.2 * tensor.double() if name in names else tensor.double()
    for name, tensor in game.average.state_dict().items():
        torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-6)
    assert changed(game.average, copies(game.generator)) <= names


@pytest.mark.parametrize(
    ("kimg", "ramp", "seen", "batch", "half_life"),
    [
        (10.0, None, 0, 32, 10_000),
        (10.0, None, 500_000, 64, 10_000),
        (10.0, 0.05, 20_000, 32, 1_000),
        (10.0, 0.05, 200_000, 32, 10_000),
        (10.0, 0.05, 900_000, 32, 10_000),
        (10.0, 0.05, 0, 32, 1),
    ],
)
def test_the_half_life_of_the_average_may_grow_with_the_training(
    kimg: float, ramp: float | None, seen: int, batch: int, half_life: float
) -> None:
    game = game_of("stylegan2", average_kimg=kimg, average_ramp=ramp)
    with torch.no_grad():
        for slow, fast in zip(game.average.parameters(), game.generator.parameters(), strict=True):
            slow.fill_(1)
            fast.zero_()
    game.update_average(seen, batch)
    kept = {float(value) for parameter in game.average.parameters() for value in parameter.flatten()}
    assert len(kept) == 1
    assert kept.pop() == pytest.approx(0.5 ** (batch / half_life), abs=1e-6)


@pytest.mark.parametrize("family", STYLED)
def test_the_average_of_w_is_a_running_mean_over_both_players_steps(family: str) -> None:
    more: dict[str, Any] = {"path_weight": 0.0} if family == "stylegan2" else {}
    game = game_of(family, mixing=0.0, **more)
    made: list[Tensor] = []
    game.generator.mapping.register_forward_hook(lambda module, given, w: made.append(w.detach()))
    for step in range(3):
        game.step(4 * step)
    assert len(made) == 6
    expected = np.zeros(6)
    for w in made:
        expected = 0.995 * expected + 0.005 * w.double().numpy().mean(axis=0)
    np.testing.assert_allclose(game.generator.mapping.w_avg.numpy(), expected, atol=1e-6)
    assert torch.equal(game.average.mapping.w_avg, game.generator.mapping.w_avg)


# Style mixing and path lengths


@pytest.mark.parametrize("family", STYLED)
def test_styles_are_mixed_from_one_layer_on_as_often_as_the_recipe_says(family: str) -> None:
    game = game_of(family, mixing=0.9, grow_kimg=0.0, fade_kimg=0.0) if family == "stylegan" else game_of(family)
    made: list[Tensor] = []
    given_styles: list[Tensor] = []
    game.generator.mapping.register_forward_hook(lambda module, given, w: made.append(w))
    game.generator.synthesis.register_forward_pre_hook(lambda module, given: given_styles.append(given[0]))
    cuts = []
    with torch.no_grad():
        for _ in range(120):
            made.clear()
            game.fakes(3, None)
            styles = given_styles.pop()
            assert styles.shape == (3, 4, 6)
            cut = 0 if len(made) == 1 else next(k for k in range(4) if not torch.equal(styles[:, k], made[0]))
            cuts.append(cut)
            for layer in range(4):
                assert torch.equal(styles[:, layer], made[0] if layer < cut or not cut else made[1])
    assert set(cuts) == {0, 1, 2, 3}
    assert np.mean(np.array(cuts) > 0) == pytest.approx(0.9, abs=0.06)
    assert np.bincount(cuts)[1:].min() > 20


@pytest.mark.jobs
def test_styles_are_mixed_among_the_layers_that_are_run() -> None:
    game = game_of("stylegan", side=16, mixing=1.0)
    given_styles: list[Tensor] = []
    game.generator.synthesis.register_forward_pre_hook(lambda module, given: given_styles.append(given[0]))
    for lod, layers in ((2.0, 2), (1.5, 4), (1.0, 4), (0.5, 6), (0.0, 6)):
        cuts = set()
        with torch.no_grad():
            for _ in range(60):
                game.fakes(2, None, lod)
                styles = given_styles.pop()
                cuts.add(next(k for k in range(6) if not torch.equal(styles[:, k], styles[:, 0])))
        assert cuts == set(range(1, layers))


class LinearGenerator(nn.Module):
    """Image = sum over layers of A_l w_l."""

    z_dim, w_dim, styles = 4, 6, 4

    def __init__(self) -> None:
        super().__init__()
        seeded = torch.Generator().manual_seed(2)
        self.mapping = nn.Linear(4, 6)
        self.mapping.register_forward_pre_hook(lambda module, given: given[:1])
        self.maps = nn.Parameter(torch.randn(4, 3 * 8 * 8, 6, generator=seeded))

    def noise_shapes(self) -> list[tuple[int, int, int]]:
        return [(1, 8, 8)]

    def synthesis(self, styles: Tensor, noise: Any) -> Tensor:
        return torch.einsum("nlw,lpw->np", styles, self.maps).reshape(-1, 3, 8, 8)


def test_path_lengths_of_a_linear_generator_have_a_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    game = game_of("stylegan2")
    game.players["generator"] = generator = LinearGenerator()
    drawn: list[tuple[Any, Tensor]] = []
    monkeypatch.setattr(game, "normal", watched(game.normal, drawn))
    mean = 0.0
    for _ in range(3):
        penalty = game.path_penalty(5)
        direction = drawn[-1][1].reshape(5, -1).double() / 8  # sqrt(8 * 8)
        maps = generator.maps.detach().double().requires_grad_(True)
        slopes = torch.einsum("np,lpw->nlw", direction, maps)
        lengths = slopes.square().sum(dim=2).mean(dim=1).sqrt()
        moved = mean + 0.01 * (lengths.mean() - mean)
        expected = (lengths - moved).square().mean()
        assert penalty.item() == pytest.approx(expected.item(), rel=1e-4)
        mean = moved.item()
        assert game.numbers["path_length"] == pytest.approx(mean, rel=1e-5)
        (found,) = torch.autograd.grad(penalty, generator.maps)
        torch.testing.assert_close(found.double(), torch.autograd.grad(expected, maps)[0], rtol=1e-3, atol=1e-5)


def test_the_path_penalty_is_taken_lazily_with_half_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    game = game_of("stylegan2", batch=8, path_weight=2.0, path_interval=3, r1_interval=2)
    penalties: list[tuple[Any, Tensor]] = []
    updates: list[tuple[Any, None]] = []
    monkeypatch.setattr(game, "path_penalty", watched(game.path_penalty, penalties))
    monkeypatch.setattr(game, "update", watched(game.update, updates))
    for step in range(7):
        penalties.clear()
        _, log = game.step(8 * step)
        assert [given for given, _ in penalties] == ([] if step % 3 else [(4,)])
        (name, loss), _ = updates[-1]
        assert name == "generator"
        expected = log["generator"] + sum(2 * 3 * penalty.item() for _, penalty in penalties)
        assert loss.item() == pytest.approx(expected, rel=1e-5)
        assert ("r1" in log) is (step % 2 == 0)


# Steps


@pytest.mark.parametrize(
    ("family", "more", "shares"),
    [
        ("progan", {}, (1, 1)),
        ("stylegan", {}, (1, 1)),
        ("stylegan2", {}, (16 / 17, 4 / 5)),
        ("stylegan2", {"path_weight": 0.0}, (16 / 17, 1)),
    ],
)
def test_a_lazy_penalty_slows_its_optimizer_down(family: str, more: Any, shares: tuple[float, float]) -> None:
    game = game_of(family, learning_rate=0.01, betas=[0.1, 0.99], **more)
    game.step(0)
    for name, share in zip(("discriminator", "generator"), shares, strict=True):
        (group,) = game.optimizers[name].param_groups
        assert group["lr"] == pytest.approx(0.01 * share)
        assert group["betas"] == pytest.approx((0.1**share, 0.99**share))
        assert (group["eps"], group["weight_decay"]) == (1e-8, 0)


@pytest.mark.parametrize("family", NOISE)
def test_a_warm_up_step_trains_the_discriminator_only(family: str) -> None:
    game = game_of(family)
    before = {name: copies(network) for name, network in game.networks().items()}
    _, log = game.step(0, train_generator=False)
    assert "generator" not in log
    assert changed(game.discriminator, before["discriminator"])
    assert changed(game.generator, before["generator"]) <= {"lod", "mapping.w_avg"}
    assert not changed(game.average, before["average"])
    assert {group["lr"] for group in game.optimizers["discriminator"].param_groups} == {
        game.recipe.learning_rate * game.rates["discriminator"]
    }
    game.warm_up_rate = 0.5
    game.step(4, train_generator=False)
    assert game.optimizers["discriminator"].param_groups[0]["lr"] == 0.5 * game.rates["discriminator"]
    game.step(8)
    assert game.optimizers["discriminator"].param_groups[0]["lr"] < 0.5 * game.rates["discriminator"]
    assert len(changed(game.generator, before["generator"])) > 2
    assert all(parameter.requires_grad for parameter in game.discriminator.parameters())


@pytest.mark.parametrize("family", NOISE)
def test_classes_of_fakes_are_those_of_the_rows_and_both_players_are_told(family: str) -> None:
    game = game_of(family, conditional=True)
    of_reals: list[tuple[Any, tuple[Tensor, Tensor]]] = []
    of_fakes: list[tuple[Any, Tensor]] = []
    told: list[Tensor] = []
    game.images.draw = watched(game.images.draw, of_reals)
    game.images.classes = watched(game.images.classes, of_fakes)
    first = game.generator if family == "progan" else game.generator.mapping
    for network in (first, game.discriminator):
        network.register_forward_pre_hook(lambda module, given: told.append(given[1]))
    _, log = game.step(0)
    assert all(np.isfinite(number) for number in log.values())
    drawn = [classes for _, (_, classes) in of_reals] + [classes for _, classes in of_fakes]
    assert len(of_reals) == 1
    labels = [F.one_hot(classes, 2).float() for classes in drawn]
    found = [next(k for k, label in enumerate(labels) if torch.equal(one, label)) for one in told]
    changes = [one for one, before in zip(found, [None, *found], strict=False) if one != before]
    assert changes == list(range(len(labels)))  # first those of the reals, then those of the generator's own steps


def test_the_discriminator_of_a_conditional_progan_also_names_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    game = game_of("progan", conditional=True, grow_kimg=0.0, fade_kimg=0.0)
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([0, 1, 1, 0])
    logits = game.discriminator.scores(images, lod=0.0)[1].detach().double().numpy()
    expected = np.mean([np.log(np.exp(row).sum()) - row[k] for row, k in zip(logits, classes, strict=True)])
    assert game._class_loss(images, classes, 0.0).item() == pytest.approx(expected, rel=1e-5)
    assert game_of("progan")._class_loss(images, classes, 0.0) == 0
    terms: list[tuple[Any, Tensor]] = []
    losses: list[tuple[Any, Any]] = []
    updates: list[tuple[Any, None]] = []
    monkeypatch.setattr(game, "_class_loss", watched(game._class_loss, terms))
    monkeypatch.setattr(game, "update", watched(game.update, updates))
    given_loss = Wasserstein()
    game.loss = SimpleNamespace(
        discriminator=watched(given_loss.discriminator, losses), generator=watched(given_loss.generator, losses)
    )
    game.step(0)
    of_reals, of_fakes, of_own = (term.item() for _, term in terms)
    assert updates[0][0][1].item() == pytest.approx(losses[0][1][0].item() + of_reals + of_fakes, rel=1e-5)
    assert updates[1][0][1].item() == pytest.approx(losses[1][1].item() + of_own, rel=1e-5)


@pytest.mark.parametrize("family", NOISE)
def test_samples_come_from_the_average_one_per_seed_and_use_up_no_draw(family: str) -> None:
    game = game_of(family)
    for step in range(5):
        game.step(4 * step)
    before = state_of(game)
    images = game.sample(np.arange(4))
    assert images.shape == (4, 8, 8, 3)
    assert images.dtype == np.uint8
    assert np.abs(game.sample(np.array([2])).astype(int) - images[2:3]).max() <= 1
    assert np.abs(images[0].astype(int) - images[1]).max() > 2
    assert state_of(game) == before
    if family == "progan":
        z = torch.from_numpy(np.random.RandomState(3).randn(1, 4).astype(np.float32))
        assert np.array_equal(images[3], progan.to_uint8(game.average(z).detach())[0].numpy())


@pytest.mark.parametrize("family", NOISE)
def test_half_precision_trains_every_layer_and_keeps_weights_whole(family: str) -> None:
    growing: dict[str, Any] = {"grow_kimg": 0.0, "fade_kimg": 0.0} if family in GROWING else {}
    game = game_of(family, mixed=True, **growing)
    before = {name: copies(player) for name, player in game.players.items()}
    _, log = game.step(0)
    assert all(np.isfinite(number) for number in log.values())
    for name, player in game.players.items():
        idle = {key for key, _ in player.named_parameters()} - changed(player, before[name])
        coarse = ("torgb", "fromrgb", "noise_strength")  # of lower resolutions; noise may cancel at the start
        assert not [key for key in idle if not any(part in key for part in coarse)]
        assert {parameter.dtype for parameter in player.parameters()} == {torch.float32}


# Learning


def two_colors() -> Any:
    """Images of one of two flat colors, equally often."""
    rows = photos(8, 8)
    rows.values["image"][:4], rows.values["image"][4:] = (200, 60, 40), (40, 110, 220)
    return rows


def distance(images: Any, reals: Any) -> float:
    """Of means and deviations of the colors over all pixels, and of the deviation inside of images (0 for reals)."""
    numbers = [np.concatenate([x.mean(axis=(0, 1, 2)), x.std(axis=(0, 1, 2))]) for x in (images / 255, reals / 255)]
    return float(np.abs(numbers[0] - numbers[1]).sum() + (images / 255).std(axis=(1, 2)).mean())


@pytest.mark.parametrize(
    ("family", "steps", "more"),
    [
        pytest.param(
            "progan",
            150,
            {"learning_rate": 0.02, "grow_kimg": 0.4, "fade_kimg": 0.4, "average_beta": 0.95},
            marks=pytest.mark.stress,
        ),
        pytest.param(
            "stylegan2",
            60,
            {"learning_rate": 0.02, "r1_gamma": 1.0, "r1_interval": 8, "path_weight": 0.0, "average_kimg": 0.1},
            marks=pytest.mark.jobs,
        ),
    ],
)
def test_a_small_generator_learns_two_colors(family: str, steps: int, more: dict[str, Any]) -> None:
    rows = two_colors()
    game = game_of(family, rows=rows, batch=8, **more)
    reals, seeds = rows.array("image"), np.arange(64)
    before = distance(game.sample(seeds), reals)
    for step in range(steps):
        game.step(8 * step)
    after = distance(game.sample(seeds), reals)
    assert after < before / 2, (before, after)
