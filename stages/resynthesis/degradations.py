"""What is done to low-resolution images before they are enlarged, so that the re-synthesizer learns more than one task.

He et al. 2021, section 4.2: colorization (10 to 25 % of the pixels gray) and denoising (Gaussian noise of standard
deviation 4/255), each on half of the images. Features are always computed of clean images; degraded ones serve the
reconstruction loss alone, and the given tensor is never changed.
"""

from __future__ import annotations

import torch
from torch import Tensor

GRAY_SHARES = (0.10, 0.25)
NOISE = 4 / 255
CHANCE = 0.5
"""Share of the images that are degraded, by a coin for each image and kind."""


def grayed(images: Tensor, mask: Tensor) -> Tensor:
    """(N, 3, h, w) with the pixels of the mask (N, h, w) replaced by the mean of their three channels."""
    return torch.where(mask[:, None], images.mean(dim=1, keepdim=True), images)


def noisy(images: Tensor, noise: Tensor) -> Tensor:
    """Images with noise of their shape added, not clamped."""
    return images + noise


def degraded(images: Tensor, task: str, random: torch.Generator, chance: float = CHANCE) -> Tensor:
    """A degraded copy of low-resolution images (N, 3, h, w) float32 in [0, 1]; noise may leave this range.

    task    "SR" (an exact copy), "SR+C", "SR+D" or "SR+C+D" (colors first, then noise)
    chance  of each image to be degraded, for colors and noise apart
    """
    result = images.clone()
    kinds = task.split("+")[1:]
    if "C" in kinds:
        result = grayed(result, gray_masks(images, random) & coins(images, random, chance)[:, None, None])
    if "D" in kinds:
        noise = NOISE * torch.randn(images.shape, generator=random, device=images.device)
        result = noisy(result, noise * coins(images, random, chance)[:, None, None, None])
    return result


def gray_masks(images: Tensor, random: torch.Generator) -> Tensor:
    """(N, h, w) bool; of each image a share of the pixels that is uniform in 10 to 25 %, at random places."""
    count, _, height, width = images.shape
    low, high = GRAY_SHARES
    shares = low + (high - low) * torch.rand(count, generator=random, device=images.device)
    order = torch.rand((count, height * width), generator=random, device=images.device).argsort(dim=1, stable=True)
    ranks = order.argsort(dim=1, stable=True)
    return (ranks < (shares * height * width).round()[:, None]).reshape(count, height, width)


def coins(images: Tensor, random: torch.Generator, chance: float) -> Tensor:
    """(N,) bool."""
    return torch.rand(len(images), generator=random, device=images.device) < chance
