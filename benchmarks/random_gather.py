"""Random batches of 64 from shards against the same batches from one array in memory (12 KiB rows, warm page cache).

Run: python -m benchmarks.random_gather. Goal: at least 0.5 of the gather from memory.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import alternate, emit
from pipeline.dataset import Dataset, Part
from pipeline.runs import this_run
from pipeline.stage import Field, Schema
from pipeline.storage.shards import rows_per_shard
from pipeline.storage.store import Store

ROWS, BATCH, BATCHES = 16_384, 64, 256
SCHEMA = {"image": Field("uint8", (3, 64, 64))}


def make_dataset(root: Path, images: NDArray[np.uint8], labels: NDArray[np.uint8], schema: Schema = SCHEMA) -> Dataset:
    """Publish images (n, ...) of the schema in full shards; rows keep the order of `images`."""
    store = Store(root, writable=True)
    chain = bytes(16)
    ids = np.frombuffer(np.random.default_rng(0).bytes(16 * len(images)), dtype="V16")
    step = rows_per_shard(schema)
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        store.stage_shard("images", chain, ids[part], {"image": images[part]}, schema, this_run())
    return Dataset(store, [Part("images", chain, schema, ids)], {"label": labels})


def main() -> None:
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (ROWS, 3, 64, 64), dtype=np.uint8)
    batches = [random.integers(0, ROWS, BATCH) for _ in range(BATCHES)]
    with tempfile.TemporaryDirectory() as folder:
        dataset = make_dataset(Path(folder), images, np.zeros(ROWS, np.uint8))
        np.testing.assert_array_equal(dataset.array("image"), images)  # every checksum is verified here

        def from_shards() -> None:
            for rows in batches:
                dataset.array("image", rows)

        def from_memory() -> None:
            for rows in batches:
                images[rows]

        ours, limit = alternate(from_shards, from_memory, rounds=9)
    count = BATCH * BATCHES
    emit("random gather, rows per second", count / ours, limit / ours, "fancy indexing of one array in memory", count)


if __name__ == "__main__":
    main()
