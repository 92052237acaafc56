"""A fixed low-pass filter of feature maps, whose way back is a filter again (Karras et al. 2020, appendix B).

torch would take the gradient of a gradient of a grouped convolution channel by channel, for a weight that is never
learned: of the 26,000 operations of a step of StyleGAN2 with its penalties, 22,000 were these. A filter is linear, so
its gradient is its adjoint, and the adjoint's gradient is the filter: one operation each, however deep.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

Pads = tuple[int, int]


@cache
def kernel_of(taps: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """(1, 1, k, k): the taps along both axes with sum 1; made once, since a copy to a GPU waits for the GPU."""
    with torch.inference_mode(False):
        line = torch.tensor(taps, dtype=dtype, device=device) / sum(taps)
        return line.outer(line)[None, None]


def filtered(x: Tensor, kernel: Tensor, pads: Pads, stride: int = 1) -> Tensor:
    """Each channel of (N, C, H, W) by a constant kernel, (1, 1, k, k) or (C, 1, k, k).

    pads: zeros (before, after) of both axes; of the result every `stride`-th pixel.
    """
    made: Tensor = _Filter.apply(x, kernel, pads, stride)  # type: ignore[no-untyped-call]
    return made


def _expanded(kernel: Tensor, x: Tensor) -> Tensor:
    return kernel.to(x.dtype).expand(x.shape[1], 1, *kernel.shape[2:])


class _Filter(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, pads: Pads, stride: int) -> Tensor:
        ctx.kernel, ctx.pads, ctx.stride, ctx.sides = kernel, pads, stride, tuple(x.shape[2:])
        return F.conv2d(F.pad(x, (*pads, *pads)), _expanded(kernel, x), stride=stride, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        return _Adjoint.apply(slope, ctx.kernel, ctx.pads, ctx.stride, ctx.sides), None, None, None  # type: ignore[no-untyped-call]


class _Adjoint(Function):
    """On a CPU in float32 at least: with a stride of 2, torch takes a dozen times as long in bfloat16."""

    @staticmethod
    def forward(ctx: Any, slope: Tensor, kernel: Tensor, pads: Pads, stride: int, sides: tuple[int, int]) -> Tensor:
        ctx.kernel, ctx.pads, ctx.stride = kernel, pads, stride
        before, whole = pads[0], [side + sum(pads) for side in sides]
        made = [(length - 1) * stride + kernel.shape[-1] for length in slope.shape[2:]]
        given = slope if slope.is_cuda else slope.to(torch.promote_types(slope.dtype, torch.float32))
        wide = F.conv_transpose2d(
            given,
            _expanded(kernel, given),
            stride=stride,
            output_padding=[side - found for side, found in zip(whole, made, strict=True)],
            groups=slope.shape[1],
        )
        return wide[:, :, before : before + sides[0], before : before + sides[1]].to(slope.dtype)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None, None, None]:  # type: ignore[override]
        return filtered(slope, ctx.kernel, ctx.pads, ctx.stride), None, None, None, None
