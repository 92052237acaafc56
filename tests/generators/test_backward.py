"""The way back is not rounded by the half precision around it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_games import game_of
from torch import Tensor

from stages.generators.backward import backward, gradients
from stages.generators.losses import Logistic
from stages.generators.spectral_training import Adversary

HALF: dict[str, Any] = {"device_type": "cpu", "dtype": torch.bfloat16, "cache_enabled": False}


def test_products_of_float32_layers_keep_their_gradients_inside_half_precision() -> None:
    first, second = torch.randn(5, 7, requires_grad=True), torch.randn(7, 3, requires_grad=True)
    value = (first @ second).square().sum()
    expected = 2 * (first @ second) @ second.T, 2 * first.T @ (first @ second)
    with torch.autocast(**HALF):
        found = gradients(value, (first, second), retain_graph=True)
        backward(value)
    for wanted, one, kept in zip(expected, found, (first.grad, second.grad), strict=True):
        torch.testing.assert_close(one, wanted.detach(), rtol=1e-6, atol=1e-6)
        assert torch.equal(one, kept)


def after_a_step(half: bool) -> dict[str, Tensor]:
    torch.manual_seed(0)
    adversary = Adversary(Logistic(1.0, 1), 16, 0.01, (0.0, 0.99), 0.5, "cpu")
    images = torch.rand(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.autocast(**HALF, enabled=half):
        adversary.discriminator(images[0], images[1], 0, torch.Generator())
    return {name: one.grad for name, one in adversary.network.named_parameters() if one.grad is not None}


def test_the_spectral_discriminator_learns_in_half_precision_what_it_learns_without() -> None:
    whole, half = after_a_step(False), after_a_step(True)
    assert whole.keys() == half.keys()
    assert all(torch.equal(whole[name], half[name]) for name in whole)


@pytest.mark.parametrize("family", ["stylegan2", "stargan2"])
def test_no_way_back_of_a_game_runs_inside_half_precision(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inside: list[bool] = []
    for module, name in ((torch.Tensor, "backward"), (torch.autograd, "grad")):
        original = getattr(module, name)

        def noted(*given: Any, original: Any = original, **more: Any) -> Any:
            inside.append(torch.is_autocast_enabled("cpu"))
            return original(*given, **more)

        monkeypatch.setattr(module, name, noted)
    game_of(family, mixed=True).step(0)
    assert len(inside) > 2
    assert not any(inside)
