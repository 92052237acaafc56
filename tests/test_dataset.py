"""Datasets: the order is the caller's, the values are the shards', however the rows are cut into them."""

from __future__ import annotations

import pickle
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from dataset_rows import FAKE, REAL, SCHEMA, make_arrays, make_ids, put
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dataset import Dataset, Part, _token
from pipeline.errors import ConfigError, DamagedShardError, StoreError
from pipeline.runs import this_run
from pipeline.stage import Field
from pipeline.storage import gather
from pipeline.storage import upkeep as care
from pipeline.storage.store import Store


def make_table(labels: list[int]) -> dict[str, np.ndarray]:
    count = len(labels)
    return {
        "label": np.array(labels, dtype=np.uint8),
        "split": np.array([("train", "train", "val", "test")[k % 4] for k in range(count)]),
        "domain": np.array(["faces"] * count),
        "group": make_ids(np.arange(count) // 2),
    }


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    store = Store(tmp_path / "store", writable=True)
    for cut in (range(9), range(9, 12), range(12, 40)):
        put(store, REAL, cut)
    put(store, FAKE, range(100, 120))
    parts = [
        Part("spectrum", REAL, SCHEMA, make_ids(range(29, -1, -1)), ({"stage": "ingest"}, {"stage": "spectrum"})),
        Part("spectrum", FAKE, SCHEMA, make_ids(range(100, 110)), ({"stage": "sample"}, {"stage": "spectrum"})),
    ]
    return Dataset(store, parts, make_table([0] * 30 + [1] * 10))


def expected(field: str) -> np.ndarray:
    return np.concatenate(
        [make_arrays(range(29, -1, -1), REAL[0])[field], make_arrays(range(100, 110), FAKE[0])[field]]
    )


def test_values_come_in_the_order_of_parts_and_ids(dataset: Dataset) -> None:
    assert len(dataset) == 40
    assert dataset.fields == SCHEMA
    for field in SCHEMA:
        found = dataset.array(field)
        assert found.dtype == SCHEMA[field].dtype
        np.testing.assert_array_equal(found, expected(field))


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.integers(0, 39), max_size=60), chosen=st.lists(st.integers(0, 59), max_size=30))
def test_any_rows_of_any_selection_are_gathered(
    tmp_path_factory: pytest.TempPathFactory, rows: list[int], chosen: list[int]
) -> None:
    dataset = _shared(tmp_path_factory)
    some = dataset.take(np.array(rows, dtype=np.int64))
    picked = np.array([k for k in chosen if k < len(rows)], dtype=np.int64)
    for field in SCHEMA:
        np.testing.assert_array_equal(some.array(field), expected(field)[rows])
        np.testing.assert_array_equal(some.array(field, picked), expected(field)[rows][picked])
    np.testing.assert_array_equal(some.ids, dataset.ids[rows])
    np.testing.assert_array_equal(some.column("label"), dataset.column("label")[rows])
    assert sum(len(part.ids) for part in some.parts) == len(rows)


_KEPT: list[Dataset] = []


def _shared(factory: pytest.TempPathFactory) -> Dataset:
    if not _KEPT:
        _KEPT.append(dataset.__wrapped__(factory.mktemp("shared")))  # type: ignore[attr-defined]
    return _KEPT[0]


def test_what_is_done_to_a_column_is_not_done_to_the_rows(dataset: Dataset) -> None:
    labels = dataset.column("label")
    labels[:] = 1 - labels
    assert (dataset.column("label") == 1 - labels).all()


def test_columns_splits_masks_and_parts_follow_the_rows(dataset: Dataset) -> None:
    train = dataset.split("train")
    mask = np.isin(np.arange(40) % 4, (0, 1))
    np.testing.assert_array_equal(train.array("score"), expected("score")[mask])
    assert set(train.column("split")) == {"train"}
    fakes = dataset.where(dataset.column("label") == 1)
    assert [part.chain for part in fakes.parts] == [FAKE]
    assert fakes.parts[0].steps[0] == {"stage": "sample"}
    assert fakes.part_numbers.tolist() == [0] * 10
    assert dataset.part_numbers.tolist() == [0] * 30 + [1] * 10
    assert dataset.column("label").dtype == np.uint8
    assert dataset.column("group").dtype == "V16"


def test_blocks_are_the_array_in_pieces(dataset: Dataset) -> None:
    pieces = list(dataset.blocks("score", 16))
    assert [len(piece) for piece in pieces] == [16, 16, 8]
    np.testing.assert_array_equal(np.concatenate(pieces), expected("score"))


