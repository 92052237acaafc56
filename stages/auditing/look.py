"""What pictures look like and how many of their levels are used: tones, colors, frames, bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

EVEN, EDGE = 2, 12
"""Levels within which a line is one color, and by which the picture beside it differs."""


def tones(luma: Floats) -> dict[str, float]:
    """Brightness, contrast and ends of the range of (H, W) luma."""
    low, five, middle, ninety_five, high = np.quantile(luma, (0.005, 0.05, 0.5, 0.95, 0.995))
    return {
        "brightness.mean": float(luma.mean()),
        "brightness.median": float(middle),
        "contrast.deviation": float(luma.std()),
        "contrast.range": float(ninety_five - five),
        "clipping.low": float(low),
        "clipping.high": float(high),
    }


def colors(pixels: Pixels) -> dict[str, float]:
    """Saturation, casts and clipped values of (H, W, 3) RGB."""
    means = [float(pixels[:, :, channel].mean()) + 1 for channel in range(3)]
    return {
        "color.saturation": float(spread(pixels).mean()),
        "color.red": float(means[0] - means[1]),
        "color.blue": float(means[2] - means[1]),
        "color.red_ratio": float(np.log(means[0] / means[1])),
        "color.blue_ratio": float(np.log(means[2] / means[1])),
        "clipping.black": float((pixels == 0).mean()),
        "clipping.white": float((pixels == 255).mean()),
    }


def bits(pixels: Pixels) -> dict[str, float]:
    """Use of the 256 levels: low bits that are zero, gaps and a comb in the histogram (of tone changes at 8 bits)."""
    counts = np.bincount(pixels.ravel(), minlength=256).astype(np.float64)
    total = np.cumsum(counts) / counts.sum()
    first, last = (int(np.searchsorted(total, share)) for share in (0.05, 0.95))
    inner = counts[first : last + 1]
    second = np.abs(np.diff(inner, 2)).sum() / inner.sum() if len(inner) > 2 else 0.0
    return {
        "bit_depth.zero_bits": float(counts[::4].sum() / counts.sum()),
        "bit_depth.gaps": float((inner == 0).mean()),
        "bit_depth.comb": float(second),
    }


def palette(pixels: Pixels) -> int:
    """Number of different colors."""
    red, green, blue = (pixels[:, :, channel].astype(np.int32) for channel in range(3))
    packed = np.sort((red << 16 | green << 8 | blue).ravel())
    return 1 + int(np.count_nonzero(packed[1:] != packed[:-1]))


def spread(pixels: Pixels) -> Pixels:
    """(H, W) difference of the largest and the smallest channel."""
    red, green, blue = (pixels[:, :, channel] for channel in range(3))
    return np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)


def is_gray(pixels: Pixels) -> bool:
    """Whether 99 % of the pixels have three channels within 3 levels."""
    return bool((spread(pixels) <= 3).mean() >= 0.99)


def frame(pixels: Pixels) -> int:
    """Lines of bars or frames: of one color, on two opposite sides, ending in a step; 0: none."""
    found = 0
    for picture in (pixels, pixels.transpose(1, 0, 2)):
        one, other = _bar(picture), _bar(picture[::-1])
        found = max(found, one + other if one and other else 0)
    return found


def _bar(pixels: Pixels) -> int:
    """Lines of one color at the top that end in a step."""
    most = pixels.shape[0] // 2
    color = pixels[0, 0].astype(np.int16)
    count = 0
    while count < most and np.abs(pixels[count].astype(np.int16) - color).max() <= EVEN:
        count += 1
    if count in (0, most):
        return 0
    return count if np.abs(pixels[count].astype(np.int16) - color).mean() > EDGE else 0
