"""The real images that a generator learns from: random batches of a view's training rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from detectors.transfers import sent
from pipeline.errors import StageError
from pipeline.stage import Rows
from stages.training.kept_images import KeptImages, windows


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
        self.kept = KeptImages(rows, self.device)
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
        counts = self._class.bincount(minlength=len(self.domains))
        self._counts, self._begins = counts.to(self.device), (counts.cumsum(0) - counts).to(self.device)
        self._of_class = self._class.argsort(stable=True).to(self.device)  # rows, class by class
        self._class = self._class.to(self.device)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def count_of_classes(self) -> int:
        """0 for unconditional training."""
        return len(self.domains) if self.conditional else 0

    def draw(self, count: int, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Images and their classes (N,) int64; with `classes`, image i is one of class classes[i]."""
        if classes is None:
            chosen = torch.randint(len(self), (count,), generator=self.random, device=self.device)
        else:
            share = torch.rand((count,), generator=self.random, device=self.device)
            chosen = self._of_class[self._begins[classes] + (share * self._counts[classes]).long()]
        images = self._cut(self.floats(self.kept.of(chosen)))
        if self.flips:
            flip = torch.rand((count,), generator=self.random, device=self.device) < 0.5
            images = torch.where(flip[:, None, None, None], images.flip(3), images)
        return images, self._class[chosen]

    def _cut(self, images: Tensor) -> Tensor:
        """A square of the old size at a random place of each enlarged image."""
        side = images.shape[2]
        large = round(side * self.enlarged)
        if large == side:
            return images
        wide = F.interpolate(images, size=(large, large), mode="bicubic", align_corners=False).clamp(-1, 1)
        corners = torch.randint(large - side + 1, (len(images), 2), generator=self.random, device=self.device)
        return windows(wide, corners[:, 0], corners[:, 1], side, side)

    def classes(self, count: int) -> Tensor:
        """Classes of random rows, (N,) int64."""
        return self._class[torch.randint(len(self), (count,), generator=self.random, device=self.device)]

    def class_of(self, rows: NDArray[np.integer]) -> Tensor:  # type: ignore[type-arg]
        """Classes of these rows, (N,) int64."""
        return self._class[sent(rows, self.device)]

    def one_hot(self, classes: Tensor) -> Tensor | None:
        """(N, classes) float32, or None for unconditional training."""
        return F.one_hot(classes, self.count_of_classes).float() if self.conditional else None

    def pixels(self, chosen: NDArray[np.integer]) -> NDArray[np.uint8]:  # type: ignore[type-arg]
        return self.kept.pixels(chosen)

    def blocks(self, size: int) -> Iterator[Tensor]:
        """All images in order, (N, side, side, 3) uint8 on the device, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.kept.of(torch.arange(start, min(start + size, len(self)), device=self.device))

    def floats(self, pixels: NDArray[np.uint8] | Tensor) -> Tensor:
        """(N, H, W, 3) uint8 to (N, 3, H, W) float32 by x / 127.5 - 1, on the device."""
        images = sent(pixels, self.device) if isinstance(pixels, np.ndarray) else pixels
        return images.permute(0, 3, 1, 2).float() / 127.5 - 1
