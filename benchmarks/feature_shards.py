"""Measured, without a claim, the disk above all: spectrum shards through the engine against a bare kernel and write.

The engine (one worker) reads the images from a shard, checks them, computes, takes a SHA-256 of every row and a crc32c
of every chunk, writes, flushes to the disk and renames; it publishes one shard while it computes the next. The bare
side calls the batched kernel on an array in memory and writes the bytes to one file, without a flush: what it writes
stays in the memory of the system. The ratio is therefore that of a disk which takes hundreds of megabytes per second
durably to one that takes nothing, and moves with the disk more than with the engine; `cpu_ratio` of each feature, the
same in processor time of the process, says what the engine itself costs: ids, checks, SHA-256, crc32c and copies.

    python -m benchmarks.feature_shards
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy loads its BLAS
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hashlib
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.feature_kernels import bare_kernels, write
from benchmarks.measure import Work, alternate, emit
from pipeline.running.executors import Executors
from pipeline.running.progress import Bars
from pipeline.running.stopping import Stop
from pipeline.running.tasks import Facts, Parent, ShardTask
from pipeline.runs import this_run
from pipeline.stage import ID, Field
from pipeline.storage.shards import rows_per_shard
from pipeline.storage.store import Store
from stages.spectrum import Spectrum, SpectrumConfig

ROUNDS, SHARDS = 5, 8
MOST_ROWS = {64: 4096, 256: 256}  # pixels per side -> rows; fewer where a full shard holds fewer


def compare(feature: str, size: int, folder: Path) -> tuple[int, float, float, float]:
    """Rows of the shard, rows per second of the engine, its speed over that of the bare side, and by the processor."""
    stage, config = Spectrum(), SpectrumConfig.model_validate({"features": [feature]})
    images_schema = {"image": Field("uint8", (size, size, 3))}
    schema = stage.schema(config, {"of": images_schema})
    rows = min(rows_per_shard(schema), MOST_ROWS[size])
    random = np.random.default_rng(size)
    images = random.integers(0, 256, (rows, size, size, 3), dtype=np.uint8)
    ids = np.sort(np.frombuffer(random.bytes(16 * rows), "S16")).view(ID)
    store, run = Store(folder / "store", writable=True), this_run()
    chain = hashlib.sha256(f"{feature} {size}".encode()).digest()[:16]
    store.stage_shard("equalize", chain, ids, {"image": images}, images_schema, run)
    facts = Facts(store.root, run, 0, "cpu", 1)
    parent = Parent("equalize", chain, images_schema, ids)
    rounds = iter(range(1_000_000))
    kernel = bare_kernels()[feature]

    def engine() -> None:
        executors = Executors(1)
        waiting = []
        for _ in range(SHARDS):
            fresh = hashlib.sha256(f"{feature} {size} {next(rounds)}".encode()).digest()[:16]
            task = ShardTask(facts, "spectra", stage, config, fresh, schema, ids, (parent,))
            waiting.append(executors.submit("spectra", task, Bars(quiet=True), Stop()))
        for future in waiting:
            future.result()
        executors.close()

    def bare() -> None:
        for _ in range(SHARDS):
            write(kernel(images), folder)

    ours, theirs = alternate(engine, bare, ROUNDS)
    return rows, SHARDS * rows / ours, theirs / ours, _processor_seconds(bare) / _processor_seconds(engine)


def _processor_seconds(work: Work) -> float:
    """The least of a few runs, all threads of this process together."""
    found = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def main() -> None:
    ratios: dict[str, float] = {}
    worst: tuple[float, float, str, int] | None = None
    for size in MOST_ROWS:
        for feature in bare_kernels():
            with tempfile.TemporaryDirectory() as folder:
                rows, rate, ratio, cpu = compare(feature, size, Path(folder))
            what = f"{feature}_{size}"
            print(f"{feature} at {size} px, {rows} rows: {rate:.0f} rows/s, ratio {ratio:.3f}, processor {cpu:.3f}")
            ratios |= {what: round(ratio, 3), f"{what}_cpu_ratio": round(cpu, 3)}
            if worst is None or ratio < worst[0]:
                worst = (ratio, rate, f"{feature} at {size} px", rows)
    assert worst is not None
    ratio, rate, least, rows = worst
    against = f"bare kernel and bare write, the least favorable of all: {least}"
    emit("spectrum shard through the engine, rows per second", rate, ratio, against, rows, **ratios)


if __name__ == "__main__":
    main()
