"""How far images look apart: what separates them in the layers of a perceptual network, relative to the image."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stages.resynthesis import perceptual

if TYPE_CHECKING:
    from stages.resynthesis.perceptual_networks import PerceptualNetwork

Distance = Callable[[Tensor, Tensor], Tensor]
"""Of images (N, 3, H, W) RGB, about -1..1, to others: (N,), 0 where they are the same."""

LEAST = 1e-10
LPIPS = "stages.resynthesis.lpips"
"""Imported where heads are given, so that it stands in no other recipe."""


def relative(network: PerceptualNetwork, images: Tensor, others: Tensor) -> Tensor:
    """(N,): mean of |f(x) - f(y)|^2 / |f(x)|^2 over as many stages as the side allows; sums over a stage's values."""
    stages = [stage for stage in range(1, perceptual.STAGES + 1) if min(images.shape[2:]) >= 1 << (stage - 1)]
    found, theirs = (network.stages((one + 1) / 2, stages) for one in (images, others))
    parts = []
    for stage in stages:
        apart = (found[stage] - theirs[stage]).flatten(1).square().sum(dim=1)
        parts.append(apart / (found[stage].flatten(1).square().sum(dim=1) + LEAST))
    return torch.stack(parts).mean(dim=0)


def squared(images: Tensor, others: Tensor) -> Tensor:
    """(N,): mean squared difference of values."""
    return (images - others).flatten(1).square().mean(dim=1)


def distance_of(path: Path | None, device: str, heads: Path | None = None) -> Distance:
    """LPIPS where there are heads, else the relative distance in the network of a file; without one `squared`."""
    if path is None:
        return squared
    if heads is not None:
        lpips: Any = import_module(LPIPS)
        return lpips.load(path, heads, device)  # type: ignore[no-any-return]
    network = perceptual.load(path, device)
    return lambda images, others: relative(network, images, others)
