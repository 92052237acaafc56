"""How faithful enlarged images are: peak signal-to-noise ratio, and bicubic enlargement to compare with.

PSNR is that of 8-bit RGB: values are clamped and rounded before, all three channels count, and each image has its own
value. An exact image would have an infinite one, so that no value is above `MOST_DB`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_DB = 100.0


def to_bytes(images: Tensor) -> Tensor:
    """Float images of nominally [0, 1], any shape, to uint8 by clamping and rounding."""
    return (images * 255).round().clamp(0, 255).to(torch.uint8)


def psnr(made: Tensor, originals: Tensor) -> Tensor:
    """(N,) float64 in dB, of two batches of uint8 images; 10 log10(255^2 / mean square error), at most 100."""
    squares = (made.double() - originals.double()).square().flatten(1).mean(dim=1)
    least = 255**2 / 10 ** (MOST_DB / 10)
    return 10 * torch.log10(255**2 / squares.clamp(min=least))


def bicubic(images: Tensor) -> Tensor:
    """(N, 3, h, w) to (N, 3, 4h, 4w) float32, by Keys' cubic with a = -1/2, as Pillow's BICUBIC; not clamped."""
    return F.interpolate(images, scale_factor=4, mode="bicubic", antialias=True)  # without it, a would be -3/4
