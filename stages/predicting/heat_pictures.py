"""Where in a picture a network finds what it decides by, drawn over the picture: red speaks for fake, blue for real."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from detectors import heat_maps
from pipeline.errors import StageError

if TYPE_CHECKING:
    from stages.evaluation.detector_file import Detector

FAKE, REAL = np.array([220, 30, 30]), np.array([30, 80, 220])
STRONGEST = 0.75
"""Share of the color where a map is largest."""

LONGEST = 150
"""Characters of a file's name."""


class Drawer:
    """Writes a PNG for each image into a folder. Raises StageError where the detector has no maps of places."""

    def __init__(self, detector: Detector, folder: Path) -> None:
        self.config, self.state = _network(detector)
        self.folder = folder
        self.names: set[str] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StageError(f"{folder} cannot be made: {error.strerror or error}") from None

    def draw(self, name: str, picture: NDArray[np.uint8], feature: NDArray[Any], device: str) -> Path:
        """A picture (H, W, 3) with the heat map of its feature over it."""
        from PIL import Image

        try:
            (heat,) = heat_maps.of_rows(self.config, self.state, feature[None], device)
        except ValueError as error:
            raise StageError(f"the detector has no heat maps: {error}") from None
        place = self.folder / self._file(name)
        Image.fromarray(blended(picture, heat)).save(place)
        return place

    def _file(self, name: str) -> str:
        stem = re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII)[-LONGEST:].lstrip("._") or "image"
        number = 0
        while (found := f"{stem}.{number}.png" if number else f"{stem}.png") in self.names:
            number += 1
        self.names.add(found)
        return found


def blended(picture: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: the picture in gray, the heat (h, w) over it, its largest magnitude strongest."""
    import torch

    sides = picture.shape[0], picture.shape[1]
    large = heat_maps.enlarged(torch.from_numpy(np.ascontiguousarray(heat))[None], sides)[0].numpy()
    most = float(np.abs(large).max())
    share = STRONGEST * np.abs(large / most if most else large)[..., None]
    gray = picture.astype(np.float32).mean(axis=2, keepdims=True)
    return np.rint((1 - share) * gray + share * np.where(large[..., None] > 0, FAKE, REAL)).astype(np.uint8)


def _network(detector: Detector) -> tuple[Any, Any]:
    """The composed network of a detector, and its state."""
    if detector.config.family == "deep":
        return detector.config, detector.state
    if detector.config.family == "cnn":
        from detectors import cnn

        return cnn.composed(detector.config), cnn.with_prefix(detector.state)  # type: ignore[arg-type]
    raise StageError(
        f"the detector has no heat maps: the family '{detector.config.family}' is no network on maps of places; leave "
        "out --heatmap"
    )
