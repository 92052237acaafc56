"""Shards: what is written opens in plain zarr, what is read equals plain zarr, and damage is never read as data."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, ZstdCodec

from pipeline.errors import DamagedShardError
from pipeline.stage import Field
from pipeline.storage import shards
from pipeline.storage.files import file_sizes
from pipeline.storage.shard_reader import ArrayReader
from pipeline.storage.shards import Shard, rows_per_shard, shard_name, write_shard

CHAIN = bytes(range(16))
SCHEMA = {"image": Field("uint8", (3, 8, 8)), "profile": Field("float32", (5,), "log power"), "count": Field("int64")}


def make_rows(count: int, seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    ids = np.frombuffer(random.bytes(16 * count), dtype="V16")
    arrays = {
        "image": random.integers(0, 256, (count, 3, 8, 8), dtype=np.uint8),
        "profile": random.normal(size=(count, 5)).astype(np.float32),
        "count": random.integers(-9, 9, count),
    }
    return ids, arrays


def make_shard(root: Path, count: int = 7) -> Path:
    ids, arrays = make_rows(count)
    path = root / f"{shard_name(ids)}.zarr"
    path.mkdir(parents=True)
    write_shard(path, CHAIN, ids, arrays, SCHEMA)
    return path


def by_id(ids: np.ndarray) -> list[int]:
    return sorted(range(len(ids)), key=lambda row: bytes(ids[row]))


def test_a_shard_is_named_by_the_digest_of_its_sorted_ids() -> None:
    ids, _ = make_rows(5)
    expected = hashlib.sha256(b"".join(sorted(bytes(one) for one in ids))).hexdigest()[:16]
    assert shard_name(ids) == shard_name(ids[::-1]) == expected


@pytest.mark.parametrize(
    ("shape", "rows"), [((3, 64, 64), 2730), ((), 32768), ((3, 1024, 1024), 16), ((88,), 32768), ((512, 8, 8), 1024)]
)
def test_rows_per_shard_make_32_mib_within_bounds(shape: tuple[int, ...], rows: int) -> None:
    assert rows_per_shard({"x": Field("uint8", shape)}) == rows


@pytest.mark.parametrize("size", [1, 100, 12288, 2**19, 2**20, 2**22])
def test_inner_chunks_are_half_to_one_mib_of_whole_rows(size: int) -> None:
    rows = shards.chunk_rows(Field("uint8", (size,)), 10**9)
    assert rows == 1 or 2**19 <= rows * size <= 2**20
    assert shards.chunk_rows(Field("uint8", (size,)), 3) <= 3


def test_plain_zarr_opens_a_shard_without_a_warning_and_finds_the_rows_sorted(tmp_path: Path) -> None:
    ids, arrays = make_rows(7)
    group = zarr.open_group(make_shard(tmp_path), mode="r")
    order = by_id(ids)
    assert group["id"][:].tobytes() == b"".join(bytes(ids[row]) for row in order)
    for name, values in arrays.items():
        np.testing.assert_array_equal(group[name][:], values[order])
    assert group.attrs["rows"] == 7
    assert group.attrs["schema"]["profile"] == {"dtype": "float32", "shape": [5], "units": "log power"}


def test_files_per_shard_are_two_per_array_and_one(tmp_path: Path) -> None:
    for count in (1, 300):
        path = make_shard(tmp_path / str(count), count)
        assert sum(one.is_file() for one in path.rglob("*")) == 2 * (len(SCHEMA) + 2) + 1
        recorded = Shard.open(path).attributes["files"]
        assert recorded == file_sizes(path)
        assert len(recorded) == 2 * (len(SCHEMA) + 2)


def test_bytes_do_not_depend_on_the_order_or_memory_layout_of_the_rows(tmp_path: Path) -> None:
    ids, arrays = make_rows(9)
    order = np.random.default_rng(5).permutation(9)
    shuffled = {name: np.asfortranarray(values[order]) for name, values in arrays.items()}
    shuffled["count"] = shuffled["count"].astype(">i8")
    texts = []
    for name, (some_ids, some) in {"a": (ids, arrays), "b": (ids[order], shuffled)}.items():
        path = tmp_path / name
        path.mkdir()
        write_shard(path, CHAIN, some_ids, some, SCHEMA)
        texts.append({one.relative_to(path): one.read_bytes() for one in path.rglob("*") if one.is_file()})
    assert texts[0] == texts[1]


def test_row_digests_follow_their_definition() -> None:
    _, arrays = make_rows(3)
    found = shards.row_digests(arrays, SCHEMA)
    for row in range(3):
        text = b""
        for name in ("count", "image", "profile"):
            data = arrays[name][row].tobytes()
            text += struct.pack("<Q", len(data)) + data
        assert bytes(found[row]) == hashlib.sha256(text).digest()[:16]


def test_a_shard_gives_back_its_rows_in_any_order(tmp_path: Path) -> None:
    ids, arrays = make_rows(50)
    shard = Shard.open(make_shard(tmp_path, 50))
    order = by_id(ids)
    rows = np.array([49, 0, 3, 3, 17, 18, 19])
    assert [bytes(one) for one in shard.ids] == sorted(bytes(one) for one in ids)
    for name, values in arrays.items():
        assert shard.reader(name).mapped
        np.testing.assert_array_equal(shard.gather(name, rows), values[order][rows])
    shard.verify()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"profile": np.zeros((7, 4), np.float32)}, r"'profile' has shape \(7, 4\), the schema wants \(7, 5\)"),
        ({"profile": np.zeros((7, 5))}, "'profile' has dtype float64, the schema wants float32"),
        ({"other": np.zeros(7)}, "the arrays are .*'other'.*, the schema wants"),
    ],
)
def test_rows_that_are_not_what_the_schema_says_are_refused(tmp_path: Path, change: Any, match: str) -> None:
    ids, arrays = make_rows(7)
    with pytest.raises(ValueError, match=match):
        write_shard(tmp_path, CHAIN, ids, {**arrays, **change}, SCHEMA)


def test_equal_ids_and_reserved_names_are_refused(tmp_path: Path) -> None:
    ids, arrays = make_rows(7)
    with pytest.raises(ValueError, match="7 rows have only 1 distinct ids"):
        write_shard(tmp_path, CHAIN, ids[[0] * 7], arrays, SCHEMA)
    with pytest.raises(ValueError, match="'digest' cannot name a field"):
        write_shard(tmp_path, CHAIN, ids, {"digest": arrays["count"]}, {"digest": Field("int64")})


# Damage


def data_file(path: Path, field: str) -> Path:
    return next(one for one in (path / field / "c").rglob("*") if one.is_file())


def test_a_truncated_or_deleted_file_is_found_when_the_shard_is_opened(tmp_path: Path) -> None:
    path = make_shard(tmp_path)
    file = data_file(path, "profile")
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DamagedShardError, match=rf"profile/c/0/0 has {size - 1} bytes, expected {size}") as caught:
        Shard.open(path)
    assert caught.value.shard == str(path)
    file.unlink()
    with pytest.raises(DamagedShardError, match=f"profile/c/0/0 is missing, expected {size} bytes"):
        Shard.open(path)
    (path / "zarr.json").write_text("{")
    with pytest.raises(DamagedShardError, match=r"zarr\.json cannot be read"):
        Shard.open(path)


@pytest.mark.parametrize("field", ["image", "count", "id", "digest"])
def test_no_flipped_byte_of_a_file_is_read_as_data(tmp_path: Path, field: str) -> None:
    path = make_shard(tmp_path)
    file = data_file(path, field)
    original = file.read_bytes()
    for place in (0, len(original) // 2, len(original) - 30, len(original) - 10, len(original) - 1):
        damaged = bytearray(original)
        damaged[place] ^= 16
        file.write_bytes(damaged)
        with pytest.raises(DamagedShardError, match="is damaged: its crc32c is"):
            Shard.open(path).gather(field, np.array([3]))
        with pytest.raises(DamagedShardError, match="is damaged: its crc32c is"):
            Shard.open(path).verify()


def test_checksums_are_a_choice_and_verify_ignores_it(tmp_path: Path) -> None:
    path = make_shard(tmp_path)
    file = data_file(path, "image")
    damaged = bytearray(file.read_bytes())
    damaged[0] ^= 1
    file.write_bytes(damaged)
    trusting = Shard.open(path, checksums=False)
    assert trusting.gather("image", np.array([0])).shape == (1, 3, 8, 8)
    with pytest.raises(DamagedShardError, match="inner chunk 0 is damaged"):
        trusting.verify()


def test_verify_finds_a_value_that_was_exchanged_together_with_its_checksum(tmp_path: Path) -> None:
    path = make_shard(tmp_path)
    file = data_file(path, "count")
    data = bytearray(file.read_bytes())
    values = 7 * 8
    data[0] ^= 1
    data[values : values + 4] = google_crc32c.value(bytes(data[:values])).to_bytes(4, "little")
    file.write_bytes(data)
    shard = Shard.open(path)
    shard.gather("count", np.arange(7))
    with pytest.raises(DamagedShardError, match=f"1 rows do not have their digest, first {bytes(shard.ids[0]).hex()}"):
        shard.verify()


def test_verify_finds_a_shard_under_another_name(tmp_path: Path) -> None:
    path = make_shard(tmp_path)
    other = path.with_name("0123456789abcdef.zarr")
    path.rename(other)
    with pytest.raises(DamagedShardError, match=f"its ids belong to a shard named {path.stem}"):
        Shard.open(other).verify()


# The reader against plain zarr

DTYPES = ["uint8", "int16", "float16", "float32", "float64", "bool", "int64", "complex64"]


@st.composite
def array_cases(draw: st.DrawFn) -> dict[str, Any]:
    rows = draw(st.integers(1, 23))
    inner = draw(st.integers(1, 8))
    trailing = tuple(draw(st.lists(st.integers(1, 4), max_size=3)))
    wide = draw(st.booleans())  # rows of more than 2 KiB take another way through the reader
    whole = -(-rows // inner) * inner
    return {
        "shape": (rows, *((*trailing, 600) if wide else trailing)),
        "inner": inner,
        "outer": whole + draw(st.sampled_from([0, 0, inner])),
        "split": draw(st.sampled_from([False, False, True])),
        "dtype": draw(st.sampled_from(DTYPES)),
        "codecs": draw(st.sampled_from(["crc32c", "crc32c", "none", "zstd", "big"])),
        "index": draw(st.sampled_from(["end", "start"])),
        "empty": draw(st.booleans()),
        "blank": draw(st.lists(st.integers(0, 22), max_size=10)),
        "wanted": draw(st.lists(st.integers(0, rows - 1), max_size=40)),
        "seed": draw(st.integers(0, 9)),
    }


def write_case(path: Path, case: dict[str, Any]) -> None:
    shape, dtype = case["shape"], np.dtype(case["dtype"])
    codecs: dict[str, list[Any]] = {
        "crc32c": [BytesCodec(), Crc32cCodec()],
        "none": [BytesCodec()],
        "zstd": [BytesCodec(), ZstdCodec(level=1)],
        "big": [BytesCodec(endian="big"), Crc32cCodec()],
    }
    outer = case["inner"] if case["split"] else case["outer"]
    sharding = ShardingCodec(
        chunk_shape=(case["inner"], *shape[1:]), codecs=codecs[case["codecs"]], index_location=case["index"]
    )
    array = zarr.create_array(
        path,
        shape=shape,
        chunks=(outer, *shape[1:]),
        dtype=dtype,
        serializer=sharding,
        compressors=None,
        filters=None,
        fill_value=float("nan") if dtype.kind == "f" else None,
        config={"write_empty_chunks": case["empty"]},
    )
    values = np.random.default_rng(case["seed"]).integers(0, 200, shape).astype(dtype)
    fill = np.array(float("nan") if dtype.kind == "f" else 0).astype(dtype)
    for number in case["blank"]:  # chunks equal to the fill value are left out of the file unless asked for
        values[number * case["inner"] : (number + 1) * case["inner"]] = fill
    array[...] = values


@settings(max_examples=60, deadline=None)
@given(array_cases())
def test_the_reader_equals_plain_zarr_on_every_element(
    tmp_path_factory: pytest.TempPathFactory, case: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("array")
    write_case(path, case)
    expected = zarr.open_array(path, mode="r")[...]
    reader = ArrayReader(path)
    wanted = np.array(case["wanted"], dtype=np.int64)
    for rows in (wanted, np.arange(case["shape"][0])):
        found = reader.rows(rows)
        assert found.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found, expected[rows])
    out = np.zeros((50, *case["shape"][1:]), dtype=reader.dtype)
    places = np.random.default_rng(case["seed"]).permutation(50)[: len(wanted)]
    reader.rows_into(wanted, out, places)
    np.testing.assert_array_equal(out[places], expected[wanted])
    assert not out[np.setdiff1d(np.arange(50), places)].any()


@pytest.mark.parametrize(
    ("codecs", "dtype", "mapped"),
    [("crc32c", "float32", True), ("none", "uint8", True), ("zstd", "uint8", False), ("big", "float32", False)],
)
def test_only_plain_bytes_are_mapped(tmp_path: Path, codecs: str, dtype: str, mapped: bool) -> None:
    case = {"shape": (9, 2), "inner": 4, "outer": 12, "split": False, "dtype": dtype, "codecs": codecs,
            "index": "end", "empty": True, "blank": [], "seed": 0}  # fmt: skip
    write_case(tmp_path, case)
    assert ArrayReader(tmp_path).mapped is mapped


@pytest.mark.parametrize("order", [[3, 1, 2, 0], [3, 2, 1, 0], [1, 0, 3, 2]])
def test_chunks_in_another_order_in_the_file_read_the_same(tmp_path: Path, order: list[int]) -> None:
    case = {"shape": (15, 3), "inner": 4, "outer": 16, "split": False, "dtype": "float32", "codecs": "crc32c",
            "index": "end", "empty": True, "blank": [], "seed": 1}  # fmt: skip
    write_case(tmp_path, case)
    expected = zarr.open_array(tmp_path, mode="r")[...]
    file = tmp_path / "c" / "0" / "0"
    data = file.read_bytes()
    size = 4 * 3 * 4 + 4
    index = np.frombuffer(data[4 * size : -4], "<u8").reshape(4, 2).copy()
    chunks = [data[start : start + size] for start in index[:, 0].tolist()]
    index[order, 0] = np.arange(4) * size + 5  # five bytes of nothing in front
    text = index.tobytes()
    checksum = google_crc32c.value(text).to_bytes(4, "little")
    file.write_bytes(b"....." + b"".join(chunks[k] for k in order) + text + checksum)
    np.testing.assert_array_equal(zarr.open_array(tmp_path, mode="r")[...], expected)
    np.testing.assert_array_equal(ArrayReader(tmp_path).rows(np.arange(15)), expected)


@pytest.mark.parametrize(("dtype", "width"), [("float32", 3), ("uint8", 3), ("float16", 2000)])
def test_a_chunk_that_is_not_in_the_file_reads_as_the_fill_value(tmp_path: Path, dtype: str, width: int) -> None:
    case = {"shape": (10, width), "inner": 4, "outer": 12, "split": False, "dtype": dtype, "codecs": "crc32c",
            "index": "end", "empty": False, "blank": [1], "seed": 1}  # fmt: skip
    write_case(tmp_path, case)
    reader = ArrayReader(tmp_path)
    assert reader.mapped
    assert not reader.complete
    rows = np.array([5, 9, 0, 4])
    out = np.full((6, width), 77, dtype=dtype)
    reader.rows_into(rows, out, np.array([5, 0, 3, 1]))
    expected = zarr.open_array(tmp_path, mode="r")[...]
    np.testing.assert_array_equal(out[[5, 0, 3, 1]], expected[rows])
    fill = np.full((2, width), float("nan") if dtype != "uint8" else 0, dtype=dtype)
    np.testing.assert_array_equal(out[[5, 1]], fill)
    assert (out[[2, 4]] == 77).all()


def test_a_row_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    shard = Shard.open(make_shard(tmp_path))
    for row in (-1, 7):
        with pytest.raises(IndexError, match=r"asked for, 7 there"):
            shard.gather("image", np.array([row]))
    with pytest.raises(KeyError, match="has no field 'pixels'; it has count, image, profile"):
        shard.gather("pixels", np.array([0]))
