"""The direct writer against zarr-python: the same files, byte for byte."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec

from pipeline.stage import Field
from pipeline.storage import shard_writer
from pipeline.storage.shard_reader import CORE_TYPES
from pipeline.storage.shards import nothing

DTYPES = tuple(sorted(CORE_TYPES))


def by_zarr(place: Path, values: np.ndarray[Any, Any], inner: int, units: str) -> None:
    """The same array through zarr-python's own codecs, in one write."""
    array = zarr.create_array(
        place,
        shape=values.shape,
        chunks=(-(-len(values) // inner) * inner, *values.shape[1:]),
        dtype=values.dtype,
        serializer=ShardingCodec(chunk_shape=(inner, *values.shape[1:]), codecs=[BytesCodec(), Crc32cCodec()]),
        compressors=None,
        filters=None,
        fill_value=float("nan") if values.dtype.kind == "f" else None,
        attributes={"units": units} if units else {},
        config={"write_empty_chunks": True},
    )
    array[...] = values


def files(place: Path) -> dict[str, bytes]:
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()}


@given(
    dtype=st.sampled_from(DTYPES),
    rows=st.integers(1, 23),
    inner=st.integers(1, 9),
    shape=st.lists(st.integers(1, 4), max_size=3).map(tuple),
    seed=st.integers(0, 2**32 - 1),
    zeros=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_files_equal_those_of_zarr_python(
    dtype: str, rows: int, inner: int, shape: tuple[int, ...], seed: int, zeros: bool
) -> None:
    inner = min(inner, rows)
    values = np.random.default_rng(seed).integers(0, 2 if dtype == "bool" else 100, (rows, *shape)).astype(dtype)
    values = np.zeros_like(values) if zeros else values
    with tempfile.TemporaryDirectory() as folder:
        field = Field(dtype, shape, "lg µ")
        shard_writer.write_array(Path(folder), "ours", values, field, inner, nothing)
        by_zarr(Path(folder) / "zarr", values, inner, "lg µ")
        expected = files(Path(folder) / "zarr")
        assert files(Path(folder) / "ours") == expected
        sizes = shard_writer.array_files("ours", field, rows, inner)
        assert sizes == {f"ours/{name}": len(data) for name, data in expected.items()}
        np.testing.assert_array_equal(zarr.open_array(Path(folder) / "ours", mode="r")[...], values)


def test_a_kill_in_the_middle_leaves_half_a_file(tmp_path: Path) -> None:
    values = np.arange(64, dtype=np.float32)

    def kill(point: str) -> None:
        if point == "half of x":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shard_writer.write_array(tmp_path, "x", values, Field("float32"), 8, kill)
    assert 0 < (tmp_path / "x" / "c" / "0").stat().st_size < values.nbytes
