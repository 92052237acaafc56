"""Ways in which networks enlarge images, as pure functions of image batches (N, H, W, C) float32.

nearest, bilinear, bicubic   interpolation with half-pixel centers and repeated edges, as torch's `interpolate` with
                             align_corners=False (its bicubic is that of Keys 1981 with a = -0.75)
bed_of_nails                 every value at the top left of its block, zeros around it (zero insertion)
pixel_shuffle                a 3 x 3 convolution to four times the channels, which are then sorted into 2 x 2 blocks
                             (Shi et al. 2016)
transposed_convolution       stride 2, padding 1 (Odena et al. 2016 on its checkerboards)

The last two double the size and are repeated for a larger factor, each time with weights of their own. Colors do not
mix, the input is continued at its borders, and the mean level of an even area is kept. Both come down to four 3 x 3
convolutions, one for each place in the 2 x 2 blocks of the output. Every sum has a fixed order that does not depend on
the rows beside.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stages.images.cubic import cubic

Method = Literal["nearest", "bed_of_nails", "bilinear", "bicubic", "pixel_shuffle", "transposed_convolution"]
Images = NDArray[np.float32]
Kernels = NDArray[np.float32]
"""(2, 2, 3, 3, C): for each place in a block (row, column), the weights of the input's 3 x 3 neighborhood."""


def reduced(images: NDArray[np.uint8], factor: int) -> Images:
    """Means of blocks of factor x factor pixels, exact, not rounded. (N, H, W, C) -> (N, H / factor, W / factor, C)."""
    rows, height, width, channels = images.shape
    blocks = images.reshape(rows, height // factor, factor, width // factor, factor, channels)
    return blocks.sum(axis=(2, 4), dtype=np.uint32).astype(np.float32) / np.float32(factor * factor)


def nearest(images: Images, factor: int) -> Images:
    """Every value repeated factor x factor times."""
    return images.repeat(factor, axis=1).repeat(factor, axis=2)


def bed_of_nails(images: Images, factor: int) -> Images:
    """Every value at the top left of its block, zeros elsewhere: the spectrum is repeated factor x factor times."""
    rows, height, width, channels = images.shape
    result = np.zeros((rows, factor * height, factor * width, channels), np.float32)
    result[:, ::factor, ::factor] = images
    return result


def bilinear(images: Images, factor: int) -> Images:
    """Linear interpolation along both axes."""
    return _interpolated(_interpolated(images, factor, 1, 1), factor, 2, 1)


def bicubic(images: Images, factor: int) -> Images:
    """Cubic convolution along both axes (Keys 1981, equation 4, a = -0.75); it may leave 0 to 255."""
    return _interpolated(_interpolated(images, factor, 1, 2), factor, 2, 2)


def doubled(images: Images, kernels: Kernels) -> Images:
    """Twice the size, each place of the output's 2 x 2 blocks by a convolution of its own. Edges are repeated."""
    rows, height, width, channels = images.shape
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    result = np.zeros((rows, 2 * height, 2 * width, channels), np.float32)
    for row, column, down, right in np.ndindex(2, 2, 3, 3):
        weights = kernels[row, column, down, right]
        if weights.any():
            result[:, row::2, column::2] += padded[:, down : down + height, right : right + width] * weights
    return result


def pixel_shuffle_kernels(normal: NDArray[np.float64], spread: float) -> Kernels:
    """Weights of a pixel shuffle: those of bilinear interpolation times 1 + spread * normal, normal (2, 2, 3, 3, C).

    Without spread it is bilinear interpolation. With it, the places of a block differ in brightness: a checkerboard.
    """
    line = np.array([[0.25, 0.75, 0.0], [0.0, 0.75, 0.25]])  # place in the block, input before, at and after it
    plain = line[:, None, :, None, None] * line[None, :, None, :, None]
    return _with_mean_one(plain * (1 + spread * normal))


def transposed_kernels(normal: NDArray[np.float64], spread: float) -> Kernels:
    """Weights of a transposed convolution: a Gaussian times 1 + spread * normal, normal (K, K, C), K = 3 or 4.

    The Gaussian's standard deviation is K / 4 px. With K = 4 each pixel gets an equal share of it. With K = 3, which
    stride 2 does not divide, the overlap is uneven: a checkerboard even without spread.
    """
    size = len(normal)
    places = np.arange(size) - (size - 1) / 2
    line = np.exp(-0.5 * np.square(places / (size / 4)))
    weights = line[:, None, None] * line[None, :, None] * (1 + spread * normal)
    kernels = np.zeros((2, 2, 3, 3, normal.shape[2]))
    for row, column, down, right in np.ndindex(2, 2, 3, 3):
        # output 2 q + row gets input q + step through tap row + 1 - 2 step, where step = down - 1
        tap, other = row + 3 - 2 * down, column + 3 - 2 * right
        if 0 <= tap < size and 0 <= other < size:
            kernels[row, column, down, right] = weights[tap, other]
    return _with_mean_one(kernels)


def _with_mean_one(kernels: NDArray[np.float64]) -> Kernels:
    """Scaled so that an even area keeps its mean level in each channel."""
    return (kernels * (4 / kernels.sum(axis=(0, 1, 2, 3)))).astype(np.float32)


def _interpolated(images: Images, factor: int, axis: int, reach: int) -> Images:
    """One axis enlarged with 2 * reach taps: linear (1) or cubic (2)."""
    lines = np.moveaxis(images, axis, 0)
    length = len(lines)
    result = np.zeros((factor * length, *lines.shape[1:]), np.float32)
    for place in range(factor):
        position = (place + 0.5) / factor - 0.5  # of the output's pixel, from the input's at the same block
        first = int(np.floor(position))
        for tap in range(1 - reach, 1 + reach):
            distance = abs(position - first - tap)
            weight = np.float32(1 - distance if reach == 1 else cubic(distance))
            result[place::factor] += weight * lines[np.clip(np.arange(length) + first + tap, 0, length - 1)]
    return np.moveaxis(result, 0, axis)
