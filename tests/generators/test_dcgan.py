"""The DCGAN family: losses and penalties against golden vectors, counts of weights, endings, and the order of steps."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_files import GoldenDocument
from memory_rows import context
from small_games import game_of, photos, recipe_of, settings_of, watched
from torch import Tensor

from detectors.transfers import told
from stages.finetune_generator import FinetuneGenerator, FinetuneGeneratorConfig
from stages.generators import dcgan, dcgan_discriminator, generator_metrics, weights
from stages.generators.inspection import inspect
from stages.generators.layers import parameters
from stages.generators.losses import PARTS, Plain, around, between, gradient_norms
from stages.generators.spectral_training import Adversary, Regularization
from stages.train_generator import (
    TrainGenerator,
    TrainGeneratorConfig,
    discriminator_architecture,
    generator_architecture,
)


@pytest.mark.golden("sngan", "*.json", keys="losses")
def test_losses_and_penalties_are_those_of_the_reference(golden: GoldenDocument) -> None:
    wanted, arrays = golden["losses"], golden.beside("forward.npz")
    logits = {name: torch.tensor(wanted[f"{name}_logits"], dtype=torch.float64)[:, None] for name in ("real", "fake")}
    assert set(PARTS) == {"gan", "lsgan", "wgan", "hinge"}
    for kind, (of_real, of_fake, of_generator) in PARTS.items():
        found = {
            "D_real": of_real(logits["real"]),
            "D_fake": of_fake(logits["fake"]),
            "G": of_generator(logits["fake"]),
        }
        assert {name: value.mean().item() for name, value in found.items()} == pytest.approx(wanted[kind], abs=1e-9)
    q, c, real, fake, alpha, beta = (
        torch.from_numpy(arrays[f"gp_{name}"]) for name in ("Q", "c", "real", "fake", "alpha", "beta")
    )

    def scores(x: Tensor) -> Tensor:
        return ((x @ q) * x / 2 + c * x).sum(dim=1, keepdim=True)

    for name, places in (("wgan_gp", between(real, fake, alpha)), ("dragan", around(real, alpha, beta))):
        found = (gradient_norms(scores, places) - 1).square().mean().item()
        assert found == pytest.approx(wanted[f"{name}_penalty"], rel=1e-9)


@pytest.mark.golden("sngan", "*.json", keys="parameters")
def test_counts_of_weights_are_those_of_the_published_programs(golden: GoldenDocument) -> None:
    for name, count in golden["parameters"].items():
        found = re.fullmatch(r"dcgan_([GD])(\d+)_width(\d+)_cap(\d+)(_stacked)?", name)
        if found is None:  # of another family
            continue
        given: Any = {"c_dim": 0, "resolution": int(found[2]), "width": int(found[3])}
        given["max_width"] = given["width"] * int(found[4])
        with torch.device("meta"):
            if found[1] == "G":
                network: Any = dcgan.Generator(**given, z_dim=128, last="stacked" if found[5] else "plain")
            else:
                network = dcgan_discriminator.Discriminator(**given)
        assert parameters(network) == count, name


def test_endings_have_the_published_layers_and_what_is_left_out_is_as_published() -> None:
    ends = {
        "plain": ["ConvTranspose2d", "Tanh"],
        "stacked": ["Upsample", *["Conv2d"] * 3, "Tanh"],
        "large_stacked": ["ConvTranspose2d", "ReLU", *["Conv2d", "ReLU"] * 2, "Conv2d", "Tanh"],
    }
    for last, wanted in ends.items():
        recipe = recipe_of("dcgan", network={"last": last}, discriminator={})
        given = generator_architecture(recipe, 64, 0)
        assert given["width"] == (64 if last == "plain" else 32)
        assert discriminator_architecture(recipe, 64, 0)["width"] == (32 if last == "stacked" else 64)
        with torch.device("meta"):
            network: Any = dcgan.Generator(**given)
        assert [type(layer).__name__ for layer in network.net[4:]] == wanted
        if last == "large_stacked":
            assert network.net[4].kernel_size == (8, 8)
            assert parameters(network) == 3_987_747  # counted on the layers of its authors' program, by hand
    for loss, norm, steps in (("gan", "batch", 1), ("lsgan", "batch", 1), ("hinge", "batch", 1),
                              ("wgan-gp", "layer", 5), ("dragan", "layer", 1)):  # fmt: skip
        recipe = recipe_of("dcgan", loss=loss)
        assert discriminator_architecture(recipe, 8, 0)["norm"] == norm
        assert recipe.discriminator_steps == steps
    assert recipe_of("dcgan", loss="wgan-gp").adversarial() == Plain("wgan", 10.0, "between")
    assert recipe_of("dcgan", loss="dragan", gradient_penalty=2.0).adversarial() == Plain("gan", 2.0, "around")
    assert recipe_of("dcgan", loss="wgan-gp", discriminator_steps=2).discriminator_steps == 2


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_only_a_norm_of_single_images_keeps_scores_apart(norm: str) -> None:
    torch.manual_seed(0)
    judge = dcgan_discriminator.Discriminator(c_dim=0, resolution=16, width=3, norm=norm).train()
    images = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        together, apart = judge(images), judge(torch.cat([images[:2], -images[2:]]))
    assert torch.allclose(together[:2], apart[:2], atol=1e-5) is (norm == "layer")
    assert together.shape == (4, 1)


@pytest.mark.parametrize("loss", ["gan", "wgan-gp", "dragan"])
def test_the_discriminator_goes_first_and_penalties_are_where_the_loss_says(loss: str) -> None:
    game = game_of("dcgan", loss=loss, batch=2)
    calls: list[tuple[Any, Any]] = []
    game.update = watched(lambda name, value: type(game).update(game, name, value), calls)
    used, log = game.step(0)
    steps = 5 if loss == "wgan-gp" else 1
    assert [given[0] for given, _ in calls] == [*["discriminator"] * steps, "generator"]
    assert used == 2 * steps
    assert ("gradient_norm" in log) is (loss != "gan")
    a = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(1))
    reals, fakes = torch.randn(2, 2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    curve: list[Tensor] = []

    def scores(x: Tensor) -> Tensor:
        curve.append(x.detach())
        return (x * a).sum(dim=(1, 2, 3))[:, None]

    value, log = game.loss.discriminator(scores, reals, fakes, 0, torch.Generator().manual_seed(3))
    numbers = told(log)
    if loss == "gan":
        assert len(curve) == 2
        return
    norm = a.square().sum().sqrt().item()
    assert numbers["gradient_norm"] == pytest.approx(norm, rel=1e-5)
    assert value.item() == pytest.approx(numbers["discriminator"] + 10 * (norm - 1) ** 2, rel=1e-4)
    random = torch.Generator().manual_seed(3)
    share = torch.rand((2, 1, 1, 1), generator=random)
    if loss == "wgan-gp":
        wanted = reals * (1 - share) + fakes * share
    else:
        wanted = reals + share * 0.5 * reals.std() * torch.rand(reals.shape, generator=random)
    torch.testing.assert_close(curve[2], wanted, rtol=1e-5, atol=1e-5)


def test_spectral_terms_work_with_every_loss() -> None:
    for loss in ("lsgan", "wgan-gp", "dragan", "hinge"):
        base = game_of("dcgan", loss=loss, batch=2, discriminator_steps=2)
        for term in (
            Regularization(torch.linspace(1, 0, 6), 8, 1.0, 0.1),
            Adversary(base.recipe.adversarial(), 8, 0.01, (0.5, 0.999), 0.5, "cpu"),
        ):
            base.spectral = term
            base.step(0)
            log = base.step(0)[1]
            assert np.isfinite(list(log.values())).all()
            assert ("spectral_discriminator" in log) is isinstance(term, Adversary)
            assert log["spectral"] != 0


def test_networks_that_cannot_be_are_refused() -> None:
    given: Any = {"c_dim": 0, "resolution": 8, "width": 2}
    with pytest.raises(ValueError, match="a DCGAN ends in plain, stacked, large_stacked, not in 'bare'"):
        dcgan.Generator(**given, z_dim=2, last="bare")
    with pytest.raises(ValueError, match="no classes, not width 2, max_width 512, z_dim 2 and 3 classes"):
        dcgan.Generator(**{**given, "c_dim": 3}, z_dim=2)
    with pytest.raises(ValueError, match="is normalized by batch or layer, not 'group'"):
        dcgan_discriminator.Discriminator(**given, norm="group")
    with pytest.raises(ValueError, match="widths of at least 1 and no classes, not width 0"):
        dcgan_discriminator.Discriminator(**{**given, "width": 0})
    with pytest.raises(ValueError, match="gradient_penalty has no effect with loss: lsgan; drop it"):
        recipe_of("dcgan", loss="lsgan", gradient_penalty=1.0)


def test_a_trained_generator_is_described_and_finetuned_with_both_terms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, least in (("PAIRS", 10), ("PATCHES", 8), ("DIRECTIONS", generator_metrics.DIRECTIONS_AT_ONCE)):
        monkeypatch.setattr(generator_metrics, name, least)
    rows = photos(8)
    recipe = settings_of("dcgan", loss="dragan", kimg=0.008)
    ctx = context(tmp_path / "raw", "train_generator")
    TrainGenerator().fit(TrainGeneratorConfig.model_validate({"recipe": recipe, "pictures": 1}), {"on": rows}, ctx)
    start = ctx.out / "generator.safetensors"
    about = inspect(start)
    assert (about["family"], about["container"]) == ("dcgan", "safetensors")
    assert about["generator"]["parameters"] == 4 * 4 * 16 + 8 + 4 * 3 * 16 + 3
    of_judge = weights.read_header(ctx.out / "discriminator.safetensors").architecture
    assert of_judge == {"width": 4, "max_width": 512, "norm": "layer", "c_dim": 0, "resolution": 8}
    del recipe["network"]
    for method in ("regularization", "adversarial"):
        given = {"checkpoint": start.name, "method": method, "recipe": recipe, "warm_up_kimg": 0.004, "pictures": 1}
        ctx = context(tmp_path / method, "finetune_generator", files={"checkpoint": start})
        FinetuneGenerator().fit(FinetuneGeneratorConfig.model_validate(given), {"on": rows}, ctx)
        assert weights.read_header(ctx.out / "generator.safetensors").family == "dcgan"
        assert np.isfinite(json.loads((ctx.out / "card.json").read_text())["figures"]["profile_distance"])
