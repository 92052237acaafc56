"""What every tool is asked to do with a picture: decode it, and make a curve of its spectrum with a helper's rings.

COUNT_FILE, if set, gets one letter per call: what a tool really computed is counted where it is computed.
"""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def decode(data: bytes) -> NDArray[np.uint8]:
    """(64, 64, 3) uint8 RGB of an encoded picture."""
    _count("d")
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def curve(image: NDArray[Any], gain: float) -> NDArray[np.float32]:
    """(32,) float32: mean log power per ring of frequencies of the gray picture, times a gain."""
    from picture_rings import mean_of_rings

    _count("c")
    power = np.abs(np.fft.fft2(image.astype(np.float64).mean(axis=2))) ** 2
    return (gain * mean_of_rings(np.log1p(power))).astype(np.float32)


def _count(letter: str) -> None:
    place = os.environ.get("COUNT_FILE")
    if place:
        with open(place, "a", encoding="ascii") as file:
            file.write(letter)
