"""What published detectors do to a picture before their network: pure functions of uint8 RGB (H, W, 3).

The order is theirs: resize, crop, scale, normalize. Resizing is that of the library that they used, on 8-bit values, to
the bit; `preprocessing` does the like to many stored rows at once, in torch on their device, where an extra library, a
picture at a time and the way over the processor would cost more than a last bit is worth.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from detectors.framing import middle, resized_sides
from detectors.normalization import Band, keep_band, percentile_scale

Image = NDArray[np.uint8]  # (H, W, 3)
Floats = NDArray[np.float32]  # (C, h, w)
Filter = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]

IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP: Statistics = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF: Statistics = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Preprocessing:
    """One published preprocessing; of a picture uint8 (H, W, 3) it makes the network's input float32 (C, h, w)."""

    resize: int | None = Field(default=None, ge=1, description="side in pixels, or null")
    shape: Literal["shorter", "square"] = Field(
        default="shorter", description="which side it is: of the shorter one, or of both, whatever the picture's"
    )
    filter: Filter = Field(default="bilinear", description="of resizing")
    library: Literal["pillow", "opencv"] = Field(default="pillow", description="that resizes; OpenCV is an extra")
    crop: int | None = Field(
        default=None, ge=1, description="side of the middle; where the picture is smaller it is padded with black"
    )
    even: bool = Field(default=False, description="the last row or column of odd sides is dropped")
    tile: int | None = Field(default=None, ge=1, description="pictures smaller than this are repeated before all else")
    order: Literal["rgb", "bgr"] = Field(default="rgb", description="of the channels")
    levels: Literal[1, 255] = Field(default=1, description="the value of white")
    statistics: Statistics | None = Field(
        default=IMAGENET, description="means and deviations (of values 0..1), or null"
    )
    spectrum: Literal["fourier", "cosine"] | None = Field(
        default=None,
        description="in place of the pixels: AutoGAN's scaled Fourier spectrum, or the logarithms of the DCT of 0..255",
    )
    band: Band | None = Field(default=None, description="of AutoGAN's spectrum, or null for all")
    parts: bool = Field(
        default=False, description="of a picture whose sides both exceed 1536, tiles of 1024 are looked at (GRIP)"
    )

    def __call__(self, image: Image) -> Floats:
        image = self.picture(image)
        if self.spectrum == "fourier":
            return scaled_spectrum(image, self.band)
        if self.spectrum == "cosine":
            return log_cosine(image)
        pixels = image.transpose(2, 0, 1).astype(np.float32)
        if self.levels == 1:
            pixels /= np.float32(255)
        return normalized(pixels, self.statistics) if self.statistics is not None else pixels

    def picture(self, image: Image) -> Image:
        """What of it is still a picture: repeated, resized, cropped, channels in order."""
        if self.tile is not None:
            image = tiled(image, self.tile)
        if self.resize is not None:
            which: Literal["both", "shorter"] = "both" if self.shape == "square" else "shorter"
            sides = resized_sides(image.shape[0], image.shape[1], self.resize, which)
            image = resized(image, sides, self.filter, self.library)
        if self.crop is not None:
            image = center_crop(image, self.crop)
        if self.even:
            image = image[: len(image) // 2 * 2, : image.shape[1] // 2 * 2]
        return image if self.order == "rgb" else image[..., ::-1]


def resized(image: Image, sides: tuple[int, int], name: Filter, library: Literal["pillow", "opencv"]) -> Image:
    """The picture in (height, width), 8 bits, by Pillow (with its antialiasing) or OpenCV (bilinear, without)."""
    if image.shape[:2] == sides:
        return image
    if library == "opencv":
        return np.asarray(_cv2().resize(np.ascontiguousarray(image), sides[::-1]), dtype=np.uint8)
    from PIL import Image as Pillow

    filters = Pillow.Resampling
    return np.asarray(Pillow.fromarray(image).resize(sides[::-1], filters[name.upper()]))


def _cv2() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise ValueError(
            f"this preprocessing resizes with OpenCV, which cannot be imported ({error}); install "
            "opencv-python-headless (the extra opencv)"
        ) from error
    return cv2


def center_crop(image: Image, side: int) -> Image:
    """The middle (side, side), black where the picture is smaller; halves round as in torchvision."""
    (rows, top), (columns, left) = (middle(length, side) for length in image.shape[:2])
    if any(rows + columns):
        image = np.pad(image, [rows, columns, (0, 0)])
    return image[top : top + side, left : left + side]


def tiled(image: Image, side: int) -> Image:
    """The picture repeated to the right and below until no side is below `side`; others stay (NPR on GenImage)."""
    if min(image.shape[:2]) >= side:
        return image
    down, right = (-(-side // length) for length in image.shape[:2])
    return np.tile(image, (down, right, 1))


def normalized(pixels: Floats, statistics: Statistics) -> Floats:
    """(C, h, w) less the means, over the deviations."""
    means, deviations = (np.array(values, np.float32)[:, None, None] for values in statistics)
    return (pixels - means) / deviations


def scaled_spectrum(image: Image, band: Band | None = None) -> Floats:
    """Logarithmic Fourier spectrum of each channel, its 5th to 95th percentile to -1..1, clipped (AutoGAN)."""
    from detectors.networks.input_filters import log_fourier

    spectrum, _ = percentile_scale(log_fourier(_tensor(image)).numpy()[None])
    return spectrum[0] if band is None else keep_band(spectrum[0], band)


def log_cosine(image: Image) -> Floats:
    """Logarithms of the DCT of each channel of 0..255, float64, to be standardized (Frank et al. 2020; FreDect)."""
    from detectors.networks import input_filters

    return input_filters.log_cosine(_tensor(image)).numpy()  # type: ignore[no-any-return]


def standardized(logarithms: NDArray[np.float64], mean: Floats, variance: Floats) -> Floats:
    """(value - mean) / sqrt(variance) of each coefficient in double precision, but for the root of a float32."""
    return ((logarithms - mean) / np.sqrt(variance)).astype(np.float32)


def _tensor(image: Image) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def tiles(pixels: Floats, limit: int = 1536, side: int = 1024) -> Iterator[tuple[Floats, int]]:
    """Parts of pictures (..., h, w) whose sides both exceed `limit`, with their areas; else the whole.

    GRIP averages their logits, weighted by the areas.
    """
    height, width = pixels.shape[-2:]
    if min(height, width) <= limit:
        side = max(height, width)
    for top in range(0, height, side):
        for left in range(0, width, side):
            part = pixels[..., top : top + side, left : left + side]
            yield part, part.shape[-2] * part.shape[-1]
