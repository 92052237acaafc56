"""Batches: every row once, in an order that (seed, epoch) fixes, whatever holds the rows and however often it stops."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dataset_rows import REAL, SCHEMA, make_arrays, make_ids, put

from pipeline.dataset import Dataset, Part
from pipeline.loader import Loader
from pipeline.storage.store import Store

COUNT = 50
LABELS = (np.arange(COUNT) % 5 == 0).astype(np.uint8)


def make_plain() -> dict[str, np.ndarray]:
    return {**make_arrays(range(COUNT), REAL[0]), "label": LABELS}


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    store = Store(tmp_path / "store", writable=True)
    for cut in (range(20), range(20, COUNT)):
        put(store, REAL, cut)
    return Dataset(store, [Part("spectrum", REAL, SCHEMA, make_ids(range(COUNT)))], {"label": LABELS})


def rows_of(batches: Any) -> list[list[int]]:
    return [batch["row"].tolist() for batch in batches]


def same(one: Any, other: Any) -> bool:
    return len(one) == len(other) and all(
        a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("preload", [False, True, "auto"])
def test_an_epoch_has_every_row_once_with_its_values(dataset: Dataset, preload: Any) -> None:
    loader = Loader(dataset, ["image", "score"], 16, seed=3, preload=preload)
    batches = list(loader)
    assert [len(batch["row"]) for batch in batches] == [16, 16, 16, 2]
    assert len(loader) == 4
    rows = np.concatenate(rows_of(batches))
    assert sorted(rows.tolist()) == list(range(COUNT))
    assert rows.tolist() != list(range(COUNT))
    for name, values in make_arrays(rows, REAL[0]).items():
        found = torch.cat([batch[name] for batch in batches])
        assert found.numpy().dtype == values.dtype
        np.testing.assert_array_equal(found.numpy(), values)
    np.testing.assert_array_equal(torch.cat([batch["label"] for batch in batches]).numpy(), LABELS[rows])


def test_shards_memory_and_preloading_give_the_same_batches(dataset: Dataset) -> None:
    variants = [
        list(Loader(source, ["image"], 7, seed=1, preload=preload))
        for source in (dataset, make_plain())
        for preload in (False, True)
    ]
    assert all(same(variants[0], other) for other in variants[1:])


def test_the_order_is_fixed_by_seed_and_epoch() -> None:
    loader = Loader(make_plain(), ["score"], 7, seed=1)
    first, second = rows_of(loader), rows_of(loader)
    again = Loader(make_plain(), ["score"], 7, seed=1)
    assert [rows_of(again), rows_of(again)] == [first, second]
    assert first != second
    assert rows_of(Loader(make_plain(), ["score"], 7, seed=2)) != first
    # Pinned: a change of this order changes every trained model.
    assert first[0] == PINNED


PINNED = [24, 14, 22, 35, 17, 2, 20]


@pytest.mark.parametrize("stop", [1, 3, 7, 8, 9, 15])
@pytest.mark.parametrize("balanced", [False, True])
def test_a_loader_goes_on_where_its_state_was_saved(stop: int, balanced: bool) -> None:
    def make() -> Loader:
        return Loader(make_plain(), ["score"], 7, seed=1, balanced=balanced)

    def endless(loader: Loader) -> Any:
        while True:
            yield from loader

    whole = rows_of(itertools.islice(endless(make()), 24))
    stopped = make()
    before = rows_of(itertools.islice(endless(stopped), stop))
    state = json.loads(json.dumps(stopped.state()))
    resumed = make()
    resumed.load_state(state)
    assert before + rows_of(itertools.islice(endless(resumed), 24 - stop)) == whole


def test_a_state_of_another_loader_is_refused() -> None:
    state = Loader(make_plain(), ["score"], 7, seed=1).state()
    with pytest.raises(ValueError, match="the saved loader has seed 1, this one 2: it cannot go on"):
        Loader(make_plain(), ["score"], 7, seed=2).load_state(state)
    with pytest.raises(ValueError, match="the saved loader has batch_size 7, this one 8"):
        Loader(make_plain(), ["score"], 8, seed=1).load_state(state)


def test_balanced_epochs_have_equal_counts_and_use_all_rare_rows() -> None:
    loader = Loader(make_plain(), ["score"], 8, seed=1, balanced=True)
    rows = np.concatenate(rows_of(loader))
    assert len(rows) == COUNT
    assert (LABELS[rows] == 1).sum() == COUNT // 2
    counts = np.bincount(rows, minlength=COUNT)
    assert set(counts[LABELS == 1]) == {2, 3}  # ten rare rows make 25: each two or three times
    assert counts[LABELS == 0].max() == 1
    again = np.bincount(np.concatenate(rows_of(loader)), minlength=COUNT)
    assert (counts != again)[LABELS == 0].any()  # other frequent rows in another epoch


def test_the_last_batch_can_be_left_out() -> None:
    loader = Loader(make_plain(), ["score"], 16, seed=1, drop_last=True)
    assert [len(rows) for rows in rows_of(loader)] == [16, 16, 16]
    assert len(loader) == 3


def test_stored_types_are_kept() -> None:
    arrays = {"half": np.arange(4, dtype=np.float16), "byte": np.arange(4, dtype=np.uint8), "count": np.arange(4)}
    kept = next(iter(Loader(arrays, list(arrays), 4, seed=0)))
    assert [kept[name].dtype for name in arrays] == [torch.float16, torch.uint8, torch.int64]
    assert "label" not in kept


@pytest.mark.jobs  # processes of their own that import everything: seconds
def test_a_spawned_worker_gives_the_same_batches_in_each_epoch(dataset: Dataset) -> None:
    plain = Loader(dataset, ["image"], 7, seed=1, preload=False)
    workers = Loader(dataset, ["image"], 7, seed=1, preload=False, workers=1)
    for _ in range(2):
        assert same(list(plain), list(workers))


def test_a_set_that_does_not_fit_is_not_preloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Loader(make_plain(), ["image"], 7, seed=1).preload
    monkeypatch.setattr("pipeline.loader.available_memory", lambda: 100_000)
    assert not Loader(make_plain(), ["image"], 7, seed=1).preload


def test_batches_do_not_share_memory_with_what_is_held() -> None:
    loader = Loader(make_plain(), ["score"], COUNT, seed=1, preload=True)
    first = next(iter(loader))
    first["score"].zero_()
    assert next(iter(loader))["score"].any()


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="the rows have no common field 'pixels'; they have image, score, label"):
        Loader(make_plain(), ["pixels"], 7, seed=1)
    with pytest.raises(ValueError, match="batches of 60 rows out of 50 rows: not one batch can be made"):
        Loader(make_plain(), ["score"], 60, seed=1, drop_last=True)
    with pytest.raises(ValueError, match="this set has one label only"):
        Loader({**make_plain(), "label": np.zeros(COUNT, np.uint8)}, ["score"], 7, seed=1, balanced=True)
    with pytest.raises(ValueError, match="the arrays of a set have one entry for each row, found a 4, label 6"):
        Loader({"a": np.zeros(4), "label": np.zeros(6)}, ["a"], 2, seed=1)
    with pytest.raises(ValueError, match="preload is 'auto', True or False; found 'yes'"):
        Loader(make_plain(), ["score"], 7, seed=1, preload="yes")


@pytest.mark.gpu
def test_batches_on_the_gpu_are_those_of_the_cpu(dataset: Dataset) -> None:
    expected = list(Loader(dataset, ["image"], 7, seed=1))
    for preload, pinned in ((True, False), (False, True)):
        found = list(Loader(dataset, ["image"], 7, seed=1, device="cuda", preload=preload, pinned=pinned))
        assert {batch["image"].device.type for batch in found} == {"cuda"}
        assert same(expected, [{name: tensor.cpu() for name, tensor in batch.items()} for batch in found])


def test_a_field_of_single_values_and_one_row_works() -> None:
    batch = next(iter(Loader({"score": np.ones(1, np.float32)}, ["score"], 4, seed=0)))
    assert batch["score"].tolist() == [1.0]


def test_a_set_reaches_the_memory_of_a_device_in_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.loader.BLOCK_BYTES", 16 * 8)  # 16 rows
    loader = Loader({"number": np.arange(50.0), "label": LABELS}, ["number"], 20, seed=1, device="meta", preload=True)
    asked: list[int] = []
    tensors = loader.source.tensors
    monkeypatch.setattr(loader.source, "tensors", lambda rows: asked.append(len(rows)) or tensors(rows))
    batches = list(loader)
    assert asked == [16, 16, 16, 2]
    assert [tuple(batch["number"].shape) for batch in batches] == [(20,), (20,), (10,)]
    assert {batch[name].device.type for batch in batches for name in ("number", "label")} == {"meta"}


@pytest.mark.parametrize(("free", "held", "fits"), [(900, 0, False), (700, 400, True), (700, 300, False)])
def test_memory_that_torch_holds_and_does_not_use_counts_as_free(
    monkeypatch: pytest.MonkeyPatch, free: int, held: int, fits: bool
) -> None:
    rows = {"number": np.zeros(55)}  # 440 bytes, of which 1100 free ones are enough
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: held + 5000)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 5000)
    monkeypatch.setattr("pipeline.loader.available_memory", lambda: 0)  # of the host only a block is taken
    assert Loader(rows, ["number"], 5, seed=1, device="cuda").preload is fits


def test_a_set_that_is_larger_than_the_memory_is_not_preloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.loader.available_memory", lambda: 439)
    with pytest.raises(ValueError, match=r"^the set has 0.0 GiB and cpu has 0.0 GiB free, .* leave preload out$"):
        Loader({"number": np.zeros(55)}, ["number"], 5, seed=1, preload=True)
    assert not Loader({"number": np.zeros(55)}, ["number"], 5, seed=1).preload


def test_batches_for_a_gpu_are_sent_without_waiting() -> None:
    assert Loader({"number": np.zeros(5)}, ["number"], 5, seed=1, device="cuda", preload=False).pinned
    assert not Loader({"number": np.zeros(5)}, ["number"], 5, seed=1, preload=False).pinned
