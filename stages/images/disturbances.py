"""Small changes that leave a picture the same picture to people: what they do to a score says how far to trust it.

Images are (H, W, 3) uint8 RGB in and out, of the same size. Lanczos is Pillow's, JPEG that of `detectors.jpeg_codecs`
(4:2:0), blur that of `detectors.gaussian_filter`. The same image gives the same bytes: noise is drawn by its digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from detectors.gaussian_filter import gaussian_filter
from detectors.jpeg_codecs import jpeg
from stages.images.perturbations import noise

Image = NDArray[np.uint8]

SHIFT_PX = 4
"""Half a block of JPEG."""

BLUR_SIGMA_PX, NOISE_LEVELS = 1.0, 3.0


def scaled(image: Image, factor: float) -> Image:
    """Both sides times `factor`, rounded, and back."""
    from PIL import Image as Pillow

    height, width = image.shape[:2]
    sides = max(1, round(width * factor)), max(1, round(height * factor))
    filtered = Pillow.fromarray(image).resize(sides, Pillow.Resampling.LANCZOS)
    return np.array(filtered.resize((width, height), Pillow.Resampling.LANCZOS))


def shifted(image: Image, pixels: int) -> Image:
    """Moved down and to the right; what comes in is the border, reflected without its outermost line."""
    height, width = image.shape[:2]
    moved = np.pad(image, ((pixels, 0), (pixels, 0), (0, 0)), "reflect")[:height, :width]
    return np.ascontiguousarray(moved)


def noisy(image: Image, levels: float) -> Image:
    """White noise with this standard deviation, in gray levels."""
    key = int.from_bytes(hashlib.sha256(b"touchstone/noise" + image.tobytes()).digest()[:16], "little")
    normal = np.random.Generator(np.random.Philox(key=key)).standard_normal(image.shape)
    return noise(image, normal, levels)


BAND: Mapping[str, Callable[[Image], Image]] = {
    "jpeg_96": partial(jpeg, quality=96),
    "jpeg_75": partial(jpeg, quality=75),
    "scale_0.9": partial(scaled, factor=0.9),
    "scale_1.1": partial(scaled, factor=1.1),
    "shift_4": partial(shifted, pixels=SHIFT_PX),
}
"""Those that make the band of a prediction."""

DISTURBANCES: Mapping[str, Callable[[Image], Image]] = {
    **BAND,
    "scale_0.5": partial(scaled, factor=0.5),
    "blur_1": partial(gaussian_filter, sigma_px=BLUR_SIGMA_PX),
    "noise_3": partial(noisy, levels=NOISE_LEVELS),
}
"""All, by name."""
