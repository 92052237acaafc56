"""Finetuning: what +R and +A add to a loss, where a finetuning starts, and training nodes whose images are sampled."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_games import KINDS, SIDES, game_of, photos, recipe_of, settings_of, state_of
from torch import nn
from toy_project import Project

from detectors.training import tensors_of
from pipeline.errors import ConfigError, Interrupted, StageError
from stages.finetune_generator import FinetuneGeneratorConfig, _term, opened
from stages.generators import progan, weights
from stages.generators.losses import Logistic
from stages.generators.spectral import Profile
from stages.generators.spectral_training import Adversary, Regularization, mean_profile
from stages.train_generator import check_precision, new_game
from stages.training.course import train

SIDE = 16


class Picture(nn.Module):
    """A generator of two numbers: brightness of a wave and of a checkerboard."""

    def __init__(self) -> None:
        super().__init__()
        self.amplitudes = nn.Parameter(torch.tensor([0.3, 0.2]))
        grid = torch.arange(SIDE, dtype=torch.float32)
        wave, checks = torch.sin(grid * 0.7).expand(SIDE, -1), (-1.0) ** (grid[:, None] + grid)
        self.register_buffer("parts", torch.stack([wave, checks]))

    def forward(self, random: torch.Generator) -> torch.Tensor:
        noise = torch.randn((4, 3, SIDE, SIDE), generator=random) * 0.05
        return torch.einsum("p,phw->hw", self.amplitudes, self.parts) + noise


def finishing(family: str, **more: Any) -> dict[str, Any]:
    """A recipe without what a finished generator does not need."""
    idle = ("network", "grow_from", "grow_kimg", "fade_kimg")
    return {name: value for name, value in settings_of(family, **more).items() if name not in idle}


def norm(loss: torch.Tensor, parameter: nn.Parameter) -> float:
    (gradient,) = torch.autograd.grad(loss, [parameter], retain_graph=True)
    return math.sqrt(sum(float(value) ** 2 for value in gradient.flatten()))


def entropy_of(profiles: np.ndarray[Any, Any], target: np.ndarray[Any, Any]) -> float:
    """Mean binary cross-entropy with a slow loop, less that of the target with itself."""
    total = 0.0
    for row in profiles:
        for p, t in zip(row, target, strict=True):
            p = min(max(float(p), 1e-6), 1 - 1e-6)
            floor = sum(-q * math.log(q) for q in (float(t), 1 - float(t)) if q > 0)
            total += -float(t) * math.log(p) - (1 - float(t)) * math.log(1 - p) - floor
    return total / profiles.size


def test_the_weight_of_the_regularization_makes_its_gradient_the_wanted_share_of_the_adversarial_one() -> None:
    random, picture = torch.Generator().manual_seed(0), Picture()
    target = torch.linspace(1, 0, Profile(SIDE).length)
    term = Regularization(target, SIDE, None, ratio=0.25)
    measured = []
    for _ in range(8):
        fakes = picture(random)
        adversarial = (fakes * 3).square().mean()
        spectral = entropy_of(Profile(SIDE)(fakes).detach().numpy(), target.numpy())
        loss = term.generator(adversarial, fakes, [picture.amplitudes])
        weight = term.numbers["weight"]
        assert loss.item() == pytest.approx(adversarial.item() + weight * spectral, rel=1e-4)
        added = norm(loss - adversarial, picture.amplitudes) / weight
        measured.append(added / norm(adversarial, picture.amplitudes))
        assert weight == pytest.approx(0.25 / np.mean(measured), rel=1e-3)
        assert term.discriminator(fakes, fakes, 0, random)["gradient_ratio"] == pytest.approx(
            measured[-1] * weight, rel=1e-3
        )
    chosen = term.numbers["weight"]
    term.generator(adversarial, picture(random), [picture.amplitudes])
    assert term.numbers["weight"] == chosen


def test_of_a_batch_the_mean_profile_is_compared() -> None:
    random, picture = torch.Generator().manual_seed(0), Picture()
    target = torch.linspace(1, 0, Profile(SIDE).length)
    term = Regularization(target, SIDE, 0.5, ratio=0.25, of_batch=True)
    fakes = picture(random)
    mean = Profile(SIDE)(fakes).detach().numpy().astype(np.float64).mean(axis=0, keepdims=True)
    loss = term.generator((fakes * 0).sum(), fakes, [picture.amplitudes])
    assert loss.item() == pytest.approx(0.5 * entropy_of(mean, target.numpy()), rel=1e-4)
    others = picture(random)
    present = Profile(SIDE)(others).mean(dim=0, keepdim=True)
    running = 0.9 * mean + 0.1 * present.detach().numpy()
    loss = term.generator((others * 0).sum(), others, [picture.amplitudes])
    assert loss.item() == pytest.approx(0.5 * entropy_of(running, target.numpy()), rel=1e-4)
    inside = (running[0] > 1e-6) & (running[0] < 1 - 1e-6)
    p, t = np.where(inside, running[0], 0.5), target.numpy().astype(np.float64)
    slope = torch.from_numpy(np.where(inside, -0.5 * (t / p - (1 - t) / (1 - p)) / len(t), 0.0)).float()
    (wanted,) = torch.autograd.grad((present[0] * slope).sum(), [picture.amplitudes], retain_graph=True)
    (found,) = torch.autograd.grad(loss, [picture.amplitudes])
    torch.testing.assert_close(found, wanted, rtol=0.02, atol=1e-4)


def test_l1_of_a_batchs_mean_profile_is_the_distance_that_cards_report_over_the_rings() -> None:
    random, picture = torch.Generator().manual_seed(0), Picture()
    target = torch.linspace(1, 0, Profile(SIDE).length)
    term = Regularization(target, SIDE, 0.5, ratio=0.25, of_batch=True, kind="l1", damping=1.0)
    fakes = picture(random)
    mean = Profile(SIDE)(fakes).detach().numpy().astype(np.float64).mean(axis=0)
    loss = term.generator((fakes * 0).sum(), fakes, [picture.amplitudes])
    assert loss.item() == pytest.approx(0.5 * np.abs(mean - target.numpy()).sum() / len(target), rel=1e-4)


def test_the_penalty_on_profiles_has_a_weight_of_its_own() -> None:
    recipe = recipe_of("stylegan2")
    given = {"checkpoint": "x", "method": "adversarial", "recipe": finishing("stylegan2")}
    for gamma, wanted in ((None, recipe.r1_gamma), (0.25, 0.25)):
        config = FinetuneGeneratorConfig.model_validate({**given, "spectral_r1_gamma": gamma})
        assert _term(config, recipe, SIDE, None, "cpu").loss.gamma == wanted
    of_progan = {**given, "recipe": finishing("progan"), "spectral_r1_gamma": 0.25}
    with pytest.raises(ValueError, match="no effect with the Wasserstein loss"):
        FinetuneGeneratorConfig.model_validate(of_progan)


def test_half_precision_is_refused_where_a_cpu_computes_it_in_software(monkeypatch: pytest.MonkeyPatch) -> None:
    supported = []
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: bool(supported))
    with pytest.raises(StageError, match="set mixed_precision: false or run on a GPU"):
        check_precision(True, "cpu")
    check_precision(False, "cpu")
    check_precision(True, "cuda")
    supported.append(True)
    check_precision(True, "cpu")


def test_the_penalty_of_the_logistic_adversary_is_taken_on_profiles() -> None:
    """R1 of a linear function of the profile is the squared norm of its weights, whatever the images."""
    random = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    term = Adversary(Logistic(2.0, 1), SIDE, rate=0.0, betas=(0.0, 0.99), share=0.5, device="cpu")
    output = term.network.output
    wanted = (output.weight * output.scale).square().sum().item()
    seen: list[float] = []
    original = term.loss.discriminator

    class Recorded(Logistic):
        def discriminator(self, *arguments: Any) -> Any:
            loss, log = original(*arguments)
            seen.append(log["r1"])
            return loss, log

    term.loss = Recorded(2.0, 1)
    images = torch.randn((2, 4, 3, SIDE, SIDE), generator=random)
    term.discriminator(images[0], images[1], 0, random)
    assert seen == [pytest.approx(wanted, rel=1e-4)]


def test_a_given_weight_stays_and_a_generator_without_adversarial_gradient_chooses_none() -> None:
    random, picture = torch.Generator().manual_seed(0), Picture()
    target = torch.linspace(1, 0, Profile(SIDE).length)
    fixed = Regularization(target, SIDE, 0.125, ratio=0.25)
    fakes = picture(random)
    fixed.generator((fakes * 3).square().mean(), fakes, [picture.amplitudes])
    assert fixed.numbers["weight"] == 0.125
    silent = Regularization(target, SIDE, None, ratio=0.25)
    silent.generator((picture.amplitudes * 0).sum(), fakes, [picture.amplitudes])
    assert silent.numbers["weight"] == 0.0
    assert "gradient_ratio" not in silent.discriminator(fakes, fakes, 0, random)


def test_the_adversary_takes_its_share_of_the_loss_and_learns_to_tell_spectra() -> None:
    random, picture = torch.Generator().manual_seed(0), Picture()
    torch.manual_seed(0)
    term = Adversary(Logistic(0.0), SIDE, rate=0.05, betas=(0.0, 0.99), share=0.25, device="cpu")
    fakes = picture(random)
    adversarial = fakes.square().mean()
    scores = term.network(fakes).detach().numpy()
    loss = term.generator(adversarial, fakes, [picture.amplitudes])
    expected = 0.75 * adversarial.item() + 0.25 * np.mean(np.log1p(np.exp(-scores)))
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    before = {name: value.clone() for name, value in term.network.state_dict().items()}
    loss.backward()
    assert picture.amplitudes.grad is not None
    assert all(torch.equal(before[name], value) for name, value in term.network.state_dict().items())
    assert all(parameter.grad is None for parameter in term.network.parameters())
    smooth = torch.nn.functional.avg_pool2d(torch.randn((8, 3, SIDE + 4, SIDE + 4), generator=random), 5, 1)
    rough = torch.randn((8, 3, SIDE, SIDE), generator=random) / 5
    for step in range(200):
        log = term.discriminator(smooth, rough, step, random)
    assert log["spectral_discriminator"] < 1.0 < 2 * math.log(2)
    assert (term.network(smooth) > term.network(rough).max()).float().mean() > 0.9


def test_the_mean_profile_is_that_of_all_training_images() -> None:
    images = game_of("progan", side=SIDE).images
    single = [Profile(SIDE)(images.floats(images.pixels(np.array([row]))))[0].numpy() for row in range(len(images))]
    np.testing.assert_allclose(mean_profile(images).numpy(), np.mean(single, axis=0), atol=1e-6)


@pytest.mark.parametrize("method", ["regularization", "adversarial"])
@pytest.mark.parametrize("family", KINDS)
def test_an_interrupted_finetuning_ends_with_the_same_bytes(family: str, method: str, tmp_path: Path) -> None:
    """All families, both terms: stopped after the second step and continued in a new game."""

    def game() -> Any:
        base = game_of(family, grow_kimg=0.0, fade_kimg=0.0) if family in ("progan", "stylegan") else game_of(family)
        torch.manual_seed(1)
        term: Any = Regularization(mean_profile(base.images), SIDES[family], None, 0.1)
        if method == "adversarial":
            term = Adversary(base.loss, SIDES[family], 0.002, (0.0, 0.99), 0.5, "cpu")
        return new_game(base.recipe, base.players, base.images, base.random, "cpu", False, term)

    whole, first, second = game(), game(), game()
    train(whole, 0.012, tmp_path / "whole", save_images=4, pictures=1)
    calls = iter([False, True])
    with pytest.raises(Interrupted, match="stopped"):
        train(first, 0.012, tmp_path / "parts", save_images=4, pictures=1, stopping=lambda: next(calls, True))
    train(second, 0.012, tmp_path / "parts", save_images=4, pictures=1)
    assert state_of(second) == state_of(whole)
    assert second.spectral.numbers == whole.spectral.numbers
    assert state_of(whole) != state_of(game())


def test_the_first_images_teach_the_discriminator_only(tmp_path: Path) -> None:
    game = game_of("stylegan2")
    before = {name: value.clone() for name, value in game.generator.named_parameters()}
    learned = {name: value.clone() for name, value in game.discriminator.named_parameters()}
    train(game, 0.008, tmp_path, save_images=100, warm_up=8)
    assert all(torch.equal(before[name], value) for name, value in game.generator.named_parameters())
    assert any(not torch.equal(learned[name], value) for name, value in game.discriminator.named_parameters())


# Where it starts


def some_images(side: int, classes: int = 0) -> Any:
    return SimpleNamespace(side=side, count_of_classes=classes)


def tiny_progan(path: Path, side: int = 8, network: str = "generator") -> Path:
    architecture = {"z_dim": 4, "fmap_base": 64, "fmap_max": 8, "fused": False, "c_dim": 0, "resolution": side}
    torch.manual_seed(3)
    made: nn.Module = progan.build(architecture)
    if network == "discriminator":
        from stages.generators.progan_discriminator import Discriminator

        architecture.pop("z_dim")
        made = Discriminator(**architecture)
    weights.save(path, "progan", architecture, tensors_of(made), network=network)
    return path


def test_a_file_without_discriminator_gets_a_new_one_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tiny_progan(tmp_path / "g.safetensors")
    _, players, fresh = opened(path, None, recipe_of("progan"), some_images(8))
    assert fresh
    assert all(parameter.requires_grad for player in players.values() for parameter in player.parameters())
    with torch.no_grad():
        next(players["generator"].parameters()).fill_(7.0)
    _, again, _ = opened(path, None, recipe_of("progan"), some_images(8))
    assert not bool((next(again["generator"].parameters()) == 7.0).any())


@pytest.mark.parametrize(
    ("family", "side", "classes", "sentence"),
    [
        ("stylegan", 8, 0, "holds a generator of family progan, but the recipe is one of stylegan"),
        ("progan", 16, 0, "makes images of 8 pixels, but those of 'on' have 16; equalize the photographs to 8"),
        ("progan", 8, 2, "has 0 classes, the images of 'on' 2; set conditional in the recipe"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_one_sentence(
    family: str, side: int, classes: int, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(StageError, match=sentence):
        opened(tiny_progan(tmp_path / "g.safetensors"), None, recipe_of(family), some_images(side, classes))


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"method": "adversarial", "weight": 1.0}, "weight has no effect with method adversarial; drop it"),
        ({"method": "none", "share": 0.5}, "share has no effect with method none; drop it"),
        ({"method": "regularization", "weight": 1.0, "gradient_ratio": 0.1}, "two ways to say the same"),
        (
            {"warm_up_kimg": 0.0, "warm_up_learning_rate": 0.1, "method": "none"},
            "no effect with warm_up_kimg: 0; drop it",
        ),
        ({"method": "none", "recipe": settings_of("progan")}, "recipe.fade_kimg has no effect: the checkpoint's gen"),
        (
            {"method": "none", "recipe": {**finishing("stylegan2"), "network": {"z_dim": 4}}},
            "recipe.network has no effect",
        ),
        ({"method": "adversarial", "loss": "l1"}, "loss has no effect with method adversarial; drop it"),
        ({"method": "adversarial", "compare": "batch"}, "compare has no effect with method adversarial; drop it"),
        ({"method": "none", "damping": 1.0}, "damping has no effect with method none; drop it"),
        ({"method": "regularization", "spectral_r1_gamma": 0.1}, "spectral_r1_gamma has no effect with method reg"),
        ({"method": "adversarial", "spectral_r1_gamma": 0.1}, "no effect with the Wasserstein loss of progan; drop it"),
    ],
)
def test_settings_without_effect_are_refused(more: dict[str, Any], sentence: str) -> None:
    given = {"checkpoint": "raw", "recipe": finishing("progan"), **more}
    with pytest.raises(ValueError, match=sentence):
        FinetuneGeneratorConfig.model_validate_json(json.dumps(given))


# In a pipeline

PIPELINE = """
nodes:
  photos: {stage: ingest, folder: photos}
  images: {stage: equalize, of: photos, size: 8}
  raw: {stage: train_generator, on: images, recipe: RECIPE}
  fine: {stage: finetune_generator, on: images, checkpoint: raw, method: regularization, recipe: FINE}
  fakes: {stage: sample, matrix: {of: [raw, fine]}, checkpoint: "{of}", count: 5}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    (tmp_path / "photos").mkdir()
    pixels = photos(8, count=14).array("image")
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "photos" / f"{number}.png")
    recipes = {"RECIPE": settings_of("progan"), "FINE": finishing("progan")}
    text = PIPELINE
    for word, recipe in recipes.items():
        text = text.replace(word, json.dumps(recipe))
    return Project(tmp_path, monkeypatch, text)


