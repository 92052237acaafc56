"""Inversion of linear generators, whose best latent has a closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_files import Golden

from stages.generators.inversion import descended, penalized


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
