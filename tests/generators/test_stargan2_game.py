"""One step of StarGAN v2: each loss against its definition, who learns in which part of it, what changes with time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_games import game_of, photos, state_of, watched
from torch import Tensor

from stages.generators import stargan2
from stages.generators.stargan2_game import changed

BATCH, SIDE = 4, 32
PARTS = ("generator", "mapping_network", "style_encoder")


def inputs(game: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Real images, their domains, the wanted domains, two latents and two reference images for each."""
    seeded = torch.Generator().manual_seed(9)
    reals = torch.randn((BATCH, 3, SIDE, SIDE), generator=seeded).clamp(-1, 1)
    latents = torch.randn((2, BATCH, 4), generator=seeded)
    references = torch.randn((2, BATCH, 3, SIDE, SIDE), generator=seeded).clamp(-1, 1)
    return reals, torch.tensor([0, 1, 0, 1]), torch.tensor([1, 1, 0, 0]), latents, references


def gradients(game: Any, loss: Tensor, learning: tuple[str, ...]) -> dict[str, Tensor]:
    named = [(f"{part}.{name}", one) for part in learning for name, one in game.parts[part].named_parameters()]
    found = torch.autograd.grad(loss, [one for _, one in named], allow_unused=True)
    return {name: one for (name, _), one in zip(named, found, strict=True) if one is not None}


def assert_same_gradients(game: Any, expected: dict[str, Tensor]) -> None:
    for name, gradient in expected.items():
        part, _, rest = name.partition(".")
        found = dict(game.parts[part].named_parameters())[rest].grad
        torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("of", ["latents", "references"])
