"""Rows of a dataset with known values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline import ids as row_ids
from pipeline.runs import this_run
from pipeline.stage import Field
from pipeline.storage.store import Store

SCHEMA = {"image": Field("uint8", (3, 32, 32)), "score": Field("float32", (), "logit")}


REAL, FAKE = b"r" * 16, b"f" * 16


def make_ids(numbers: Any) -> np.ndarray:
    return row_ids.from_bytes((int(n) * 7919 % 2**31).to_bytes(8, "little") + bytes(8) for n in numbers)


def make_arrays(numbers: Any, offset: int) -> dict[str, np.ndarray]:
    numbers = np.asarray(numbers, dtype=np.int64)
    image = (numbers[:, None] + offset + np.arange(3 * 32 * 32)).astype(np.uint8).reshape(-1, 3, 32, 32)
    return {"image": image, "score": (numbers + 1000 * offset).astype(np.float32)}


def put(store: Store, chain: bytes, numbers: Any, schema: Any = SCHEMA) -> Path:
    arrays = make_arrays(numbers, chain[0])
    name = store.stage_shard("spectrum", chain, make_ids(numbers), {k: arrays[k] for k in schema}, schema, this_run())
    return store.chain_dir("spectrum", chain) / f"{name}.zarr"
