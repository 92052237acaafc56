"""The real images that a generator learns from: random batches of a view's training rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import StageError
from pipeline.stage import Rows

IN_MEMORY = 4 << 30  # bytes; larger sets are read batch by batch


class TrainingImages:
    """Rows with a field `image` (side, side, 3) uint8, drawn with replacement, as (N, 3, side, side) float32, -1..1.

    Classes are the rows' domains, in the order of `domains` or by name. Rows must come in an order that does not depend
    on shards.
    """

    def __init__(
        self,
        rows: Rows,
        device: str,
        random: torch.Generator,
        *,
        flips: bool = False,
        enlarged: float = 1.0,
        conditional: bool = False,
        domains: Sequence[str] | None = None,
    ) -> None:
        self.rows, self.device, self.random = rows, torch.device(device), random
        self.flips, self.enlarged, self.conditional = flips, enlarged, conditional
        field = rows.fields["image"]
        self.side = field.shape[0]
        self._kept = rows.array("image") if len(rows) * field.row_bytes <= IN_MEMORY else None
        column = rows.column("domain").astype(str).tolist() if conditional else [""] * len(rows)
        found = sorted(set(column))
        if conditional and ("" in found or len(found) < 2):
            raise StageError(
                f"conditional training needs rows of two or more domains, found {', '.join(found) or 'none'!r}; "
                "give each row a domain in its manifest"
            )
        self.domains = list(domains or found)
        if domains is not None and found != sorted(domains):
            raise StageError(
                f"the recipe's domains are {', '.join(domains)}, those of the training rows {', '.join(found)}; they "
                "must be the same"
            )
        numbers = {name: number for number, name in enumerate(self.domains)}
        self._class = torch.tensor([numbers[name] for name in column], dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def count_of_classes(self) -> int:
        """0 for unconditional training."""
        return len(self.domains) if self.conditional else 0

    def draw(self, count: int, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Images and their classes (N,) int64; with `classes`, image i is one of class classes[i]."""
        if classes is None:
            chosen = torch.randint(len(self), (count,), generator=self.random, device=self.device).cpu()
        else:
            share = torch.rand((count,), generator=self.random, device=self.device).cpu()
            members = [torch.nonzero(self._class == number)[:, 0] for number in range(len(self.domains))]
            wanted = classes.cpu().tolist()
            chosen = torch.stack([members[k][int(share[i] * len(members[k]))] for i, k in enumerate(wanted)])
        images = self._cut(self.floats(self.pixels(chosen.numpy())))
        if self.flips:
            flip = torch.rand((count,), generator=self.random, device=self.device) < 0.5
            images = torch.where(flip[:, None, None, None], images.flip(3), images)
        return images, self._class[chosen].to(self.device)

    def _cut(self, images: Tensor) -> Tensor:
        """A square of the old size at a random place of each enlarged image."""
        side = images.shape[2]
        large = round(side * self.enlarged)
        if large == side:
            return images
        wide = F.interpolate(images, size=(large, large), mode="bicubic", align_corners=False).clamp(-1, 1)
        corners = torch.randint(large - side + 1, (len(images), 2), generator=self.random, device=self.device).tolist()
        return torch.stack([one[:, y : y + side, x : x + side] for one, (y, x) in zip(wide, corners, strict=True)])

    def classes(self, count: int) -> Tensor:
        """Classes of random rows, (N,) int64."""
        chosen = torch.randint(len(self), (count,), generator=self.random, device=self.device).cpu()
        return self._class[chosen].to(self.device)

    def class_of(self, rows: NDArray[np.integer]) -> Tensor:  # type: ignore[type-arg]
        """Classes of these rows, (N,) int64."""
        return self._class[torch.from_numpy(rows)].to(self.device)

    def one_hot(self, classes: Tensor) -> Tensor | None:
        """(N, classes) float32, or None for unconditional training."""
        return F.one_hot(classes, self.count_of_classes).float() if self.conditional else None

    def pixels(self, chosen: NDArray[np.integer]) -> NDArray[np.uint8]:  # type: ignore[type-arg]
        return self._kept[chosen] if self._kept is not None else self.rows.array("image", chosen)

    def blocks(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """All images in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.pixels(np.arange(start, min(start + size, len(self))))

    def floats(self, pixels: NDArray[np.uint8]) -> Tensor:
        """(N, H, W, 3) uint8 to (N, 3, H, W) float32 by x / 127.5 - 1, on the device."""
        images = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device)
        return images.permute(0, 3, 1, 2).float() / 127.5 - 1
