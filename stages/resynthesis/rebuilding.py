"""Photographs that a re-synthesizer gives back, as images of 8 bits: what `residual` takes the difference to.

Whatever the task that the network was trained for, its input is the clean reduced photograph, as that of all features
(He et al. 2021, section 4.2).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from stages.resynthesis.downsampling import downsample
from stages.resynthesis.fidelity import to_bytes


@torch.no_grad()
def render(network: nn.Module, rows: Mapping[str, Tensor]) -> Tensor:
    """Images (N, 3, H, W) float32, nominally 0..1, of the photographs "source" (N, H, W, 3) uint8."""
    images: Tensor = network(downsample(rows["source"]))
    return images


def to_uint8(images: Tensor) -> Tensor:
    """(N, 3, H, W) float of nominally 0..1 to (N, H, W, 3) uint8, rounded half to even and clipped."""
    return to_bytes(images).permute(0, 2, 3, 1).contiguous()
