"""Inversion of linear generators, whose best latent has a closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden_files import Golden
from small_games import game_of

from stages import invert
from stages.generators import layer_residuals
from stages.generators.inversion import descended, penalized, refined


@pytest.mark.golden("inversion", "*.npz", keys="optimum")
def test_the_descent_comes_near_the_closed_form_and_rows_do_not_see_each_other(golden: Golden) -> None:
    a, b, x = (torch.from_numpy(golden[name]) for name in ("A", "b", "targets"))
    weight = float(golden["latent_weight"])

    def objective(z: torch.Tensor, rows: slice = slice(None)) -> torch.Tensor:
        return penalized((z @ a.T + b - x[rows]).square().mean(dim=1), z, weight)

    zeros = torch.zeros((len(x), 1, a.shape[1]), dtype=torch.float64)
    assert objective(zeros[:, 0]).numpy() == pytest.approx(golden["loss_at_zero"], abs=1e-12)
    assert objective(torch.from_numpy(golden["optimum"])).numpy() == pytest.approx(golden["loss"], abs=1e-12)
    random = torch.Generator().manual_seed(0)
    starts = torch.randn((len(x), 32, a.shape[1]), generator=random, dtype=torch.float64)
    _, losses = descended(objective, starts, 500, 0.05)
    assert losses.numpy() == pytest.approx(golden["loss"], abs=1e-4)
    z, _ = descended(objective, starts, 20, 0.05)
    alone, _ = descended(lambda z: objective(z, slice(1, 2)), starts[1:2], 20, 0.05)
    assert alone.numpy() == pytest.approx(z[1:2].numpy(), abs=1e-12)


def test_the_descent_begins_with_the_best_start() -> None:
    starts = torch.tensor([[[3.0], [-1.0], [2.0]], [[0.5], [-4.0], [9.0]]])
    z, losses = descended(lambda z: z[:, 0].square(), starts, 1, 0.25)
    assert z[:, 0].tolist() == pytest.approx([-0.75, 0.25])
    assert losses.tolist() == pytest.approx(np.square([0.75, 0.25]).tolist())


def test_residuals_and_latents_reach_the_closed_form_together_and_rows_do_not_see_each_other() -> None:
    """(z + r - x)^2 + r^2 + z^2 / 2 is least at z = x / 2 and r = x / 4."""
    x = torch.tensor([[1.0, -2.0], [4.0, 0.5]], dtype=torch.float64)

    def objective(z: torch.Tensor, residuals: object) -> torch.Tensor:
        (r,) = residuals  # type: ignore[misc]
        return ((z + r - x[: len(z)]).square() + r.square() + z.square() / 2).mean(dim=1)

    zeros = torch.zeros_like(x)
    z, (r,), losses = refined(objective, zeros, [zeros], 300, 0.1)
    assert z.numpy() == pytest.approx((x / 2).numpy(), abs=1e-4)
    assert r.numpy() == pytest.approx((x / 4).numpy(), abs=1e-4)
    assert losses.numpy() == pytest.approx((x.square() / 4).mean(dim=1).numpy(), abs=1e-6)
    z, (r,), _ = refined(objective, zeros, [zeros], 10, 0.02)
    alone, (other,), _ = refined(objective, zeros[:1], [zeros[:1]], 10, 0.02)
    assert torch.equal(torch.cat([alone, other]), torch.cat([z[:1], r[:1]]))


def test_the_rate_of_a_refinement_is_halved_after_the_published_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: rates.append(self.param_groups[0]["lr"]))
    one = torch.zeros(1, 1)
    refined(lambda z, residuals: z.sum(dim=1), one, [], 30, 1.0)
    assert rates == [1.0] * 8 + [0.5] * 4 + [0.25] * 6 + [0.125] * 12


def test_residuals_are_added_behind_the_first_three_layers() -> None:
    network = game_of("progan", side=16, grow_from=16).average
    network.lod.fill_(0)
    z = torch.randn((2, 4), generator=torch.Generator().manual_seed(0))
    found = layer_residuals.zeros(network, "progan", network, z)
    with torch.no_grad(), layer_residuals.added(network, "progan", found):
        assert torch.equal(network(z), plain := network(z))
    random = torch.Generator().manual_seed(1)
    moved = [torch.randn(one.shape, generator=random) for one in found]

    def scaled(x: torch.Tensor) -> torch.Tensor:
        return x / (x.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()

    with torch.no_grad():
        x = scaled(F.leaky_relu(network.b4.dense(scaled(z)), 0.2)) + moved[0]
        x = scaled(F.leaky_relu(network.b4.conv(x), 0.2)) + moved[1]
        x = scaled(F.leaky_relu(network.b8.conv0(x), 0.2)) + moved[2]
        x = scaled(F.leaky_relu(network.b8.conv1(x), 0.2))
        wanted = network.b16.torgb(network.b16(x))
        with layer_residuals.added(network, "progan", moved):
            assert network(z).numpy() == pytest.approx(wanted.numpy(), abs=1e-5)
        assert torch.equal(network(z), plain)
    assert tuple(layer_residuals.BEHIND) == invert.LAYERED
