"""Differentiable augmentation: the same kinds of random change for real and for generated images.

With a few hundred photographs a discriminator learns them by heart. If it sees real and generated images only after
random changes through which gradients flow, it cannot, and the generator does not learn the changes (Zhao et al. 2020,
arXiv:2006.10738, section 3).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.generators.training_recipes import Augmentation
from stages.training.kept_images import windows


def augment(x: Tensor, reach: Augmentation, random: torch.Generator) -> Tensor:
    """Color, translation and cutout, drawn anew for each image of (N, C, H, W); differentiable in x."""
    n, _, side, _ = x.shape

    def uniform(reach: float) -> Tensor:
        return (torch.rand((n, 1, 1, 1), generator=random, device=x.device) * 2 - 1) * reach

    x = x + uniform(reach.brightness)
    gray = x.mean(dim=1, keepdim=True)
    x = gray + (x - gray) * (1 + uniform(reach.saturation))
    middle = x.mean(dim=(1, 2, 3), keepdim=True)
    x = middle + (x - middle) * (1 + uniform(reach.contrast))
    return _cut_out(_shift(x, int(side * reach.translation), random), int(side * reach.cutout), random)


def _shift(x: Tensor, most: int, random: torch.Generator) -> Tensor:
    """Each image moved by up to `most` pixels in both directions; zeros move in."""
    n, _, side, _ = x.shape
    if not most:
        return x
    padded = F.pad(x, (most,) * 4)
    corners = torch.randint(0, 2 * most + 1, (n, 2), generator=random, device=x.device)
    return windows(padded, corners[:, 0], corners[:, 1], side, side)


def _cut_out(x: Tensor, hole: int, random: torch.Generator) -> Tensor:
    """A square of each image set to zero; its middle lies anywhere in the image."""
    n, _, side, _ = x.shape
    if not hole:
        return x
    first = torch.randint(-(hole // 2), side - hole // 2, (n, 2, 1), generator=random, device=x.device)
    places = torch.arange(side, device=x.device)
    inside = (places >= first) & (places < first + hole)  # (n, 2, side)
    return x * ~(inside[:, 0, :, None] & inside[:, 1, None, :])[:, None]
