"""Claim: the 1D azimuthal profile of a 256 px image is at least 10 times as fast as the loop version, on one core.

The loop versions are written from the published definitions, one image after the other: a full FFT, then either a sort
of all pixels by radius with cumulative sums (the style of DeepFakeDetection and UpConv, Durall et al. 2019 and 2020) or
a mask per ring (the style of SpectralGAN, Jung and Keuper 2021; its masks are built once, outside the measured time).
Both sides start from the same uint8 RGB batch, and their values are compared first.

    python -m benchmarks.profile_speed
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy loads its BLAS
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import alternate, emit
from stages.spectra.profiles import Convention, profiles

SIZE, IMAGES, ROUNDS, CLAIM = 256, 32, 7, 10.0


def sorted_profile(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """durall: pixels sorted by radius around the middle of the array, ring sums as differences of a running sum."""
    logs = 20 * np.log(np.abs(np.fft.fftshift(np.fft.fft2(plane)) + 1e-8))
    y, x = np.indices(logs.shape)
    radius = np.hypot(x - (logs.shape[1] - 1) / 2, y - (logs.shape[0] - 1) / 2)
    order = np.argsort(radius.flat)
    rings = radius.flat[order].astype(int)
    last = np.flatnonzero(rings[1:] - rings[:-1])  # last pixel of each ring but the outermost
    sums = np.cumsum(logs.flat[order], dtype=float)
    return np.diff(sums[last]) / np.diff(last)


def ring_masks(size: int) -> NDArray[np.float64]:
    """jung21: one mask per ring over the half plane, (rings, size, size // 2 + 1)."""
    down = np.minimum(np.arange(size), size - np.arange(size))
    ring = np.floor(np.hypot(down[:, None], np.arange(size // 2 + 1)[None, :]))
    return (ring == np.arange(int(ring.max()) + 1)[:, None, None]).astype(np.float64)


def masked_profile(plane: NDArray[np.float64], masks: NDArray[np.float64]) -> NDArray[np.float64]:
    """jung21: each mask times the log power, summed and divided by the mask's pixels."""
    logs = 20 * np.log(np.abs(np.fft.rfft2(plane)) ** 2 + 1e-8)
    return np.array([(mask * logs).sum() / mask.sum() for mask in masks])


def loop(images: NDArray[np.uint8], convention: Convention, masks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Profiles of a batch, image by image."""
    found = []
    for image in images:
        if convention == "durall19":
            weighted = image.astype(np.uint32) @ np.array([9798, 19235, 3735], np.uint32)
            found.append(sorted_profile(((weighted + (1 << 14)) >> 15).astype(np.float64)))
        elif convention == "durall20":
            found.append(sorted_profile((image / 127.5 - 1) @ np.array([0.2989, 0.5870, 0.1140])))
        else:
            found.append(masked_profile((image / 255) @ np.array([0.299, 0.587, 0.114]), masks))
    return np.stack(found)


def main() -> None:
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, SIZE, SIZE, 3), dtype=np.uint8)
    masks = ring_masks(SIZE)
    slowest: tuple[float, float, Convention] | None = None
    conventions: tuple[Convention, ...] = ("durall19", "durall20", "jung21")
    for convention in conventions:
        error = np.abs(profiles(images[:2], convention) - loop(images[:2], convention, masks)).max()
        if not error < 2e-3:
            raise SystemExit(f"{convention}: kernel and loop differ by {error:.2g}; expected below 0.002")
        ours, theirs = alternate(
            partial(profiles, images, convention), partial(loop, images, convention, masks), ROUNDS
        )
        ratio = theirs / ours
        print(
            f"{convention}: {IMAGES / ours:.0f} images/s, loop {IMAGES / theirs:.0f} images/s, ratio {ratio:.1f}, "
            f"largest difference {error:.1e}"
        )
        if slowest is None or ratio < slowest[0]:
            slowest = (ratio, IMAGES / ours, convention)
    assert slowest is not None
    ratio, rate, least = slowest
    against = f"loop version of {least}, the least favorable of three conventions (claim: {CLAIM:g})"
    emit(f"azimuthal profile at {SIZE} px, images per second", rate, ratio, against, IMAGES)


if __name__ == "__main__":
    main()
