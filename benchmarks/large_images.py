"""Claim: all frequency features at 1024 px fit into 2 GiB of memory, with two workers and everything that a run holds.

A fresh process runs spectrum shards of 16 rows through the engine: it reads images from shards, computes profile,
projections, DCT-2d and FFT-2d maps, and publishes one shard per worker while it computes the next. What counts is the
largest resident set of that process, libraries included (about 0.5 GiB of it). Time plays no part.

    python -m benchmarks.large_images
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy loads its BLAS
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hashlib
import multiprocessing
import resource
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.measure import emit
from pipeline.executors import Executors, Stop
from pipeline.progress import Bars
from pipeline.runs import this_run
from pipeline.shards import rows_per_shard
from pipeline.stage import ID, Field
from pipeline.store import Store
from pipeline.tasks import Facts, Parent, ShardTask
from stages.spectrum import Spectrum, SpectrumConfig

SIDE, WORKERS, SHARDS, CLAIM_MIB = 1024, 2, 6, 2048


def features(folder: Path) -> tuple[int, float]:
    """Rows of all shards, and the peak of this process in MiB."""
    stage = Spectrum()
    config = SpectrumConfig.model_validate({"features": ["profile", "projections", "dct2d", "fft2d"]})
    images_schema = {"image": Field("uint8", (SIDE, SIDE, 3))}
    schema = stage.schema(config, {"of": images_schema})
    rows = rows_per_shard(schema)
    store, run = Store(folder / "store", writable=True), this_run()
    facts = Facts(store.root, run, 0, "cpu", 1)
    random = np.random.default_rng(0)
    executors, waiting = Executors(WORKERS), []
    images = random.integers(0, 256, (rows, SIDE, SIDE, 3), dtype=np.uint8)
    for number in range(SHARDS):
        chain, fresh = (hashlib.sha256(f"{what} {number}".encode()).digest()[:16] for what in ("images", "spectra"))
        ids = np.sort(np.frombuffer(random.bytes(16 * rows), "S16")).view(ID)
        store.stage_shard("equalize", chain, ids, {"image": images}, images_schema, run)
        parent = Parent("equalize", chain, images_schema, ids)
        task = ShardTask(facts, "spectra", stage, config, fresh, schema, ids, (parent,))
        waiting.append(executors.submit("spectra", task, Bars(quiet=True), Stop()))
    for future in waiting:
        future.result()
    executors.close()
    return SHARDS * rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, multiprocessing.get_context("spawn").Pool(1) as pool:
        rows, peak = pool.apply(features, (Path(folder),))
    print(f"all features of {rows} images at {SIDE} px, {WORKERS} workers: at most {peak:.0f} MiB")
    against = f"the goal itself, {CLAIM_MIB} MiB; images of noise"
    emit(f"peak memory of the spectrum stage at {SIDE} px, MiB", peak, peak / CLAIM_MIB, against, rows)


if __name__ == "__main__":
    main()
