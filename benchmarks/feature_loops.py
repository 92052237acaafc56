"""Claims: batched kernels against one image at a time, as the published programs compute them.

High-pass residual at 256 px (5 x 5 median by `scipy.ndimage`): at least 10 times. DCT-2d at 64 px (`scipy.fftpack`,
axis after axis, channel by channel, float64): at least 2 times. FFT-2d at 256 px (`numpy.fft.fft2` per channel, full
plane): at least 1.5 times. The loops are written from the descriptions of GANDCTAnalysis and AutoGAN; both sides give
equal values, checked before timing. The 1D profile has a program of its own, `profile_speed`.

    python -m benchmarks.feature_loops
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy loads its BLAS
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import alternate, emit
from pipeline.running.memory import keep_freed_memory
from stages.images.planes import opencv_gray
from stages.spectra.high_pass import high_pass
from stages.spectra.maps import dct2d_maps, fft2d_maps

ROUNDS = 7
Kernel = Callable[[NDArray[np.uint8]], NDArray[Any]]


@dataclass(frozen=True)
class Case:
    """A kernel, the loop that it replaces, and what is claimed."""

    name: str
    size: int
    rows: int
    claim: float
    tolerance: float
    kernel: Kernel
    loop: Kernel


def high_pass_loop(images: NDArray[np.uint8]) -> NDArray[np.int16]:
    from scipy.ndimage import median_filter

    grays = (opencv_gray(image[None])[0].astype(np.uint8) for image in images)
    return np.stack([gray.astype(np.int16) - median_filter(gray, 5, mode="nearest") for gray in grays])


def dct_loop(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    from scipy.fftpack import dct

    found = np.empty((len(images), 3, *images.shape[1:3]))
    for row, image in enumerate(images):
        for channel in range(3):
            once = dct(image[:, :, channel].astype(np.float64), type=2, norm="ortho", axis=0)
            found[row, channel] = np.log(np.abs(dct(once, type=2, norm="ortho", axis=1)) + 1e-12)
    return found


def fft_loop(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    found = np.empty((len(images), 3, *images.shape[1:3]))
    for row, image in enumerate(images):
        for channel in range(3):
            found[row, channel] = np.log(np.abs(np.fft.fft2(image[:, :, channel] / 255.0)) + 1e-3)
    return found


CASES = (
    Case("high_pass", 256, 16, 10.0, 0.0, lambda images: high_pass(opencv_gray(images).astype(np.uint8)),
         high_pass_loop),
    Case("dct2d", 64, 128, 2.0, 5e-2, lambda images: dct2d_maps(images, "rgb"), dct_loop),
    Case("fft2d", 256, 16, 1.5, 1e-3, lambda images: fft2d_maps(images, "rgb"), fft_loop),
)  # fmt: skip


def compare(case: Case) -> tuple[float, float]:
    """Images per second of the kernel, and how many times as fast as the loop it is."""
    images = np.random.default_rng(case.size).integers(0, 256, (case.rows, case.size, case.size, 3), dtype=np.uint8)
    ours, theirs = case.kernel(images[:2]), case.loop(images[:2])
    error = np.abs(ours - theirs)[theirs > -1].max() if case.tolerance else np.abs(ours - theirs).max()
    if error > case.tolerance:
        raise SystemExit(f"{case.name}: kernel and loop differ by {error:.2g}; expected at most {case.tolerance:g}")
    fast, slow = alternate(lambda: case.kernel(images), lambda: case.loop(images), ROUNDS)
    return case.rows / fast, slow / fast


def main() -> None:
    keep_freed_memory()  # as in a run
    ratios: dict[str, float] = {}
    worst: tuple[float, float, float, Case] | None = None
    for case in CASES:
        rate, ratio = compare(case)
        print(f"{case.name} at {case.size} px: {rate:.0f} images/s, {ratio:.1f} times the loop (claim {case.claim:g})")
        ratios[f"{case.name}_{case.size}"] = round(ratio, 2)
        if worst is None or ratio / case.claim < worst[0]:
            worst = (ratio / case.claim, rate, ratio, case)
    assert worst is not None
    _, rate, ratio, case = worst
    against = f"loop over images and channels, the nearest to its goal of three (claim: {case.claim:g})"
    emit(f"{case.name} at {case.size} px, images per second", rate, ratio, against, case.rows, **ratios)


if __name__ == "__main__":
    main()