def test_terms_of_the_generators_loss_are_those_of_the_paper(of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    game = game_of("stargan2", style_weight=2.0, cycle_weight=3.0)
    reals, domains, targets, latents, references = inputs(game)
    translate, encode = game.generator.generator, game.generator.style_encoder
    if of == "latents":
        styles = [game.generator.mapping_network(one, targets) for one in latents]
    else:
        styles = [encode(one, targets) for one in references]
    fakes = translate(reals, styles[0])
    adversarial = F.softplus(-game.discriminator(fakes, targets)).mean()
    style = (styles[0] - encode(fakes, targets)).abs().mean()
    diversity = (fakes - translate(reals, styles[1]).detach()).abs().mean()
    cycle = (reals - translate(fakes, encode(reals, domains))).abs().mean()
    total = adversarial + 2.0 * style - 0.4 * diversity + 3.0 * cycle
    learning = PARTS if of == "latents" else PARTS[:1]
    expected = gradients(game, total, learning)
    assert set(PARTS[: len(learning)]) == {name.partition(".")[0] for name in expected}
    for optimizer in game.optimizers.values():
        monkeypatch.setattr(optimizer, "step", lambda: None)
    given = (latents, None) if of == "latents" else (None, (references[0], references[1]))
    log = game._generator_step(reals, domains, targets, *given, None, 0.4)
    terms = {"generator": adversarial, "style": style, "diversity": diversity, "cycle": cycle}
    assert log == {name: pytest.approx(term.item(), rel=1e-4) for name, term in terms.items()}
    assert_same_gradients(game, expected)
    assert all(one.grad is None for one in game.discriminator.parameters())


@pytest.mark.parametrize("of", ["latents", "references"])
def test_the_discriminators_loss_is_logistic_with_a_penalty_on_reals_of_their_own_domain(
    of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    game = game_of("stargan2", r1_gamma=3.0)
    reals, domains, targets, latents, references = inputs(game)
    with torch.no_grad():
        style = (
            game.generator.mapping_network(latents[0], targets)
            if of == "latents"
            else game.generator.style_encoder(references[0], targets)
        )
        fakes = game.generator.generator(reals, style)
    judged = reals.clone().requires_grad_(True)
    real_scores = game.discriminator.main(judged).reshape(BATCH, 2)[range(BATCH), domains]
    fake_scores = game.discriminator.main(fakes).reshape(BATCH, 2)[range(BATCH), targets]
    ones, zeros = torch.ones(BATCH), torch.zeros(BATCH)
    adversarial = F.binary_cross_entropy_with_logits(real_scores, ones)
    adversarial = adversarial + F.binary_cross_entropy_with_logits(fake_scores, zeros)
    (slopes,) = torch.autograd.grad(real_scores.sum(), judged, create_graph=True)
    norms = torch.stack([slope.square().sum() for slope in slopes])
    total = adversarial + 3.0 * 0.5 * norms.mean()
    expected = torch.autograd.grad(total, list(game.discriminator.parameters()), allow_unused=True)
    monkeypatch.setattr(game.optimizers["discriminator"], "step", lambda: None)
    given = (latents[0], None) if of == "latents" else (None, references[0])
    log = game._discriminator_step(reals, domains, targets, *given, None)
    assert log["discriminator"] == pytest.approx(adversarial.item(), rel=1e-4)
    assert log["r1"] == pytest.approx(norms.mean().item(), rel=1e-4)
    for parameter, gradient in zip(game.discriminator.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-6)


def test_who_learns_in_which_part_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    game = game_of("stargan2")
    order: list[tuple[Any, str]] = []
    for name, optimizer in game.optimizers.items():
        step = optimizer.step
        monkeypatch.setattr(optimizer, "step", watched(lambda name=name, step=step: step() or name, order))
    game.step(0)
    assert [name for _, name in order] == ["discriminator"] * 2 + [*PARTS, "generator"]
    order.clear()
    before = {name: tensor.clone() for name, tensor in game.generator.state_dict().items()}
    game.step(4, train_generator=False)
    assert [name for _, name in order] == ["discriminator"] * 2
    assert all(torch.equal(tensor, before[name]) for name, tensor in game.generator.state_dict().items())
    assert all(one.requires_grad for one in game.discriminator.parameters())


def test_the_parts_of_a_step_see_the_same_photographs_and_references_of_the_wanted_domain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    game = game_of("stargan2", batch=8)
    calls: dict[str, list[tuple[Any, Any]]] = {"_discriminator_step": [], "_generator_step": []}
    for name, noted in calls.items():
        monkeypatch.setattr(game, name, watched(getattr(game, name), noted))
    game.step(0)
    judged, judged_again = (given for given, _ in calls["_discriminator_step"])
    made, made_again = (given for given, _ in calls["_generator_step"])
    for call in (judged_again, made, made_again):
        assert call[0] is judged[0]  # photographs
        assert call[1] is judged[1]  # their domains
        assert call[2] is judged[2]  # the wanted domains
    latents, (reference, other) = made[3], made_again[4]
    assert torch.equal(judged[3], latents[0])
    assert judged_again[4] is reference
    assert (judged[4], judged_again[3], made[4], made_again[3]) == (None, None, None, None)
    assert not torch.equal(latents[0], latents[1])
    rows = game.images.rows
    whole = game.images.floats(rows.array("image"))
    for images, classes in ((judged[0], judged[1]), (reference, judged[2]), (other, judged[2])):
        for image, of_class in zip(images, classes, strict=True):
            (row,) = [k for k in range(len(rows)) if torch.equal(whole[k], image)]
            assert rows.column("domain")[row] == game.images.domains[of_class]
    assert not torch.equal(reference, other)


@pytest.mark.parametrize(
    ("seen", "weight"), [(0, 2.0), (10_000, 1.5), (20_000, 1.0), (39_996, 0.0002), (40_000, 0.0), (90_000, 0.0)]
)
def test_the_weight_of_diversity_falls_to_zero(seen: int, weight: float, monkeypatch: pytest.MonkeyPatch) -> None:
    game = game_of("stargan2", diversity_weight=2.0, diversity_kimg=40.0)
    calls: list[tuple[Any, Any]] = []
    monkeypatch.setattr(game, "_discriminator_step", lambda *given: {})
    monkeypatch.setattr(game, "_generator_step", watched(lambda *given: {}, calls))
    game.step(seen)
    assert [given[-1] for given, _ in calls] == [pytest.approx(weight)] * 2


def test_the_mapping_network_has_a_rate_of_its_own_and_all_decay() -> None:
    game = game_of("stargan2", learning_rate=0.001, mapping_rate=0.00002, weight_decay=0.003)
    game.step(0)
    for name, optimizer in game.optimizers.items():
        (group,) = optimizer.param_groups
        assert group["lr"] == pytest.approx(0.00002 if name == "mapping_network" else 0.001)
        assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.0, 0.99), 1e-8, 0.003)


