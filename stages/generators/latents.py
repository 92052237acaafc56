"""Families whose images come from a latent and, at most, a label: how one is drawn, and made into an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

NOISES: tuple[str, ...] = ()  # z is the only source of randomness


def styles(architecture: Mapping[str, Any]) -> int:
    """Number of styles that truncation can cut off: none."""
    return 0


def draw(architecture: Mapping[str, Any], seed: int, noise: str = "none") -> dict[str, NDArray[np.float32]]:
    """What one image is made from: z (z_dim,) float32 of numpy's RandomState(seed)."""
    return {"z": np.random.RandomState(seed).randn(1, architecture["z_dim"])[0].astype(np.float32)}


@torch.no_grad()
def render(
    generator: nn.Module,
    rows: Mapping[str, Tensor],
    *,
    psi: float = 1.0,
    cutoff: int | None = None,
    noise: str = "none",
) -> Tensor:
    """Images (N, 3, H, W) float32, -1..1, of drawn rows: "z", and "label" if conditional.

    psi, cutoff and noise are those of other families; here they must keep their values.
    """
    if psi != 1 or cutoff is not None:
        raise ValueError(f"there are no styles to truncate: psi is 1 and cutoff is none, not {psi:g} and {cutoff}")
    images: Tensor = generator(rows["z"], rows.get("label"))
    return images