def test_dask_reads_lazily_and_in_the_same_order(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.dataset.BLOCK_BYTES", 7 * SCHEMA["image"].row_bytes)
    lazy = dataset.to_dask("image")
    assert lazy.shape == (40, 3, 32, 32)
    assert lazy.dtype == np.uint8
    assert lazy.chunks[0] == (7, 7, 7, 7, 7, 5)
    np.testing.assert_array_equal(lazy.compute(scheduler="threads"), expected("image"))
    np.testing.assert_array_equal(dataset.to_dask("score")[3:35].compute(scheduler="sync"), expected("score")[3:35])
    assert dataset.to_dask("image").name == lazy.name


def test_fields_are_those_that_all_parts_share(tmp_path: Path) -> None:
    store = Store(tmp_path, writable=True)
    put(store, REAL, range(4))
    put(store, FAKE, range(4), {"score": SCHEMA["score"]})
    parts = [
        Part("spectrum", REAL, SCHEMA, make_ids(range(4))),
        Part("spectrum", FAKE, {"score": SCHEMA["score"]}, make_ids(range(4))),
    ]
    both = Dataset(store, parts, {})
    assert list(both.fields) == ["score"]
    with pytest.raises(StoreError, match="these rows have no common field 'image'; they have score"):
        both.array("image")
    other = {"score": Field("float32", (), "probability")}
    assert Dataset(store, [parts[0], Part("spectrum", FAKE, other, make_ids(range(4)))], {}).fields == {}


def test_a_dataset_travels_to_another_process(dataset: Dataset) -> None:
    dataset.array("score")
    text = pickle.dumps(dataset)
    assert len(text) < 20_000
    np.testing.assert_array_equal(pickle.loads(text).array("score"), expected("score"))


def test_a_row_in_no_shard_is_named(dataset: Dataset) -> None:
    part = Part("spectrum", REAL, SCHEMA, make_ids([3, 77, 88]))
    missing = Dataset(dataset._store, [part], {})
    name = bytes(make_ids([77])[0]).hex()
    with pytest.raises(StoreError, match=rf"2 of 3 rows of .* are in no readable shard \(first {name}\); run the pipe"):
        missing.array("score")


def test_a_damaged_shard_is_named_and_nothing_of_it_is_returned(dataset: Dataset) -> None:
    path = dataset._store.chain_dir("spectrum", FAKE)  # type: ignore[union-attr]
    file = next(path.glob("*.zarr")) / "score" / "c" / "0"
    file.write_bytes(b"\x01" + file.read_bytes()[1:])
    np.testing.assert_array_equal(dataset.array("score", np.arange(30)), expected("score")[:30])
    with pytest.raises(DamagedShardError, match="inner chunk 0 is damaged") as caught:
        dataset.array("score")
    assert caught.value.shard == str(file.parents[2])


@pytest.mark.parametrize(("field", "chunk"), [("image", "c/0/0/0/0"), ("score", "c/0")])
def test_a_damaged_chunk_is_met_by_small_gathers_too(dataset: Dataset, field: str, chunk: str) -> None:
    path = dataset._store.chain_dir("spectrum", FAKE)  # type: ignore[union-attr]
    file = next(path.glob("*.zarr")) / field / chunk
    file.write_bytes(bytes([file.read_bytes()[0] ^ 0xFF]) + file.read_bytes()[1:])
    for rows in (np.array([3, 20, 29]), np.arange(30)):  # the first chunks of all other shards are sound
        np.testing.assert_array_equal(dataset.array(field, rows), expected(field)[rows])
    for _ in range(2):
        with pytest.raises(DamagedShardError, match="inner chunk 0 is damaged"):
            dataset.array(field, np.array([3, 35]))


@pytest.mark.parametrize("most", [2**20, 0])
def test_small_rows_that_are_asked_for_again_are_kept(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(gather, "KEPT_BYTES", most)
    chosen = np.array([39, 0, 0, 12, 30])
    for _ in range(3):
        found = dataset.array("score", np.arange(40))
        np.testing.assert_array_equal(found, expected("score"))
        found[:] = -1  # is the caller's
        np.testing.assert_array_equal(dataset.array("score", chosen), expected("score")[chosen])
    for path in Path(dataset._store.root).rglob("score/c/0"):  # type: ignore[union-attr]
        with path.open("r+b") as file:
            file.write(bytes(4))  # after its checksum was verified
    changed = (dataset.array("score", np.arange(40)) != expected("score")).any()
    assert changed == (most == 0)


@pytest.mark.parametrize("field", SCHEMA)
def test_rows_of_more_shards_than_are_held_at_once_are_the_same(
    dataset: Dataset, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "MOST_SHARDS", 2)
    rows = np.array([39, 0, 21, 20, 9, 39])
    np.testing.assert_array_equal(dataset.array(field, rows), expected(field)[rows])
    assert dataset._plans == {field: None}


def test_rows_are_found_again_after_another_process_compacted_them(dataset: Dataset) -> None:
    dataset.array("score", np.array([35]))  # looks all rows up, opens one shard
    other = Store(dataset._store.root, writable=True)  # type: ignore[union-attr]
    care.compact(other, "spectrum", REAL, make_ids(range(30)), 100, this_run())
    np.testing.assert_array_equal(dataset.array("image"), expected("image"))


def test_mistakes_are_named(dataset: Dataset) -> None:
    with pytest.raises(StoreError, match="these rows have no column 'colour'; they have domain, group, label, split"):
        dataset.column("colour")
    with pytest.raises(ValueError, match="'dev' is not a split; expected train, val, test"):
        dataset.split("dev")
    with pytest.raises(ValueError, match="a mask of 40 bool is wanted, found int64"):
        dataset.where(np.arange(40))
    with pytest.raises(IndexError, match="positions 3 to 40 asked for, this dataset has 40 rows"):
        dataset.array("score", np.array([3, 40]))
    for ask in (dataset.take, lambda rows: dataset.array("score", rows), dataset.digests):
        with pytest.raises(TypeError, match="positions of rows are whole numbers, found bool; give a mask to `where`"):
            ask(dataset.column("label") == 1)
        with pytest.raises(TypeError, match="positions of rows are whole numbers, found float64"):
            ask(np.array([0.5, 1.5]))
    with pytest.raises(ValueError, match="column 'label' has 2 entries for 4 rows"):
        Dataset(None, [Part("spectrum", REAL, SCHEMA, make_ids(range(4)))], {"label": np.zeros(2, np.uint8)})


def test_an_empty_selection_gives_empty_arrays(dataset: Dataset) -> None:
    nothing = dataset.where(np.zeros(40, dtype=bool))
    assert nothing.array("image").shape == (0, 3, 32, 32)
    assert nothing.parts == []
    assert nothing.to_dask("score").compute(scheduler="sync").shape == (0,)
    shutil.rmtree(dataset._store.root)  # type: ignore[union-attr]
    assert nothing.array("score").shape == (0,)


def test_rows_become_a_table_of_pandas(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """pandas, which nothing else here needs, is stood in for; `make croissant` makes such a table with the real one."""
    stand_in = SimpleNamespace(DataFrame=lambda data, index: (data, index), Index=lambda values, name: (name, values))
    monkeypatch.setitem(sys.modules, "pandas", stand_in)
    found, (name, index) = dataset.to_pandas()
    assert list(found) == ["label", "split", "domain", "group", "score"]
    assert name == "id"
    assert index.tolist() == [one.tobytes().hex() for one in dataset.ids]
    assert found["label"].tolist() == [0] * 30 + [1] * 10
    assert found["group"].tolist() == [one.tobytes().hex() for one in dataset.column("group")]
    np.testing.assert_array_equal(found["score"], expected("score"))
    np.testing.assert_array_equal(np.stack(dataset.to_pandas("image")[0]["image"]), expected("image"))
    monkeypatch.setitem(sys.modules, "pandas", None)
    message = r"^tables of pandas need the library 'pandas', which is not installed; install touchstone\[pandas\]$"
    with pytest.raises(ConfigError, match=message):
        dataset.to_pandas()


def test_memory_of_a_result_is_used_again_only_when_nobody_holds_it() -> None:
    reused = gather.Reused(1000)
    first = reused.block(100)
    first[:] = 1
    part = first.view("<u4")[3:].reshape(2, -1)  # what a caller may be left with
    place = first.ctypes.data
    del first
    others = [reused.block(100) for _ in range(3)]
    for one in others:
        one[:] = 2
    assert (part.view(np.uint8) == 1).all()
    assert len({one.ctypes.data for one in others} | {place}) == 4
    del part, one
    assert reused.block(60).ctypes.data == place
    assert others[0].ctypes.data not in {reused.block(100).ctypes.data for _ in range(9)}
    assert (others[0] == 2).all()


def test_blocks_that_are_too_small_or_too_many_are_not_given_again() -> None:
    reused = gather.Reused(250)
    assert reused.block(100).shape == (100,)
    assert reused.block(200).shape == (200,)  # the first was too small, and is forgotten
    held = [reused.block(100) for _ in range(5)]
    assert len({one.ctypes.data for one in held}) == 5
    assert reused.block(5000).shape == (5000,)
    assert reused._held <= 250


def test_lazy_arrays_of_one_row_made_in_two_ways_have_two_names() -> None:
    """Dask takes arrays of one name for one array."""
    ids, chains = np.zeros(2, "V16"), [b"a", b"b"]
    names = {_token(ids, chains, np.array(parts)) for parts in ([0, 0], [1, 1], [0, 1])}
    assert len(names) == 3
    assert _token(ids, chains, np.array([0, 1], np.int32)) in names


class _Selected:
    """Rows of a data set with two branches, as `to_dask` sees them."""

    ids = np.zeros(2, "V16")
    _branches = (SimpleNamespace(chain=b"a"), SimpleNamespace(chain=b"b"))

    def __init__(self, branch: int) -> None:
        self.part_numbers = np.full(2, branch)

    def __len__(self) -> int:
        return 2

    def _field(self, name: str) -> Field:
        return Field("<f4")


def test_two_selections_of_the_same_ids_are_two_lazy_arrays() -> None:
    one, other, again = (Dataset.to_dask(_Selected(branch), "value") for branch in (0, 1, 0))  # type: ignore[arg-type]
    assert one.name == again.name != other.name
