"""Claim: random batches come from shards about as fast as from a file in memory, for large rows and for small ones.

Batches of rows at random places, in a fresh process that only reads (what wrote the shards has a warm allocator):

- `ratio`: 64 rows of 12 KiB, against the same rows of one memory-mapped .npy file
- `small_few`, `small_many`: 4,096 rows of 172 bytes from 4 and from 400 shards, against `take` of one Arrow table

Both sides read from the page cache; every checksum of the shards is verified before. That pass over all rows is also
why small rows are then kept side by side, as the table of the peer has them (`pipeline.storage.gather`): an epoch after
the first. `once_few` and `once_many` are the same without, as in a first pass.

    python -m benchmarks.random_gather
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import alternate, emit
from benchmarks.processes import PROJECT, run_process
from pipeline.dataset import Dataset, Part
from pipeline.runs import this_run
from pipeline.stage import Field, Schema
from pipeline.storage import gather
from pipeline.storage.shards import rows_per_shard
from pipeline.storage.store import Store

ROWS, BATCH, BATCHES = 16_384, 64, 256
SMALL_ROWS, SMALL_BATCH, SMALL_BATCHES = 200_000, 4096, 32
ROUNDS = 9
CHAIN = bytes(16)
SCHEMA = {"image": Field("uint8", (3, 64, 64))}
SMALL = {"profile": Field("<f4", (43,), "1")}
CASES = {"large": (SCHEMA, ROWS, None), "small_few": (SMALL, SMALL_ROWS, 4), "small_many": (SMALL, SMALL_ROWS, 400)}
"""Case -> schema of one field, rows, and shards (None: as many as the store makes)."""

ONCE = {"once_few": "small_few", "once_many": "small_many"}
"""Cases in which no rows are kept."""


def ids_of(count: int) -> NDArray[np.void]:
    return np.frombuffer(np.random.default_rng(0).bytes(16 * count), dtype="V16")


def make_dataset(
    root: Path, rows: NDArray[Any], labels: NDArray[np.uint8], schema: Schema = SCHEMA, shards: int | None = None
) -> Dataset:
    """Publish rows (n, ...) of a schema with one field in full shards, or in so many; they keep their order."""
    store = Store(root, writable=True)
    ids = ids_of(len(rows))
    step = -(-len(rows) // shards) if shards else rows_per_shard(schema)
    (name,) = schema
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        store.stage_shard("images", CHAIN, ids[part], {name: rows[part]}, schema, this_run())
    return Dataset(store, [Part("images", CHAIN, schema, ids)], {"label": labels})


def publish(folder: Path) -> None:
    """All cases as stores, and the same rows for the peers."""
    import pyarrow
    from pyarrow import feather

    random = np.random.default_rng(1)
    for case, (schema, count, shards) in CASES.items():
        (field,) = schema.values()
        if case == "large":
            rows: NDArray[Any] = random.integers(0, 256, (count, *field.shape), dtype=np.uint8)
            np.save(folder / f"{case}.npy", rows)
        else:
            rows = random.normal(size=(count, *field.shape)).astype(np.float32)
            column = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.reshape(-1)), field.shape[0])
            table = pyarrow.table({"profile": column})
            feather.write_feather(table, str(folder / f"{case}.arrow"), compression="uncompressed")
        make_dataset(folder / case, rows, np.zeros(count, np.uint8), schema, shards)


def measure(folder: Path, case: str) -> tuple[float, float]:
    """Seconds for all batches from shards, and from the peer."""
    if case in ONCE:
        gather.KEPT_BYTES, case = 0, ONCE[case]
    schema, count, _ = CASES[case]
    (name,) = schema
    batch, batches = (BATCH, BATCHES) if case == "large" else (SMALL_BATCH, SMALL_BATCHES)
    random = np.random.default_rng(2)
    chosen = [random.integers(0, count, batch) for _ in range(batches)]
    dataset = Dataset(Store(folder / case), [Part("images", CHAIN, schema, ids_of(count))], {})
    for block in dataset.blocks(name, 4096):  # every checksum is verified here
        del block
    peer = _peer(folder, case)
    np.testing.assert_array_equal(dataset.array(name, chosen[0]), peer(chosen[0]))
    return alternate(
        lambda: [dataset.array(name, rows) for rows in chosen], lambda: [peer(rows) for rows in chosen], ROUNDS
    )


def _peer(folder: Path, case: str) -> Callable[[NDArray[np.int64]], NDArray[Any]]:
    if case == "large":
        mapped = np.load(folder / f"{case}.npy", mmap_mode="r")
        return lambda rows: np.asarray(mapped[rows])
    from pyarrow import feather

    column = feather.read_table(str(folder / f"{case}.arrow"), memory_map=True).column("profile").combine_chunks()

    def take(rows: NDArray[np.int64]) -> NDArray[Any]:
        return np.asarray(column.take(rows).flatten().to_numpy().reshape(len(rows), -1))

    return take


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", nargs=2, metavar=("FOLDER", "CASE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(Path(given.measure[0]), given.measure[1])))
        return
    found: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        publish(folder)
        for case in (*CASES, *ONCE):
            command = [sys.executable, "-m", "benchmarks.random_gather", "--measure", str(folder), case]
            found[case] = tuple(json.loads(run_process(command, folder, {"PYTHONPATH": str(PROJECT)}).text))  # type: ignore[assignment]
    ratios = {case: round(peer / ours, 3) for case, (ours, peer) in found.items()}
    count = BATCH * BATCHES
    emit(
        "random gather of 12 KiB rows, per second, in a process that only reads",
        count / found["large"][0],
        ratios.pop("large"),
        "fancy indexing of one memory-mapped .npy file",
        count,
        **ratios,
    )


if __name__ == "__main__":
    main()
