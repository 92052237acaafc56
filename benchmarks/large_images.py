"""Claim: all frequency features at 1024 px fit into 2 GiB of memory, with two workers and everything that a run holds.

For each stage, a fresh process runs shards through the engine: it reads images from shards, computes (`spectrum`:
profile, projections, DCT-2d and FFT-2d maps), and publishes one shard per worker while it computes the next. What
counts is the largest resident set of that process, libraries included (about 0.5 GiB of it). Time plays no part. The
stages beside `spectrum` are measured without a goal.

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
from pipeline.contents import file_sha256
from pipeline.running.executors import Executors
from pipeline.running.progress import Bars
from pipeline.running.proof import CheckedFile, Claim
from pipeline.running.stopping import Stop
from pipeline.running.tasks import Facts, Parent, ShardTask
from pipeline.runs import this_run
from pipeline.stage import ID, Field, Kind, Stage, StageConfig
from pipeline.storage.shards import rows_per_shard
from pipeline.storage.store import Store
from stages.perturb import Perturb, PerturbConfig
from stages.prnu import Prnu, PrnuConfig
from stages.residual import Residual, ResidualConfig
from stages.spectrum import Spectrum, SpectrumConfig
from stages.upsample import Upsample, UpsampleConfig

SIDE, WORKERS, SHARDS, CLAIM_MIB = 1024, 2, 6, 2048


MODEL = Path(__file__).parents[1] / "manifests" / "weights" / "rdn-small-SR.safetensors"


def stages() -> dict[str, tuple[Stage, StageConfig]]:
    """Name -> a stage that reads images, and its settings."""
    everything = {"features": ["profile", "projections", "dct2d", "fft2d"]}
    return {
        "spectrum": (Spectrum(), SpectrumConfig.model_validate(everything)),
        "residual": (Residual(), ResidualConfig.model_validate({"model": str(MODEL)})),
        "prnu": (Prnu(), PrnuConfig()),
        "perturb": (Perturb(), PerturbConfig.model_validate({"protocol": "he2021"})),
        "upsample": (Upsample(), UpsampleConfig.model_validate({"method": "bicubic"})),
    }


def features(folder: Path, name: str) -> tuple[int, float]:
    """Rows of all shards, and the peak of this process in MiB."""
    stage, config = stages()[name]
    files = {"model": CheckedFile(MODEL, file_sha256(MODEL))} if name == "residual" else {}
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
        index = np.zeros(rows, np.int64) if stage.kind is Kind.EXPAND else None
        task = ShardTask(facts, name, stage, config, fresh, schema, ids, (parent,), index, claim=Claim({}, {}, files))
        waiting.append(executors.submit(name, task, Bars(quiet=True), Stop()))
    for future in waiting:
        future.result()
    executors.close()
    return SHARDS * rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    peaks: dict[str, tuple[int, float]] = {}
    for name in stages():
        with tempfile.TemporaryDirectory() as folder, multiprocessing.get_context("spawn").Pool(1) as pool:
            peaks[name] = pool.apply(features, (Path(folder), name))
        print(f"{name} of {peaks[name][0]} images at {SIDE} px, {WORKERS} workers: at most {peaks[name][1]:.0f} MiB")
    rows, peak = peaks.pop("spectrum")
    others = {f"{name}_mib": round(most) for name, (_, most) in peaks.items()}
    against = f"the goal itself, {CLAIM_MIB} MiB; images of noise"
    emit(f"peak memory of the spectrum stage at {SIDE} px, MiB", peak, peak / CLAIM_MIB, against, rows, **others)


if __name__ == "__main__":
    main()
