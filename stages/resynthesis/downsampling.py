"""The low-resolution input of the re-synthesizer: the mean of each 4 x 4 block of pixels, exact in float32.

The released code of He et al. 2021 averages values of 0..255 and divides by 255 afterwards. Sums of sixteen bytes and
their sixteenths are exact in float32, so every order of adding gives the same bits; dividing first does not.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.resynthesis.scale import COLORS, SCALE


def channels_first(images: Tensor) -> Tensor:
    """(N, H, W, 3) or (N, 3, H, W) uint8, as (N, 3, H, W); no copy.

    The sides are multiples of 4, so that 3 tells which axis is that of the colors. Raises ValueError.
    """
    found = f"{str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise ValueError(f"expected images (N, H, W, 3) or (N, 3, H, W) uint8, found {found}")
    if images.shape[1] != COLORS:
        images = images.permute(0, 3, 1, 2)
    height, width = images.shape[2:]
    if images.shape[1] != COLORS or height % SCALE or width % SCALE or not height or not width:
        raise ValueError(f"expected RGB images whose sides are multiples of {SCALE}, found {found}; crop them before")
    return images


def downsample(images: Tensor) -> Tensor:
    """(N, H, W, 3) or (N, 3, H, W) uint8 to (N, 3, H / 4, W / 4) float32, RGB in [0, 1]; raises ValueError."""
    return by_255(F.avg_pool2d(channels_first(images).float(), SCALE))


def by_255(values: Tensor) -> Tensor:
    """Float32 values over 255, rounded once: a number as divisor would become a factor of 1 / 255 on a GPU."""
    return values / torch.full((), 255.0, device=values.device)
