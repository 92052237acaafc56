"""Figures that a generator's card reports, none of which needs a trained network.

Diversity and quality are the two measures of Karras et al. 2018 (arXiv:1710.10196, section 5): structural similarity at
several scales between generated images, and sliced Wasserstein distances between local patches of generated and real
ones. With a few hundred images they tell a collapsed or blurred generator from a useful one; they are no Frechet
distances and compare only between generators of the same side, images and counts. The spectral figure is what +R and +A
are meant to lower.

Images are (N, H, W, 3) uint8 RGB. All draws come from the seed, so that the same images give the same figures.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Floats = NDArray[np.float32]

SAMPLES = 512  # generated and real images behind the figures of a card
PAIRS = 1000
BATCH = 32  # images at a time, for generators and for memory

WINDOW, SIGMA = 11, 1.5  # of the similarity's Gaussian window, pixels
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
LUMINANCE_FLOOR, CONTRAST_FLOOR = (0.01 * 255) ** 2, (0.03 * 255) ** 2

PATCH = 7
PATCHES = 128  # per image and level
COARSEST = 16  # side of the last level of the pyramid
DIRECTIONS, DIRECTIONS_AT_ONCE = 512, 64
BINOMIAL = np.array([1 / 16, 1 / 4, 3 / 8, 1 / 4, 1 / 16], dtype=np.float32)
LEAST_DEVIATION = 1e-3  # gray levels; less is rounding in an image without contrast


def card_figures(game: Any, images: Any) -> dict[str, float]:
    """`figures` of up to 512 samples of a game's averaged generator (seeds 0, 1, ...) and as many training images."""
    return figures(*_both(game, images))


def profile_distance_of(game: Any, images: Any) -> float:
    """The `profile_distance` of `card_figures` alone."""
    return mean_profile_distance(*_both(game, images))


def swd_of(game: Any, images: Any) -> float:
    """The `swd` of `card_figures` alone."""
    distances = sliced_wasserstein(*_both(game, images))
    return sum(distances.values()) / len(distances)


