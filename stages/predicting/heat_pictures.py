"""Where in a picture a network finds what it decides by, drawn over the picture: red speaks for fake, blue for real."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from detectors import heat_maps
from detectors.framing import middle, resized_sides
from pipeline.errors import StageError

if TYPE_CHECKING:
    from detectors.contract import State
    from stages.evaluation.detector_file import Detector

FAKE, REAL = np.array([220, 30, 30]), np.array([30, 80, 220])
STRONGEST = 0.75
"""Share of the color where a map is largest."""

LONGEST = 150
"""Bytes of a file's name, its end."""


class Drawer:
    """Writes a PNG for each image into a folder. Raises StageError where the detector has no maps of places.

    left_out: names of the members of a fusion that have none.
    """

    def __init__(self, detector: Detector, folder: Path) -> None:
        self.members, self.left_out = _members(detector)
        self.folder = folder
        self.names: set[str] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StageError(f"{folder} cannot be made: {error.strerror or error}") from None

    def draw(self, name: str, picture: NDArray[np.uint8], features: Mapping[str, NDArray[Any]], device: str) -> Path:
        """A picture (H, W, 3) with the heat of its features over it, name -> (...)."""
        from PIL import Image

        heat = np.zeros(picture.shape[:2], np.float32)
        try:
            for one in self.members:
                heat += one.weight * one.heat(features[one.config.feature], picture.shape[:2], device)
        except ValueError as error:
            raise StageError(f"the detector has no heat maps: {error}") from None
        place = self.folder / self._file(name)
        Image.fromarray(blended(picture, heat)).save(place)
        return place

    def _file(self, name: str) -> str:
        plain = re.sub("/+", "_", "".join(one if _is_plain(one) else "/" for one in name))
        stem = plain.encode()[-LONGEST:].decode(errors="ignore").lstrip("._") or "image"
        number = 0
        while (found := f"{stem}.{number}.png" if number else f"{stem}.png") in self.names:
            number += 1
        self.names.add(found)
        return found


def _is_plain(one: str) -> bool:
    """Whether a character stays in the name of a picture: letters of all scripts, and what a shell lets be."""
    return one.isalnum() or one in "._-" or (one.isprintable() and not one.isascii() and not one.isspace())


@dataclass(frozen=True)
class Looking:
    """A network, and how much its decision counts."""

    config: Any
    state: State
    weight: float = 1.0

    def heat(self, feature: NDArray[Any], sides: tuple[int, ...], device: str) -> NDArray[np.float32]:
        """(H, W) of a picture of these sides: its mean is what the maps add to the decision; 0 where it never looks."""
        import torch

        made = heat_maps.of_published if self.config.family == "published" else heat_maps.of_rows
        (cells,) = made(self.config, self.state, feature[None], device)
        (top, bottom), (left, right) = frame(self.config.preprocessing, *sides)
        large = heat_maps.enlarged(torch.from_numpy(cells * cells.size)[None], (bottom - top, right - left))[0].numpy()
        found = np.zeros(sides, np.float32)
        rows, columns = (slice(max(low, 0), max(high, 0)) for low, high in ((top, bottom), (left, right)))
        seen = found[rows, columns]
        seen[:] = large[max(-top, 0) :, max(-left, 0) :][: seen.shape[0], : seen.shape[1]]
        return found


def frame(preprocessing: Any, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(first, end) of the rows and of the columns of a picture that a network looks at after its own resize and crop.

    Where it adds black around a small picture they lie outside of it.
    """
    if preprocessing is None:
        return (0, height), (0, width)
    resize, crop = preprocessing.resize, preprocessing.crop
    size, which = getattr(resize, "size", resize), getattr(resize, "sides", getattr(preprocessing, "shape", ""))
    sides = (
        (height, width)
        if size is None
        else resized_sides(height, width, size, "shorter" if which == "shorter" else "both")
    )
    size = getattr(crop, "size", crop)
    if size is None:
        return (0, height), (0, width)
    found = []
    for side, full in zip(sides, (height, width), strict=True):
        (before, _), start = middle(side, size)
        ends = ((start - before + end) * full / side for end in (0, size))
        found.append(tuple(round(end) for end in ends))
    (top, bottom), (left, right) = found
    return (top, max(bottom, top + 1)), (left, max(right, left + 1))


def blended(picture: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: the picture in gray, the heat (H, W) over it, its largest magnitude strongest."""
    most = float(np.abs(heat).max())
    share = STRONGEST * np.abs(heat / most if most else heat)[..., None]
    gray = picture.astype(np.float32).mean(axis=2, keepdims=True)
    return np.rint((1 - share) * gray + share * np.where(heat[..., None] > 0, FAKE, REAL)).astype(np.uint8)


def _members(detector: Detector) -> tuple[list[Looking], list[str]]:
    """The networks of a detector that have maps of places, and what a fusion has besides."""
    if not detector.config.fuses:
        return [_network(detector.config, detector.state)], []
    from detectors.fusion import checked_weights, members

    found, left_out = [], []
    parts = members(detector.state)
    for one, weight in zip(parts, checked_weights(len(parts), getattr(detector.config, "weights", None)), strict=True):
        try:
            looking = _network(one.config, one.state)
        except StageError:
            left_out.append(one.family.describe(one.config))
        else:
            found.append(replace(looking, weight=float(weight) * float(one.state.plain.get("slope", 1.0))))
    if not found:
        raise StageError(f"none of the fused detectors has heat maps ({', '.join(left_out)}); leave out --heatmap")
    return found, left_out


def _network(config: Any, state: State) -> Looking:
    """The network of a detector. Raises StageError where it has no maps of places."""
    if config.family == "cnn":
        from detectors import cnn

        config, state = cnn.composed(config), cnn.with_prefix(state)
    if config.family not in ("deep", "published"):
        raise StageError(
            f"the detector has no heat maps: the family '{config.family}' is no network on maps of places; leave "
            "out --heatmap"
        )
    try:
        heat_maps.check_places(config, state)
    except ValueError as error:
        raise StageError(f"the detector has no heat maps: {error}") from None
    return Looking(config, state)
