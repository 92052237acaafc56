"""Which place of a picture each pixel of a network's input shows, after the network's own resize and crop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.predicting.heat_pictures import frame

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SeenFrame:
    """Of each row and column of the input its place, as a share of the picture's height or width.

    Below 0, or 1 and more: outside of the picture, where the network adds black.
    """

    rows: Floats
    columns: Floats

    @classmethod
    def of(cls, preprocessing: Any, sides: tuple[int, int], seen: tuple[int, int]) -> SeenFrame:
        """sides: height and width of pictures as stored; seen: those of the input."""
        found = []
        for (first, end), side, count in zip(frame(preprocessing, *sides), sides, seen, strict=True):
            found.append((first + (np.arange(count) + 0.5) * (end - first) / count) / side)
        return cls(*found)

    def resampled(self, values: NDArray[Any], outside: int) -> NDArray[Any]:
        """(h, w, ...) of an array (H, W, ...) that covers the picture: what lies at each place; `outside` elsewhere."""
        return self.window(values, (0, len(self.rows)), (0, len(self.columns)), outside)

    def window(
        self, values: NDArray[Any], rows: tuple[int, int], columns: tuple[int, int], outside: int
    ) -> NDArray[Any]:
        """The same of pixels [first, end) of the input, which may lie beyond its border."""
        axes = []
        for places, (first, end), side in zip(
            (self.rows, self.columns), (rows, columns), values.shape[:2], strict=True
        ):
            numbers = np.arange(first, end)
            inside = (numbers >= 0) & (numbers < len(places))
            shares = np.where(inside, places[numbers.clip(0, len(places) - 1)], -1.0)
            axes.append(np.where((shares >= 0) & (shares < 1), (shares * side).astype(np.int64), -1))
        down, over = axes
        found = values[down[:, None], over]
        found[(down[:, None] < 0) | (over < 0)] = outside
        return found
