"""What the layers of a generator's last block see beyond a border: zeros, as published, or a continuation.

Zeros leave a line of other contrast around every image, which one number tells from photographs (`border_step` of the
stage `measure`). At smaller sides they stay: by them a network knows where it is (Islam et al. 2020, arXiv:2001.08248),
and what goes on there is smooth far into the image. No layer has more or fewer weights with a continuation, so that a
training may be taken up with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from stages.generators import layers

PADDINGS = ("zeros", "replicate", "reflect")
ZEROS = PADDINGS[0]


def check(padding: str) -> str:
    """The padding. Raises ValueError where there is none of this name."""
    if padding not in PADDINGS:
        raise ValueError(f"padding is one of {', '.join(PADDINGS)}, not {padding!r}")
    return padding


def continued(x: Tensor, padding: str) -> Tensor:
    """(N, C, H, W) to (N, C, H + 2, W + 2): a pixel more on each side, the outermost again or the one inside of it.

    By slices, whose gradients add up in a fixed order on every device; torch's own padding does not.
    """
    inside = 0 if padding == "replicate" else 1
    for axis in (2, 3):
        last = x.shape[axis] - 1
        x = torch.cat([x.narrow(axis, inside, 1), x, x.narrow(axis, last - inside, 1)], dim=axis)
    return x


def bordered(layer: Callable[[Tensor], Tensor], x: Tensor, padding: str) -> Tensor:
    """What a layer that sees zeros beyond the border makes of feature maps that go on there instead.

    layer: keeps or doubles the sides, and looks no further than a pixel of `x`; what it makes of the pixel around is
    cut off again.
    """
    if padding == ZEROS:
        return layer(x)
    made = layer(continued(x, padding))
    margin = made.shape[2] // (x.shape[2] + 2)
    return made[:, :, margin:-margin, margin:-margin]


class Convolution(layers.Convolution):
    """The same with a padding."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, *, padding: str = ZEROS, **more: Any) -> None:
        super().__init__(inputs, outputs, size, **more)
        self.padding = padding if size > 1 else ZEROS

    def forward(self, x: Tensor) -> Tensor:
        return bordered(super().forward, x, self.padding)
