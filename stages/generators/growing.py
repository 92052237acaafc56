"""What growing networks share: their widths, and the level of detail between two resolutions (Karras et al. 2018)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from stages.generators.layers import resolutions


def widths(
    resolution: int, fmap_base: float, fmap_decay: float, fmap_max: int, features: Sequence[int] | None
) -> dict[int, int]:
    """Feature maps by side 4, 8, ... up to `resolution`: `features` if given, else the rule of the authors.

    The entry of "side 2" is the width of the discriminator's fully connected layer.
    """
    sides = resolutions(resolution)
    if features is None:
        stages = range(len(sides) + 1)
        found = [min(int(fmap_base / 2.0 ** (stage * fmap_decay)), fmap_max) for stage in stages]
    else:
        found = [*features[:1], *features]
    if len(found) != len(sides) + 1 or min(found) < 1:
        raise ValueError(f"{resolution} pixels need {len(sides)} positive numbers of feature maps, not {found[1:]}")
    return dict(zip([2, *sides], found, strict=True))


def level_of(lod: Tensor, given: float | None, resolution: int) -> tuple[int, float]:
    """Whole levels and fraction of a lod: the `given` one, or the one stored with the weights."""
    value = float(lod) if given is None else float(given)
    highest = resolution.bit_length() - 3
    if not 0 <= value <= highest:
        raise ValueError(f"the level of detail of a network of {resolution} pixels is 0 to {highest}, not {value:g}")
    return math.floor(value), value - math.floor(value)


def upsample(x: Tensor, factor: int = 2) -> Tensor:
    """Repeat each pixel."""
    return F.interpolate(x, scale_factor=factor, mode="nearest") if factor > 1 else x
