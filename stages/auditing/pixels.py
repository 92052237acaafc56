"""Everything that an audit keeps of the pixels of one image: statistics, features, a thumbnail, a digest.

Statistics are named `check.column`; the same numbers are taken of files, of arrays of a pipeline, and of an image that
a detector is asked about.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.auditing import look, probes, sampling, traces

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

WINDOW = 512
"""Pixels per side of the middle of an image that statistics are taken of; it begins at a multiple of 16."""

SMALLEST = 8
"""Pixels per side below which an image has no statistics."""

THUMBNAIL = 32
FEATURES = 17 + 63 + 63 + 50 + 8
GRID = 0.10
"""Surplus of small coefficients on one position of the grid from which that position counts as found."""

STATISTICS = (
    "palette.colors", "bit_depth.zero_bits", "bit_depth.gaps", "bit_depth.comb",
    "grid8.comb", "grid8.comb_elsewhere", "grid8.zeros", "grid8.zeros_elsewhere", "grid8.steps",
    "grid8.steps_elsewhere",
    "double_compression.comb", "double_compression.zeros_elsewhere", "double_compression.steps_elsewhere",
    "resampling.peak", "resampling.lag_1", "resampling.lag_2",
    "native_scale.end", "native_scale.bend", "native_scale.corner",
    "high_frequency_energy.share", "high_frequency_energy.fourth",
    "noise_level.details", "noise_level.chroma", "noise_level.immerkaer", "noise_level.quiet",
    "brightness.mean", "brightness.median", "contrast.deviation", "contrast.range",
    "color.saturation", "color.red", "color.blue", "color.red_ratio", "color.blue_ratio",
    "clipping.low", "clipping.high", "clipping.black", "clipping.white",
    "borders.lines",
)  # fmt: skip
"""Names of the values of `Picture.statistics`, in their order."""


@dataclass(frozen=True)
class Picture:
    """statistics: (len(STATISTICS),) float64; features: of `probes`; thumbnail: (32, 32, 3) uint8; phase: where another
    grid of blocks than that of the image was found, "row,column", else ""."""

    statistics: NDArray[np.float64]
    features: Floats
    thumbnail: Pixels
    digest: bytes
    phase: str
    gray: bool
    colors: int


def picture(pixels: Pixels, steps: NDArray[np.uint16] | None = None) -> Picture:
    """What is kept of (H, W, 3) uint8 RGB. steps: luma table of a JPEG file, (64,), row by row."""
    part = window(pixels)
    luma, cb, cr = planes(part)
    if min(luma.shape) < SMALLEST:
        luma, cb, cr = (
            np.pad(one, [(0, max(0, SMALLEST - side)) for side in one.shape], "symmetric") for one in (luma, cb, cr)
        )
    bands, ends = sampling.spectrum(luma)
    grid, phase = _grid(luma, steps)
    colors = look.palette(part)
    values = {
        "palette.colors": colors / (part.shape[0] * part.shape[1]),
        **look.bits(part),
        **grid,
        **sampling.interpolation(luma),
        **ends,
        **sampling.sharpness(luma),
        **sampling.noise(luma, cr),
        **look.tones(luma),
        **look.colors(part),
        "borders.lines": float(look.frame(pixels)),
    }
    statistics = np.nan_to_num([values[name] for name in STATISTICS], posinf=0, neginf=0)
    return Picture(
        statistics,
        probes.features(luma, cb, cr, bands),
        thumbnail(pixels),
        digest(pixels),
        phase,
        look.is_gray(part),
        colors,
    )


def digest(pixels: Pixels) -> bytes:
    """16 bytes of shape and values."""
    found = hashlib.sha256(repr(pixels.shape).encode())
    found.update(np.ascontiguousarray(pixels).data)
    return found.digest()[:16]


def window(pixels: Pixels) -> Pixels:
    """The middle of an image."""
    top, left = (max(0, (side - WINDOW) // 2) // 16 * 16 for side in pixels.shape[:2])
    return pixels[top : top + WINDOW, left : left + WINDOW]


def planes(pixels: Pixels) -> tuple[Floats, Floats, Floats]:
    """Y, Cb and Cr of JPEG (JFIF 1.02), (H, W) float32, Cb and Cr around 0."""
    red, green, blue = (pixels[:, :, channel].astype(np.float32) for channel in range(3))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return luma, 0.564 * (blue - luma), 0.713 * (red - luma)


def thumbnail(pixels: Pixels) -> Pixels:
    """(32, 32, 3) uint8: means of boxes."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))


def _grid(luma: Floats, own: NDArray[np.uint16] | None) -> tuple[dict[str, float], str]:
    """Traces of blocks, and where another grid than that of the image was found.

    Of a JPEG file they count as `double_compression`, else as `grid8`; the others are 0.
    """
    found = traces.zeros(luma)
    place = int(np.argmax(found + np.where(np.arange(64).reshape(8, 8) == 0, -1.0, 0.0)))
    y, x = divmod(place, 8)
    elsewhere = float(found[y, x])
    jumps = traces.steps(luma, 0), traces.steps(luma, 1)
    blocks = traces.coefficients(luma)
    values = dict.fromkeys((name for name in STATISTICS if name.startswith(("grid8", "double"))), 0.0)
    if own is not None:
        values["double_compression.comb"] = traces.comb(blocks, own)
        values["double_compression.zeros_elsewhere"] = elsewhere
        values["double_compression.steps_elsewhere"] = float(np.mean([one[1:].max() for one in jumps]))
    else:
        values["grid8.comb"] = traces.comb(blocks)
        values["grid8.comb_elsewhere"] = traces.comb(traces.coefficients(luma, y, x))
        values["grid8.zeros"] = float(found[0, 0])
        values["grid8.zeros_elsewhere"] = elsewhere
        values["grid8.steps"] = float(np.mean([one[0] for one in jumps]))
        values["grid8.steps_elsewhere"] = float(np.mean([one[1:].max() for one in jumps]))
    clear = elsewhere > GRID and elsewhere > 1.5 * found[0, 0]
    return values, f"{y},{x}" if clear else ""
