"""What a generator makes its image nearest to a given one from, by gradient descent; rows do not see each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Objective = Callable[[Tensor], Tensor]
"""Latents (N, z_dim) to losses (N,), each of its own row alone."""


def descended(objective: Objective, starts: Tensor, steps: int, rate: float) -> tuple[Tensor, Tensor]:
    """Latents (N, z_dim) and their losses (N,) after `steps` steps of Adam, whose rate falls to 0 along a cosine.

    starts: (N, k, z_dim); of each row the one with the least loss is taken. Adam keeps its moments value by value and
    the losses are added, so that no row depends on its neighbors.
    """
    with torch.no_grad():
        losses = torch.stack([objective(starts[:, number]) for number in range(starts.shape[1])], dim=1)
    best = losses.argmin(dim=1)
    z = starts[torch.arange(len(starts), device=starts.device), best].clone().requires_grad_()
    optimizer = torch.optim.Adam([z], lr=rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
        optimizer.zero_grad(set_to_none=True)
        objective(z).sum().backward()
        optimizer.step()
    with torch.no_grad():
        return z.detach(), objective(z)


HALVED_AT = (800 / 3000, 1200 / 3000, 1800 / 3000)
"""Parts of a course at which its rate is halved (Bau et al. 2019)."""


def refined(
    objective: Callable[[Tensor, Sequence[Tensor]], Tensor],
    z: Tensor,
    residuals: Sequence[Tensor],
    steps: int,
    rate: float,
) -> tuple[Tensor, list[Tensor], Tensor]:
    """Latents, residuals and their losses (N,) after `steps` further steps of Adam on both.

    objective: latents (N, z_dim) and residuals, each (N, ...), to losses (N,), each of its own row alone
    """
    moved = [one.clone().requires_grad_() for one in (z, *residuals)]
    optimizer = torch.optim.Adam(moved, lr=rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate / 2 ** sum(step >= part * steps for part in HALVED_AT)
        optimizer.zero_grad(set_to_none=True)
        objective(moved[0], moved[1:]).sum().backward()
        optimizer.step()
    with torch.no_grad():
        z, *residuals = (one.detach() for one in moved)
        return z, residuals, objective(z, residuals)


def penalized(image_error: Tensor, z: Tensor, weight: float) -> Tensor:
    """Losses (N,) of an error of images, and `weight` times the mean square of the latent."""
    return image_error + weight * z.square().mean(dim=1)
