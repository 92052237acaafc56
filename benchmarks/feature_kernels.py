"""Claim: each feature through its stage runs at 85 % or more of its bare kernel and a bare write of its bytes.

One side is `compute` of the stage (`spectrum`, `prnu`) on a batch, the other the batched kernel called directly; both
write the resulting arrays to one file each, so that the comparison holds what a shard costs at least. What the stage
adds is choosing, naming and blocks; the engine around it is not measured here.

    python -m benchmarks.feature_kernels
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy loads its BLAS
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import alternate, emit
from detectors.noise_pattern import pattern
from pipeline.stage import ID, Batch, Context, Stage, StageConfig
from stages.images.planes import blocks
from stages.prnu import Prnu, PrnuConfig
from stages.spectra.maps import dct2d_maps, fft2d_maps
from stages.spectra.profiles import line_spectra
from stages.spectra.wavelet_noise import noise_residual
from stages.spectrum import Spectrum, SpectrumConfig

ROUNDS, CLAIM = 9, 0.85
LEVELS, SIGMA = 4, 5.0  # of the denoiser
BATCHES = {64: 256, 256: 32}  # pixels per side -> rows

Arrays = Mapping[str, NDArray[Any]]


def bare_kernels() -> dict[str, Callable[[NDArray[np.uint8]], Arrays]]:
    """Feature -> its batched kernel with the stage's defaults."""
    return {
        "profile": lambda images: line_spectra(images, "durall19", projected=False),
        "projections": lambda images: line_spectra(images, None, projected=True),
        "dct2d": lambda images: {"dct2d": dct2d_maps(images, "rgb", np.float32, np.float16)},
        "fft2d": lambda images: {"fft2d": fft2d_maps(images, "rgb", np.float32, np.float16)},
    }


def prnu_kernel(images: NDArray[np.uint8]) -> Arrays:
    """The denoising residual in pieces that fit into a core's cache."""
    parts = blocks(len(images), 12 * images.shape[1] * images.shape[2])
    return {
        "prnu": np.concatenate(
            [pattern(noise_residual(images[part], LEVELS, SIGMA)).astype(np.float16) for part in parts]
        )
    }


def write(arrays: Arrays, folder: Path) -> None:
    """The bare write: the bytes of each array into one file."""
    for name, values in arrays.items():
        with open(folder / name, "wb") as file:
            values.tofile(file)


def stage_and_kernel(feature: str) -> tuple[Stage, StageConfig, Callable[[NDArray[np.uint8]], Arrays]]:
    """The stage of a feature, its settings, and the kernel alone."""
    if feature == "prnu":
        return Prnu(), PrnuConfig(features=("residual",), levels=LEVELS, sigma=SIGMA), prnu_kernel
    return Spectrum(), SpectrumConfig.model_validate({"features": [feature]}), bare_kernels()[feature]


def compare(feature: str, size: int, folder: Path) -> tuple[float, float]:
    """Rows per second of the stage, and its speed over that of kernel and write."""
    rows = BATCHES[size]
    images = np.random.default_rng(size).integers(0, 256, (rows, size, size, 3), dtype=np.uint8)
    ids = np.zeros(rows, ID)
    batch = Batch(ids, (ids,), ({"image": images},))
    stage, config, kernel = stage_and_kernel(feature)
    context = Context(seed=0, stage=stage.name)
    through, bare = stage.compute(config, batch, context), kernel(images)
    if {name: values.tobytes() for name, values in through.items()} != {k: v.tobytes() for k, v in bare.items()}:
        raise SystemExit(f"{feature} at {size} px: stage and kernel differ; expected equal bytes")
    ours, theirs = alternate(
        lambda: write(stage.compute(config, batch, context), folder), lambda: write(kernel(images), folder), ROUNDS
    )
    return rows / ours, theirs / ours


def main() -> None:
    ratios: dict[str, float] = {}
    worst: tuple[float, float, str, int] | None = None
    with tempfile.TemporaryDirectory() as folder:
        for size in BATCHES:
            for feature in (*bare_kernels(), "prnu"):
                rate, ratio = compare(feature, size, Path(folder))
                print(f"{feature} at {size} px: {rate:.0f} rows/s, ratio {ratio:.3f}")
                ratios[f"{feature}_{size}"] = round(ratio, 3)
                if worst is None or ratio < worst[0]:
                    worst = (ratio, rate, f"{feature} at {size} px", BATCHES[size])
    assert worst is not None
    ratio, rate, what, rows = worst
    against = f"bare kernel and bare write, the least favorable of all: {what} (claim: {CLAIM:g})"
    emit("stage of the feature, rows per second", rate, ratio, against, rows, **ratios)


if __name__ == "__main__":
    main()
