"""Random patches of a view's training rows.

Patches begin at multiples of 4, so that the low-resolution image of a patch is the patch of the low-resolution image.
Each is mirrored left to right, top to bottom and turned by a quarter with probability 1/2, as in the released code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.stage import Rows
from stages.resynthesis.scale import SCALE

IN_MEMORY = 4 << 30  # bytes; larger sets are read batch by batch


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
        field = rows.fields["image"]
        self.height, self.width = field.shape[:2]
        self._kept = rows.array("image") if len(rows) * field.row_bytes <= IN_MEMORY else None

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self, count: int) -> Tensor:
        """(count, 3, side, side) uint8 on the device."""
        height, width = (self.side, self.side) if self.side else (self.height, self.width)
        chosen = self._below(len(self), count)
        tops = SCALE * self._below((self.height - height) // SCALE + 1, count)
        lefts = SCALE * self._below((self.width - width) // SCALE + 1, count)
        images = self.pixels(chosen)
        parts = [images[k, tops[k] : tops[k] + height, lefts[k] : lefts[k] + width] for k in range(count)]
        patches = torch.from_numpy(np.stack(parts)).to(self.device).permute(0, 3, 1, 2)
        if self.mirrors != "none":
            patches = self._where(patches, patches.flip(3))
        if self.mirrors == "all":
            patches = self._where(patches, patches.flip(2))
        if self.mirrors == "all" and height == width:
            patches = self._where(patches, patches.transpose(2, 3).flip(2))
        return patches

    def pixels(self, chosen: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Whole images (N, H, W, 3) of these rows."""
        found: NDArray[Any] = self._kept[chosen] if self._kept is not None else self.rows.array("image", chosen)
        return found

    def _below(self, end: int, count: int) -> NDArray[np.int64]:
        drawn = torch.randint(end, (count,), generator=self.random, device=self.device)
        return np.asarray(drawn.cpu().numpy(), dtype=np.int64)

    def _where(self, patches: Tensor, others: Tensor) -> Tensor:
        """Each patch from the first or the second, by a coin."""
        coins = torch.rand(len(patches), generator=self.random, device=self.device) < 0.5
        return torch.where(coins[:, None, None, None], others, patches)
