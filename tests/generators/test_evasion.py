"""Equation 4 of Chai et al. 2020 on linear models, against reference values."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from golden_files import Golden
from small_games import game_of

from pipeline.errors import Interrupted
from stages.finetune_generator import FinetuneGeneratorConfig, _watch
from stages.generators.evasion import Evasion
from stages.generators.losses import Logistic, Wasserstein
from stages.training.course import train


@pytest.mark.golden("finetune_against_classifier", "*.npz", keys=".*_grad_A")
def test_loss_and_slopes_of_a_step_are_those_of_the_reference(golden: Golden) -> None:
    given = {name: torch.from_numpy(np.asarray(golden[name])) for name in ("b", "c", "c0", "D", "D0", "Z", "A")}
    losses: dict[str, Any] = {"logistic": Logistic(0.0), "wgan": Wasserstein()}
    for match in golden.matches("(.*)_grad_A"):
        kind = match[1]
        weights, bias = (given[name].clone().requires_grad_() for name in ("A", "b"))
        term = Evasion(lambda x: (x @ given["c"] + given["c0"])[:, None], float(golden["weight"]))

        def made(weights: Any = weights, bias: Any = bias) -> torch.Tensor:
            return given["Z"] @ weights.T + bias

        adversarial = losses[kind].generator((made() @ given["D"] + given["D0"])[:, None])
        total = term.generator(adversarial, made(), [weights, bias])
        log = term.discriminator(made(), made(), 0, torch.Generator())
        assert adversarial.item() == pytest.approx(float(golden[f"{kind}_gan"]), abs=1e-10)
        assert log["classifier"] == pytest.approx(float(golden[f"{kind}_real"]), abs=1e-10)
        total.backward()
        assert weights.grad.numpy() == pytest.approx(golden[f"{kind}_grad_A"], abs=1e-10)
        assert bias.grad.numpy() == pytest.approx(golden[f"{kind}_grad_b"], abs=1e-10)
        logits = term.judge(made())
        assert logits.mean().item() == pytest.approx(float(golden[f"{kind}_mean_fake_logit_before"]), abs=1e-10)
        assert (logits > 0).double().mean().item() == pytest.approx(float(golden[f"{kind}_accuracy_before"]))
        with torch.no_grad():
            moved = given["Z"] @ (weights - 0.1 * weights.grad).T + bias - 0.1 * bias.grad
        after = term.judge(moved).mean().item()
        assert after == pytest.approx(float(golden[f"{kind}_mean_fake_logit_after_sgd_0.1"]), abs=1e-10)


def test_without_weight_nothing_is_added() -> None:
    term = Evasion(lambda x: x, 0.0)
    assert term.generator(torch.tensor(3.0), torch.ones(2, 1), []).item() == 3.0


def test_a_training_ends_when_the_classifier_is_fooled_also_after_a_kill(tmp_path: Path) -> None:
    """Of 64 images after 32: what was seen there is kept with the progress."""
    shares = iter([0.9, 0.4])
    config = FinetuneGeneratorConfig.model_validate_json(
        json.dumps({"checkpoint": "x", "method": "evade", "stop_kimg": 0.016, "recipe": {"family": "progan"}})
    )
    watched = SimpleNamespace(called_fake=lambda game: next(shares))
    for killed in (True, False):
        game = game_of("progan", grow_kimg=0.0, fade_kimg=0.0, grow_from=8)
        game.spectral = Evasion(lambda images: images.flatten(1).mean(dim=1, keepdim=True), 1.0)
        given = {
            "save_images": 16,
            "watch": _watch(config, game, watched),
            "ended": lambda: game.spectral.numbers.get("called_fake", 1.0) < config.stop_below,  # noqa: B023
            "stopping": lambda: killed and game.steps == 4,  # noqa: B023
        }
        if killed:
            with pytest.raises(Interrupted):
                train(game, 0.064, tmp_path, **given)
    assert train(game, 0.064, tmp_path, **given)[-1]["kimg"] == 0.032
    assert game.steps == 8  # of four images each
    assert next(shares, None) is None
