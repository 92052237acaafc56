"""The images that a training draws from: in the memory of its device where they fit, else read batch by batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import Function

from detectors.transfers import elsewhere, sent
from pipeline.loader import MEMORY_SHARE, free_memory
from pipeline.stage import Rows

IN_MEMORY = 4 << 30
"""Bytes of a set that is held."""

BLOCK_BYTES = 64 << 20
"""Of the host's memory, through which a set goes to a device."""


class KeptImages:
    """Rows with a field `image` (H, W, 3) uint8; whole: all of them on the device, None where they do not fit."""

    def __init__(self, rows: Rows, device: torch.device | str) -> None:
        self.rows, self.device = rows, torch.device(device)
        row = rows.fields["image"].row_bytes
        size = len(rows) * row
        fits = size <= IN_MEMORY
        if elsewhere(self.device):
            fits = fits and size <= MEMORY_SHARE * free_memory(str(device))
        self.whole = self._loaded(max(BLOCK_BYTES // max(row, 1), 1)) if fits else None

    def _loaded(self, count: int) -> Tensor:
        if not elsewhere(self.device):
            return torch.from_numpy(self.rows.array("image"))
        whole = torch.empty((len(self.rows), *self.rows.fields["image"].shape), dtype=torch.uint8, device=self.device)
        start = 0
        for block in self.rows.blocks("image", count):
            whole[start : start + len(block)] = sent(block, self.device)
            start += len(block)
        return whole

    def of(self, chosen: Tensor) -> Tensor:
        """Images (n, H, W, 3) uint8 of these rows, (n,) int64, both on the device."""
        if self.whole is not None:
            return self.whole.index_select(0, chosen)
        return sent(self.rows.array("image", chosen.cpu().numpy()), self.device)

    def pixels(self, chosen: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """The same for the host."""
        found: NDArray[np.uint8] = self.of(sent(chosen.astype(np.int64), self.device)).cpu().numpy()
        return found


def windows(images: Tensor, tops: Tensor, lefts: Tensor, height: int, width: int) -> Tensor:
    """The part (N, C, height, width) of each image that begins at its row and column, (N,) int64; differentiable.

    Places are read by index, so that the host need not know them.
    """
    made: Tensor = _Windows.apply(images, tops, lefts, height, width)  # type: ignore[no-untyped-call]
    return made


class _Windows(Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, tops: Tensor, lefts: Tensor, height: int, width: int) -> Tensor:
        ctx.save_for_backward(tops, lefts)
        ctx.sides, ctx.most = tuple(images.shape[2:]), (images.shape[2] - height, images.shape[3] - width)
        rows = (tops[:, None] + torch.arange(height, device=tops.device))[:, :, None]
        columns = (lefts[:, None] + torch.arange(width, device=lefts.device))[:, None, :]
        numbers = torch.arange(len(images), device=images.device)[:, None, None]
        return images.permute(0, 2, 3, 1)[numbers, rows, columns].permute(0, 3, 1, 2).contiguous()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None, None, None]:  # type: ignore[override]
        tops, lefts = ctx.saved_tensors
        down, across = ctx.most
        wide = F.pad(slope, (across, across, down, down))
        return windows(wide, down - tops, across - lefts, *ctx.sides), None, None, None, None
