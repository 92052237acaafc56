"""Random patches of a view's training rows.

Patches begin at multiples of 4, so that the low-resolution image of a patch is the patch of the low-resolution image.
Each is mirrored left to right, top to bottom and turned by a quarter with probability 1/2, as in the released code.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.stage import Rows
from stages.resynthesis.scale import SCALE
from stages.training.kept_images import KeptImages, windows


class Patches:
    """Rows with a field `image` (H, W, 3) uint8, drawn with replacement.

    side     of a patch, pixels, a multiple of 4; None: whole images
    mirrors  "all": both mirrors and, of squares, quarter turns; "horizontal": left to right only; "none"
    Rows must come in an order that does not depend on shards.
    """

    def __init__(
        self, rows: Rows, device: str, random: torch.Generator, side: int | None, mirrors: str = "all"
    ) -> None:
        self.rows, self.device, self.random, self.side, self.mirrors = rows, device, random, side, mirrors
        self.height, self.width = rows.fields["image"].shape[:2]
        self.kept = KeptImages(rows, device)

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self, count: int) -> Tensor:
        """(count, 3, side, side) uint8 on the device."""
        height, width = (self.side, self.side) if self.side else (self.height, self.width)
        chosen = self._below(len(self), count)
        tops = SCALE * self._below((self.height - height) // SCALE + 1, count)
        lefts = SCALE * self._below((self.width - width) // SCALE + 1, count)
        images = self.kept.of(chosen).permute(0, 3, 1, 2)
        patches = images
        if self.side:
            patches = windows(images, tops, lefts, height, width).contiguous(memory_format=torch.channels_last)
        if self.mirrors != "none":
            patches = self._where(patches, patches.flip(3))
        if self.mirrors == "all":
            patches = self._where(patches, patches.flip(2))
        if self.mirrors == "all" and height == width:
            patches = self._where(patches, patches.transpose(2, 3).flip(2))
        return patches

    def _below(self, end: int, count: int) -> Tensor:
        return torch.randint(end, (count,), generator=self.random, device=self.device)

    def _where(self, patches: Tensor, others: Tensor) -> Tensor:
        """Each patch from the first or the second, by a coin."""
        coins = torch.rand(len(patches), generator=self.random, device=self.device) < 0.5
        return torch.where(coins[:, None, None, None], others, patches)