def test_the_average_covers_all_three_networks() -> None:
    game = game_of("stargan2", average_beta=0.7)
    before = {name: tensor.double().clone() for name, tensor in game.average.state_dict().items()}
    game.step(0)
    for name, tensor in game.average.state_dict().items():
        expected = 0.7 * before[name] + 0.3 * game.generator.state_dict()[name].double()
        torch.testing.assert_close(tensor.double(), expected, rtol=1e-5, atol=1e-6)


def test_in_half_precision_each_part_of_a_step_sees_the_weights_that_the_one_before_has_left() -> None:
    game = game_of("stargan2", mixed=True, learning_rate=0.05)
    inside: list[bool] = []
    found: list[tuple[Tensor, Tensor]] = []

    def again(module: Any, given: Any, result: Tensor) -> None:
        if inside:
            return
        inside.append(True)
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
            found.append((result.detach(), module(*given)))
        inside.clear()

    game.discriminator.register_forward_hook(again)
    game.generator.generator.register_forward_hook(again)
    game.step(0)
    assert len(found) == 2 * 3 + 2 * 4  # the discriminator's parts, then the generator's
    assert {result.dtype for result, _ in found} == {torch.bfloat16}
    assert all(torch.equal(result, fresh) for result, fresh in found)


def test_samples_translate_photographs_to_the_next_domain() -> None:
    game = game_of("stargan2")
    before = state_of(game)
    images = game.sample(np.arange(3, 9))
    assert state_of(game) == before
    assert images.shape == (6, SIDE, SIDE, 3)
    rows = np.arange(3, 9) % 6
    sources = torch.from_numpy(game.images.rows.array("image", rows)).permute(0, 3, 1, 2) / 127.5 - 1
    for k, row in enumerate(rows):
        z = torch.from_numpy(np.random.RandomState(k + 3).randn(1, 4).astype(np.float32))
        target = torch.tensor([1 - row % 2])  # domains ape and bee in turn
        with torch.no_grad():
            made = game.average.generator(sources[k : k + 1], game.average.mapping_network(z, target))
        assert np.abs(stargan2.to_uint8(made)[0].numpy().astype(int) - images[k]).max() <= 1


def test_spectral_terms_see_the_translations_to_another_domain_if_there_are_any() -> None:
    fakes, before = torch.arange(4.0), np.array([0, 1, 1, 0])
    assert fakes[changed(before, np.array([1, 1, 0, 0]), "cpu")].tolist() == [0.0, 2.0]
    assert fakes[changed(before, before, "cpu")].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_the_host_draws_domains_of_photographs_as_often_as_they_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    game = game_of("stargan2", rows=photos(SIDE, 6, ("ape", "bee", "bee")))
    monkeypatch.setattr("stages.generators.stargan2_game.elsewhere", lambda device: True)
    images, domains, known = game._drawn(300)
    assert domains.tolist() == known.tolist()
    assert known.mean() == pytest.approx(2 / 3, abs=0.1)
    assert len(torch.unique(images.flatten(1), dim=0)) == 6


def test_a_step_tells_spectral_terms_which_translations_change_the_domain() -> None:
    seen: list[Tensor] = []
    drawn: list[Tensor] = []

    def generator(adversarial: Tensor, fakes: Tensor, parameters: Any) -> Tensor:
        seen.append(fakes.detach())
        return adversarial

    def discriminator(reals: Tensor, fakes: Tensor, step: int, random: Any) -> dict[str, Any]:
        seen.append(fakes)
        return {}

    game = game_of("stargan2")
    nothing: dict[str, Any] = {}
    game.spectral = SimpleNamespace(
        generator=generator, discriminator=discriminator, networks=nothing, optimizers=nothing
    )
    translate, draw = game.generator.translate, game.images.draw
    made: list[Tensor] = []

    def translated(source: Tensor, style: Tensor, masks: Any = None) -> Tensor:
        made.append(translate(source, style, masks))
        return made[-1]

    def watching(*given: Any, **more: Any) -> Any:
        found = draw(*given, **more)
        drawn.append(found[1])
        return found

    game.generator.translate, game.images.draw = translated, watching
    game.step(0)
    domains, targets = drawn[:2]
    different = domains != targets
    assert 0 < different.sum() < len(different)
    firsts = [made[number] for number in (0, 1, 2, 5)]  # of both discriminators' steps and of both generators'
    for found, fakes in zip(seen, firsts, strict=True):
        assert torch.equal(found, fakes.detach()[different])
