"""Rows that are read ahead for a device: those of the plain loader, whatever overtakes what."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dataset_rows import REAL, SCHEMA, make_ids, put

from pipeline import streaming
from pipeline.dataset import Dataset, Part
from pipeline.loader import Loader
from pipeline.storage.store import Store

COUNT = 40
LABELS = (np.arange(COUNT) % 3 == 0).astype(np.uint8)
DEVICE = "cpu:0"
"""The memory of the host under a name that is not its usual one, so that it is taken for a device."""


class Slow:
    """A device that copies as late as it may: when somebody waits for it, or is given the rows."""

    made: list[Slow]

    def __init__(self, device: str) -> None:
        self.device, self.names, self.buffers, self.open, self.most = device, set(), 0, 0, 0
        self.lock = threading.Lock()
        self.made.append(self)

    def buffer(self, shape: tuple[int, ...], dtype: Any) -> torch.Tensor:
        self.buffers += 1
        return torch.from_numpy(np.empty(shape, dtype))

    def send(self, tensors: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], Any]:
        self.names |= tensors.keys()
        there = {name: torch.full_like(one, 7) for name, one in tensors.items()}
        with self.lock:
            self.open += 1
            self.most = max(self.most, self.open)
        return there, Copies(self, [(there[name], one) for name, one in tensors.items()])

    def receive(self, tensors: dict[str, torch.Tensor], event: Copies) -> None:
        event.synchronize()


class Copies:
    def __init__(self, link: Slow, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        self.link, self.pairs = link, pairs

    def synchronize(self) -> None:
        with self.link.lock:
            for target, source in self.pairs:
                target.copy_(source)
            self.link.open -= bool(self.pairs)
            self.pairs = []


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> list[Slow]:
    monkeypatch.setattr(streaming, "Link", Slow)
    monkeypatch.setattr(Slow, "made", [], raising=False)
    return Slow.made


@pytest.fixture
def large(tmp_path: Path) -> Dataset:
    """Rows of 3 KiB in two shards."""
    store = Store(tmp_path / "store", writable=True)
    for cut in (range(25), range(25, COUNT)):
        put(store, REAL, cut)
    return Dataset(store, [Part("spectrum", REAL, SCHEMA, make_ids(range(COUNT)))], {"label": LABELS})


def values(batches: Any) -> list[dict[str, Any]]:
    return [{name: one.numpy().copy() for name, one in batch.items()} for batch in batches]


def check_same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert [one.keys() for one in found] == [one.keys() for one in expected]
    for one, other in zip(found, expected, strict=True):
        for name, value in one.items():
            np.testing.assert_array_equal(value, other[name])


@pytest.mark.parametrize("source", ["shards", "memory"])
def test_what_is_read_ahead_are_the_rows_of_the_plain_loader(source: str, large: Dataset, links: list[Slow]) -> None:
    fields = ["image", "score"]
    rows: Any = large if source == "shards" else {**{name: large.array(name) for name in fields}, "label": LABELS}
    ahead = Loader(rows, fields, 6, seed=1, device=DEVICE, pinned=True, preload=False)
    plain = Loader(rows, fields, 6, seed=1, preload=False)
    for _ in range(2):
        check_same(values(ahead), values(plain))
    (link,) = links
    assert (link.names, link.buffers) == ({"image", "score"}, 2 * streaming.BUFFERS)  # labels are there already
    assert link.most <= streaming.BUFFERS


def test_an_epoch_that_is_left_goes_on_where_it_was_left(large: Dataset, links: list[Slow]) -> None:
    ahead = Loader(large, ["image"], 6, seed=1, device=DEVICE, pinned=True, preload=False)
    expected, found = values(Loader(large, ["image"], 6, seed=1)), []
    while len(found) < len(expected):
        for batch in ahead:
            found += values([batch])
            break
    check_same(found, expected)
    assert not [one for one in threading.enumerate() if one.name.startswith("rows")]


def test_no_thread_writes_into_a_buffer_once_an_epoch_is_left(large: Dataset, links: list[Slow]) -> None:
    loader = Loader(large, ["image"], 6, seed=1, device=DEVICE, pinned=True, preload=False)
    begun, go_on = threading.Event(), threading.Event()
    first, ended, fill = loader.order(0)[:6].tolist(), [], loader.source.fill

    def slow(rows: Any, arrays: Any) -> None:
        if rows.tolist() != first:
            begun.set()
            go_on.wait(30)
        fill(rows, arrays)
        ended.append(len(rows))

    loader.source.fill = slow  # type: ignore[method-assign]
    for _ in loader:
        assert begun.wait(30)
        threading.Timer(0.05, go_on.set).start()
        break
    assert len(ended) >= 2  # the one that had begun is waited for


def test_a_set_reaches_a_device_through_the_same_few_buffers(
    large: Dataset, links: list[Slow], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.loader.BLOCK_BYTES", 7 * 3076)
    held = Loader(large, ["image", "score"], 6, seed=1, device=DEVICE, pinned=True, preload=True)
    check_same(values(held), values(Loader(large, ["image", "score"], 6, seed=1)))
    assert [link.buffers for link in links] == [2 * streaming.BUFFERS]


def test_blocks_are_small_where_the_host_has_little_memory(
    large: Dataset, links: list[Slow], monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = Loader(large, ["image"], 6, seed=1, device=DEVICE, pinned=True, preload=True)
    monkeypatch.setattr("pipeline.loader.available_memory", lambda: 100_000)
    asked: list[int] = []
    fill = loader.source.fill
    monkeypatch.setattr(loader.source, "fill", lambda rows, out: asked.append(len(rows)) or fill(rows, out))
    next(iter(loader))
    assert max(asked) == 3  # of 3,072 bytes in a tenth of what is free
    assert sum(asked) == COUNT


def test_large_rows_come_from_their_files_and_from_the_map_of_one_that_is_gone(
    large: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, calls = np.array([30, 2, 2, 39, 0]), []
    expected = large.array("image", wanted)
    read = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, *rest: calls.append(file) or read(file, *rest))
    for round_of in (1, 2):
        out = np.zeros_like(expected)
        large.array_into("image", wanted, out)
        np.testing.assert_array_equal(out, expected)
        assert len(calls) == 5 * round_of
    assert len(set(calls)) == 2
    large._plans.clear()
    large.array("image", wanted)  # maps the files
    for directory in {large._shard(number).path for number in large._places.shard}:
        shutil.rmtree(directory)
    out = np.zeros_like(expected)
    large.array_into("image", wanted, out)
    np.testing.assert_array_equal(out, expected)
    assert len(calls) == 10


def test_an_error_of_a_reader_reaches_the_training(large: Dataset, links: list[Slow]) -> None:
    loader = Loader(large, ["image"], 6, seed=1, device=DEVICE, pinned=True, preload=False)

    def fill(rows: Any, out: Any) -> None:
        raise OSError("the disk is away")

    loader.source.fill = fill  # type: ignore[method-assign]
    with pytest.raises(OSError, match="the disk is away"):
        next(iter(loader))
