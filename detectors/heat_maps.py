"""Where in a picture a network finds what it decides by: maps of its cells, brought to 0..1 and to a picture's size."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def class_activation(maps: Tensor, weight: Tensor) -> Tensor:
    """(N, h, w): cells (N, C, h, w) before a mean and a linear layer, weighted by its row (C,) of a class.

    Their mean and the layer's bias make the logit (Zhou et al. 2016).
    """
    return (maps * weight[:, None, None]).sum(dim=1)


def scaled(maps: Tensor) -> Tensor:
    """(N, h, w) from the least to the largest value of each map, to 0..1; a flat map is 0."""
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    spread = high - low
    return (maps - low) / spread.masked_fill(spread == 0, 1)


def positive(maps: Tensor) -> Tensor:
    """What speaks for the class, (N, h, w) to 0..1; zeros where nothing does (Grad-CAM divides 0 by 0 there)."""
    return scaled(maps.clamp_min(0))


def enlarged(maps: Tensor, sides: tuple[int, int]) -> Tensor:
    """(N, h, w) to (N, *sides), bilinear between the middles of pixels, as OpenCV does."""
    from torch.nn.functional import interpolate

    return interpolate(maps[:, None], size=sides, mode="bilinear", align_corners=False)[:, 0]