def _both(game: Any, images: Any) -> tuple[Images, Images]:
    """Training images, evenly spaced, and samples, equally many."""
    count = min(SAMPLES, len(images))
    reals = images.pixels(np.arange(count) * len(images) // count)
    parts = [game.sample(np.arange(start, min(start + BATCH, count))) for start in range(0, count, BATCH)]
    return reals, np.concatenate(parts)


def figures(reals: Images, fakes: Images, seed: int = 0) -> dict[str, float]:
    """All figures of generated against real images, equally many of one side.

    images            of each kind
    diversity         of the generated images, and diversity_real of the real ones, to compare with
    pairs, scales     behind the diversities
    swd               mean of swd_64, swd_32, ..., the `sliced_wasserstein` distances by side of the level
    profile_distance  see `mean_profile_distance`
    """
    distances = sliced_wasserstein(reals, fakes, seed)
    return {
        "images": float(len(fakes)),
        "diversity": diversity(fakes, PAIRS, seed),
        "diversity_real": diversity(reals, PAIRS, seed),
        "pairs": float(PAIRS),
        "scales": float(scales(fakes.shape[1])),
        "swd": sum(distances.values()) / len(distances),
        **{f"swd_{side}": distance for side, distance in distances.items()},
        "profile_distance": mean_profile_distance(reals, fakes),
    }


def mean_profile_distance(reals: Images, fakes: Images) -> float:
    """Sum over rings of |a - b| of the mean spectral profiles (`stages.generators.spectral.profile_distance`)."""
    import torch

    from stages.generators.spectral import CHUNK, profile_distance, target_profile

    _check_alike(reals, fakes)
    means = []
    for images in (reals, fakes):
        chunks = (images[start : start + CHUNK] for start in range(0, len(images), CHUNK))
        means.append(
            target_profile(torch.from_numpy(chunk.transpose(0, 3, 1, 2) / np.float32(127.5) - 1) for chunk in chunks)
        )
    return profile_distance(*means)


def diversity(images: Images, pairs: int = PAIRS, seed: int = 0) -> float:
    """1 - mean `ms_ssim` over random pairs of different images: 0 where all are the same, larger = more diverse.

    Raises ValueError for fewer than two images.
    """
    count = len(images)
    if count < 2:
        raise ValueError(f"diversity compares pairs of images, found {count}")
    random = np.random.RandomState(seed)
    first = random.randint(count, size=pairs)
    second = (first + 1 + random.randint(count - 1, size=pairs)) % count
    parts = np.array_split(np.arange(pairs), math.ceil(pairs / BATCH))
    return 1 - float(np.mean(np.concatenate([ms_ssim(images[first[part]], images[second[part]]) for part in parts])))


def scales(side: int) -> int:
    """How many of the five scales of the similarity leave room for its window: 3 at 64 pixels."""
    return min(max(int(math.log2(side / WINDOW)) + 1, 1), len(SCALE_WEIGHTS))


def ms_ssim(a: Images, b: Images) -> NDArray[np.float64]:
    """Structural similarity of image k of `a` and image k of `b` at several scales. -> (N,), 1 = equal.

    Product over scales of contrast times structure to the power of the scale's weight, at the coarsest scale also times
    luminance (Wang et al. 2003, "Multiscale structural similarity", equation 7), each a mean over pixels and the three
    colors and at least 0. The next scale is the mean of 2 x 2 pixels. Scales that are too small for the Gaussian window
    of 11 pixels are left out, and the published weights of the others divided by their sum; below 11 pixels the window
    shrinks with the image.
    """
    _check_alike(a, b)
    count = scales(min(a.shape[1:3]))
    weights = np.array(SCALE_WEIGHTS[:count]) / sum(SCALE_WEIGHTS[:count])
    x, y = a.astype(np.float32), b.astype(np.float32)
    product = np.ones(len(a))
    for scale, weight in enumerate(weights):
        if scale:
            x, y = _halved(x), _halved(y)
        luminance, structure = _similarity(x, y)
        terms = luminance * structure if scale == count - 1 else structure
        product *= np.maximum(terms.mean(axis=(1, 2, 3), dtype=np.float64), 0) ** weight
    return product


def _similarity(x: Floats, y: Floats) -> tuple[NDArray[Any], NDArray[Any]]:
    """Maps of luminance and of contrast times structure (Wang et al. 2004, equations 6 and 9 with 10)."""
    mean_x, mean_y = _windowed(x), _windowed(y)
    squares, product = mean_x * mean_x + mean_y * mean_y, mean_x * mean_y
    variances = _windowed(x * x + y * y) - squares
    covariance = _windowed(x * y) - product
    luminance = (2 * product + LUMINANCE_FLOOR) / (squares + LUMINANCE_FLOOR)
    return luminance, (2 * covariance + CONTRAST_FLOOR) / (variances + CONTRAST_FLOOR)


def _windowed(x: Floats) -> Floats:
    """Means under the Gaussian window where it fits. (N, H, W, C) -> (N, H - 10, W - 10, C)."""
    size = min(WINDOW, *x.shape[1:3])
    taps = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / (SIGMA * size / WINDOW)) ** 2)
    taps = (taps / taps.sum()).astype(np.float32)
    return _filtered(_filtered(x, taps, 1), taps, 2)


def _filtered(x: Floats, taps: Floats, axis: int) -> Floats:
    """Correlation with `taps` along an axis, where they fit."""
    length = x.shape[axis] - len(taps) + 1
    views = [np.moveaxis(np.moveaxis(x, axis, 0)[k : k + length], 0, axis) for k in range(len(taps))]
    total = views[0] * taps[0]
    for view, tap in zip(views[1:], taps[1:], strict=True):
        total += view * tap
    return total