@pytest.mark.jobs
def test_a_trained_node_is_planned_before_it_exists_and_sampled_when_it_does(project: Project) -> None:
    plan = project.plan()
    assert sum(len(branch.rows) for branch in plan.branches["fakes[raw]"]) == 5
    project.run()
    plan = project.plan()
    for node in ("raw", "fine"):
        found = plan.artifacts[node].found
        assert found is not None
        _, generator = weights.load(found.path / "generator.safetensors")
        drawn = [progan.draw({"z_dim": 4}, seed)["z"] for seed in range(5)]
        made = progan.render(generator, {"z": torch.from_numpy(np.stack(drawn))}, psi=1.0, cutoff=None, noise="none")
        wanted = {image.tobytes() for image in progan.to_uint8(made).numpy()}
        rows = {
            value for (name, _, field), value in project.rows().items() if (name, field) == (f"fakes[{node}]", "image")
        }
        assert rows == wanted
    card = json.loads((plan.artifacts["fine"].found.path / "card.json").read_text())  # type: ignore[union-attr]
    raw = json.loads((plan.artifacts["raw"].found.path / "card.json").read_text())  # type: ignore[union-attr]
    assert card["profile_distance_before"] == pytest.approx(raw["figures"]["profile_distance"], rel=1e-6)
    assert card["started_from"]["new_discriminator"] is False
    assert card["spectral"]["weight"] > 0
    assert not [branch for branch in plan.all_branches() if not branch.have.all()]


@pytest.mark.jobs
def test_another_training_makes_the_samples_of_its_generator_stale_and_no_others(project: Project) -> None:
    project.run()
    project.replace("checkpoint: raw, method: regularization", "checkpoint: raw, seed: 1, method: regularization")
    stale = project.causes()
    assert sorted(stale) == ["fakes[fine]", "fine"]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            'checkpoint: "{of}", count: 5',
            'checkpoint: "{of}", count: 5, label_index: 1',
            "unconditional, so label_index",
        ),
        ("checkpoint: raw, method", "checkpoint: rwa, method", "names rwa, but rwa is not a file"),
        ('"family": "progan"', '"family": "progan", "conditional": true', "does not say which classes it has"),
    ],
)
def test_what_does_not_fit_a_promised_generator_is_found_while_planning(
    project: Project, old: str, new: str, sentence: str
) -> None:
    text = project.file.read_text()
    project.file.write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=sentence):
        project.plan()
