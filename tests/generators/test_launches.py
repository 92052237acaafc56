"""What a step of a game costs a GPU before any arithmetic: launches and waits, counted on tensors without values."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from launches import begun, on_a_gpu
from small_games import recipe_of

from stages.generators.games import NoiseGame
from stages.train_generator import discriminator_architecture, generator_architecture, new_network

SIDE = 256


def full_width(monkeypatch: pytest.MonkeyPatch) -> Any:
    """StyleGAN2 with the authors' widths at 256 pixels, without a value in memory."""
    recipe = recipe_of("stylegan2", network={}, discriminator={})
    device = torch.device("meta")
    reals = torch.empty(4, 3, SIDE, SIDE, device=device), None
    images: Any = SimpleNamespace(
        device=device, draw=lambda batch: reals, classes=lambda batch: None, one_hot=lambda classes: None
    )
    with device:
        players = {
            "generator": new_network("stylegan2", "generator", generator_architecture(recipe, SIDE, 0)),
            "discriminator": new_network("stylegan2", "discriminator", discriminator_architecture(recipe, SIDE, 0)),
        }
    monkeypatch.setattr(NoiseGame, "normal", lambda self, *shape: torch.empty(shape, device=device))
    monkeypatch.setattr(NoiseGame, "below", lambda self, first, end, count: [first] * count)
    monkeypatch.setattr(NoiseGame, "precision", lambda self: nullcontext())
    monkeypatch.setattr(NoiseGame, "chance", lambda self: 0.5)
    return NoiseGame(recipe, players, images, torch.Generator())


@pytest.mark.jobs
def test_a_lazy_step_of_a_full_stylegan2_has_at_most_5000_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    game = full_width(monkeypatch)
    for optimizer in game.optimizers.values():
        begun(optimizer)
    with on_a_gpu(monkeypatch) as launches:
        game.step(0)
    assert launches.count <= 5000
    assert launches.found["_foreach_lerp_"] == 3  # of the average and of both optimizers: all weights at once
    waits = dict(launches.waits)
    waits.pop("stages/generators/low_pass.py:kernel_of", None)  # constants, copied once
    assert waits == {"detectors/transfers.py:told": 1}
