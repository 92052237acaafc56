"""Small rows for tests of the store, and pictures of what a store holds."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import ids as row_ids
from pipeline.runs import this_run
from pipeline.stage import Field
from pipeline.storage import shards
from pipeline.storage.store import Store

SCHEMA = {"image": Field("uint8", (2, 3)), "score": Field("float32")}
CHAIN = bytes(range(16))
ROOT = Path(__file__).parents[1]


def make_rows(start: int, stop: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    numbers = np.arange(start, stop)
    ids = row_ids.from_bytes((int(n) * 7919 % 2**32).to_bytes(8, "little") + bytes(7) + b"x" for n in numbers)
    image = (numbers[:, None, None] + np.arange(6).reshape(2, 3)).astype(np.uint8)
    return ids, {"image": image, "score": numbers.astype(np.float32)}


def put(store: Store, start: int, stop: int, kill: Any = shards.nothing) -> str:
    ids, arrays = make_rows(start, stop)
    return store.stage_shard("spectrum", CHAIN, ids, arrays, SCHEMA, this_run(), kill)


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(one.relative_to(root)): one.read_bytes() for one in sorted(root.rglob("*")) if one.is_file()}


def no_space(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def refuse(monkeypatch: pytest.MonkeyPatch, code: int, name: str) -> None:
    """Let the system refuse every look at files whose path has this in it."""
    plain_stat, plain_open, plain_scan = os.stat, io.open, os.scandir

    def checked(plain: Any) -> Any:
        def call(path: Any, *arguments: Any, **options: Any) -> Any:
            if name in str(path):
                raise OSError(code, os.strerror(code), str(path))
            return plain(path, *arguments, **options)

        return call

    monkeypatch.setattr(os, "stat", checked(plain_stat))
    monkeypatch.setattr(io, "open", checked(plain_open))
    monkeypatch.setattr(os, "scandir", checked(plain_scan))