def _halved(x: Floats) -> Floats:
    """Means of 2 x 2 pixels; a last odd row or column is left out."""
    n, height, width, colors = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(n, height // 2, 2, width // 2, 2, colors).mean(axis=(2, 4))


def sliced_wasserstein(reals: Images, fakes: Images, seed: int = 0) -> dict[int, float]:
    """Distance between local patches of real and of generated images, by side of the pyramid level. 0 = alike.

    Karras et al. 2018, section 5: 128 patches of 7 x 7 pixels per image at each level of a Laplacian pyramid down to 16
    pixels, each color of either set scaled to mean 0 and variance 1; then 1000 times the `sliced_distance` of the two
    sets. Patches are at the same random places in both sets, so that a set has no distance to itself.
    Raises ValueError unless there are equally many images of one square side of at least 7 pixels.
    """
    _check_alike(reals, fakes)
    side = reals.shape[1]
    if side != reals.shape[2] or side < PATCH:
        raise ValueError(
            f"patches of {PATCH} x {PATCH} pixels need square images of that side, found {reals.shape[1:3]}"
        )
    random = np.random.RandomState(seed)
    pyramids = [list(_level_sides(side)), _pyramid(reals), _pyramid(fakes)]
    distances = {}
    for level_side, real_level, fake_level in zip(*pyramids, strict=True):
        corners = random.randint(level_side - PATCH + 1, size=(2, len(reals), PATCHES))
        points = [_patches(level, corners) for level in (real_level, fake_level)]
        distances[level_side] = 1000 * sliced_distance(points[0], points[1], random.randint(1 << 31))
    return distances


def sliced_distance(a: Floats, b: Floats, seed: int = 0) -> float:
    """Mean over 512 random directions of the Wasserstein-1 distance of the projections of two sets of points (P, D).

    On a line that distance is the mean difference of the sorted values (Rabin et al. 2011, section 3).
    """
    random = np.random.RandomState(seed)
    directions = random.standard_normal((DIRECTIONS, a.shape[1])).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    total = 0.0
    for start in range(0, DIRECTIONS, DIRECTIONS_AT_ONCE):
        part = directions[start : start + DIRECTIONS_AT_ONCE]
        projected = [np.sort(part @ points.T, axis=1) for points in (a, b)]
        total += float(np.abs(projected[0] - projected[1]).mean(axis=1, dtype=np.float64).sum())
    return total / DIRECTIONS


def _level_sides(side: int) -> list[int]:
    sides = [side]
    while sides[-1] % 2 == 0 and sides[-1] // 2 >= COARSEST:
        sides.append(sides[-1] // 2)
    return sides


def _pyramid(images: Images) -> list[Floats]:
    """Levels of the Laplacian pyramid, finest first; the last one is the low-pass image (Burt and Adelson 1983)."""
    count = len(_level_sides(images.shape[1]))
    parts: list[list[Floats]] = [[] for _ in range(count)]
    for start in range(0, len(images), BATCH):
        current = images[start : start + BATCH].astype(np.float32)
        for level in range(count - 1):
            coarse = _blurred(current)[:, ::2, ::2]
            enlarged = np.zeros_like(current)
            enlarged[:, ::2, ::2] = coarse * 4
            parts[level].append(current - _blurred(enlarged))
            current = coarse
        parts[-1].append(current)
    return [np.concatenate(part) for part in parts]


def _blurred(x: Floats) -> Floats:
    """Binomial 5 x 5 filter, mirrored at the borders without repeating the outermost pixels."""
    margin = len(BINOMIAL) // 2
    padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="reflect")
    return _filtered(_filtered(padded, BINOMIAL, 1), BINOMIAL, 2)


def _patches(level: Floats, corners: NDArray[Any]) -> Floats:
    """Scaled patches (N * PATCHES, 7 * 7 * 3) with upper left corners `corners` (2, N, PATCHES)."""
    windows = np.lib.stride_tricks.sliding_window_view(level, (PATCH, PATCH), axis=(1, 2))  # (N, y, x, C, 7, 7)
    points = windows[np.arange(len(level))[:, None], corners[0], corners[1]]
    axes = (0, 1, 3, 4)
    points = points - points.mean(axis=axes, keepdims=True, dtype=np.float64).astype(np.float32)
    deviation = np.sqrt(np.square(points).mean(axis=axes, keepdims=True, dtype=np.float64))
    points /= np.maximum(deviation, LEAST_DEVIATION).astype(np.float32)
    return points.reshape(-1, PATCH * PATCH * level.shape[3])


def _check_alike(a: Images, b: Images) -> None:
    if a.shape != b.shape or a.dtype != np.uint8 or b.dtype != np.uint8 or a.ndim != 4 or a.shape[3] != 3 or not len(a):
        raise ValueError(
            f"both sets must be uint8 images (N, H, W, 3) of one count and size, found {a.dtype} {a.shape} and "
            f"{b.dtype} {b.shape}"
        )
