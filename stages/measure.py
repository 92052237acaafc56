"""Stage `measure`: single numbers of an image or its file that should not tell real from fake, and often do.

A detector that does no better than one of them has not been shown to know anything about generators: a share of
clipped values tells a tone curve, a step at the border a padding, a slope of the spectrum a resampling filter, bytes
per pixel a codec. Detectors of the family `threshold` (presets clipped, border-step, spectral-slope, bytes-per-pixel)
make baselines of them, and the report says where one separates the classes as well as a detector does.

clipped          share of the values of all channels that are 0 or 255
border_step      mean absolute difference of neighbors across the outermost line of pixels, over that of all inside
spectral_slope   slope of ln power on ln frequency over the upper half of the frequencies, 0.25 to 0.5 cycles per pixel:
                 least squares over rings of whole frequency steps, of the mean power of gray (Rec. 601 luma)
bytes_per_pixel  size of the file over width times height
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.stage import Batch, Context, Field, Input, Kind, Schema, Stage, StageConfig
from stages.images.image_field import image_size
from stages.images.planes import weighted_sum

LUMA = (299, 587, 114)
"""Thousandths of R, G and B."""
SMALLEST = 16
"""Pixels per side; below, the upper half of the frequencies has too few rings for a slope."""
LEAST_STEP, LEAST_POWER = 1e-3, 1e-6
"""Gray levels, and their square per coefficient, that stand in for nothing, so that a flat image has numbers too."""
FILE_FACTS = ("file_bytes", "native_size")


class Measure(Stage):
    """`image`, facts of files, or pairs of both in; one float32 per measure out."""

    name: ClassVar[str] = "measure"
    kind: ClassVar[Kind] = Kind.MAP
    Config: ClassVar[type[StageConfig]] = StageConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "of": Input("rows", description="rows with an image, or of 'ingest' with the size of a file; or pairs of both")
    }

    def schema(self, config: StageConfig, inputs: Mapping[str, Schema]) -> Schema:
        """What can be measured of the rows. Raises ValueError where nothing can."""
        found: dict[str, Field] = {}
        of_files = [rows for rows in inputs.values() if set(FILE_FACTS) <= set(rows)]
        of_images = [rows for rows in inputs.values() if "image" in rows]
        if of_images or not of_files:
            image_size(of_images[0] if of_images else inputs["of"], self.name, SMALLEST)
            found["clipped"] = Field("float32", (), "share of values")
            found["border_step"] = Field("float32", (), "ratio of mean absolute differences")
            found["spectral_slope"] = Field("float32", (), "ln power per ln frequency")
        if of_files:
            found["bytes_per_pixel"] = Field("float32", (), "bytes per pixel")
        return found

    def compute(self, config: StageConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        """One number per row and measure."""
        found: dict[str, NDArray[Any]] = {}
        for rows in batch.inputs:
            if "image" in rows:
                images = rows["image"]
                found |= {"clipped": clipped(images), "border_step": border_step(images)}
                found["spectral_slope"] = spectral_slope(images)
            elif set(FILE_FACTS) <= set(rows):
                pixels = rows["native_size"].astype(np.float64).prod(axis=1)
                found["bytes_per_pixel"] = (rows["file_bytes"] / pixels).astype(np.float32)
        return found


def clipped(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Share of values that are 0 or 255. (N, H, W, 3) uint8 -> (N,)."""
    ends = (images == 0) | (images == 255)
    return ends.reshape(len(images), -1).mean(axis=1, dtype=np.float64).astype(np.float32)


def border_step(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean absolute difference of neighbors across the outermost line, over that inside. (N, H, W, 3) uint8 -> (N,)."""
    across, inside = [], []
    for axis in (1, 2):
        steps = np.abs(np.diff(images.astype(np.int16), axis=axis))
        lines = np.moveaxis(steps, axis, 1).reshape(len(images), steps.shape[axis], -1).mean(axis=2, dtype=np.float64)
        across.append(lines[:, [0, -1]].mean(axis=1))
        inside.append(lines[:, 1:-1].mean(axis=1))
    ratio = (np.mean(across, axis=0) + LEAST_STEP) / (np.mean(inside, axis=0) + LEAST_STEP)
    return np.asarray(ratio, dtype=np.float32)


def spectral_slope(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Slope of ln power on ln frequency over the upper half of the frequencies. (N, H, W, 3) uint8 -> (N,)."""
    rows, height, width, _ = images.shape
    rings, counts, slope = _rings(height, width)
    found = np.empty(rows, np.float32)
    for row in range(rows):  # one by one: a matrix product would round by the number of rows
        plane = weighted_sum(images[row : row + 1], LUMA, np.float64)[0] / sum(LUMA)
        power = np.abs(np.fft.rfft2(plane).ravel()[rings.places]) ** 2
        means = np.bincount(rings.numbers, rings.weights * power) / counts
        found[row] = np.log(means + LEAST_POWER) @ slope
    return found


class _Rings(NamedTuple):
    """Coefficients of a half plane that lie on a ring: their places, rings, and weights, which divide by the pixels."""

    places: NDArray[np.int64]
    numbers: NDArray[np.int64]
    weights: NDArray[np.float64]


@lru_cache(maxsize=8)
def _rings(height: int, width: int) -> tuple[_Rings, NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients of the upper half of the frequencies; of each ring how many there are, and its weight in a slope."""
    down, over = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    steps = min(height, width) // 2
    ring = np.floor(np.hypot(down, over) * 2 * steps + 0.5).astype(np.int64)
    twice = np.ones((height, width // 2 + 1))
    twice[:, 1 : (width + 1) // 2] = 2  # these stand for their conjugates, too
    first = -(-steps // 2)
    places = np.flatnonzero((ring >= first) & (ring <= steps))
    numbers, weights = ring.ravel()[places] - first, twice.ravel()[places]
    logs = np.log(np.arange(first, steps + 1) / (2 * steps))
    centered = logs - logs.mean()
    return (
        _Rings(places, numbers, weights / (height * width)),
        np.bincount(numbers, weights).astype(np.float64),
        centered / (centered**2).sum(),
    )
