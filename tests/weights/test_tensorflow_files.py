"""Frozen graphs and checkpoints of TensorFlow are read as data, within a budget; damaged and hostile ones refused."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_files import little_memory
from tensorflow_files import (
    HEADER,
    block,
    checkpoint,
    entry,
    graph,
    listed,
    node,
    number,
    piece,
    shape,
    table,
    tensor,
    varint,
)

from stages.images.readers import crc32c
from stages.weights import tensorflow_checkpoint
from stages.weights.checkpoints import read_bytes, read_contents
from stages.weights.pickle_machine import Budget
from stages.weights.tensorflow_graph import begins_like_graph, read_constants
from stages.weights.weights_file import WeightsError

A = np.arange(6, dtype=np.float32).reshape(2, 3)
Array = np.ndarray[Any, Any]


def constants(*nodes: bytes) -> dict[str, Array]:
    data = b"".join(nodes)
    return read_constants(memoryview(data), Budget(len(data)))


# Graphs


def test_constants_of_floating_point_numbers_are_taken_by_name_and_nothing_else() -> None:
    wide, halves = A.astype(np.float64), A.astype(np.float16)
    data = graph({"a/W": A, "b": np.array(2.5, np.float32), "wide": wide, "half": halves})
    assert begins_like_graph(data[:100])
    contents = read_bytes(data)
    assert (contents.container, contents.version, list(contents.networks)) == ("tensorflow graph", None, [""])
    found = contents.networks[""].tensors
    assert list(found) == ["a/W", "b", "wide", "half"]
    for name, wanted in (("a/W", A), ("b", np.float32(2.5)), ("wide", wide), ("half", halves)):
        assert found[name].dtype == wanted.dtype
        assert np.array_equal(found[name], wanted)


LISTED: dict[str, tuple[bytes, Any]] = {
    "packed": (listed(1, (2, 3), piece(5, A.tobytes())), A),
    "one by one": (listed(1, (2, 2), b"".join(varint(5 << 3 | 5) + struct.pack("<f", n) for n in range(4))),
                   [[0, 1], [2, 3]]),
    "the last one repeated": (listed(1, (2, 2), piece(5, struct.pack("<ff", 7, 9))), [[7, 9], [9, 9]]),
    "one for all": (listed(1, (3,), varint(5 << 3 | 5) + struct.pack("<f", 4)), [4, 4, 4]),
    "double precision": (listed(2, (2,), piece(6, struct.pack("<dd", 0.1, 0.2))), [0.1, 0.2]),
    "half precision": (listed(19, (2,), number(13, 0x3C00) + piece(13, varint(0x4000))), [1, 2]),
    "nothing in no shape": (listed(1, (0, 3), b""), np.zeros((0, 3))),
    "a scalar": (listed(1, (), piece(5, struct.pack("<f", 3))), 3),
}  # fmt: skip


@pytest.mark.parametrize("form", LISTED)
def test_values_may_be_listed(form: str) -> None:
    value, wanted = LISTED[form]
    found = constants(node("x", value=value))["x"]
    assert np.array_equal(found, np.asarray(wanted, found.dtype))


def x(value: bytes, name: str = "x") -> bytes:
    """A constant."""
    return node(name, value=value)


BOMB = listed(1, (1 << 22,), piece(5, b"\0\0\0\0"))
GRAPHS: dict[str, tuple[bytes, str]] = {
    "content too short": (x(tensor(A, (2, 4))), r"'x' of shape \(2, 4\) needs 32 bytes and has 24"),
    "more values than the shape": (x(listed(1, (2,), piece(5, A.tobytes()))), "needs 2 values and has 6"),
    "no values": (x(listed(1, (2,), b"")), "needs 2 values and has 0"),
    "a bomb of one value": (x(listed(1, (1 << 20, 1 << 20), piece(5, b"\0\0\0\0"))), "of memory"),
    "a bomb of many": (x(tensor(A)) + b"".join(x(BOMB, f"x{n}") for n in range(5)), "of memory"),
    "a negative side": (x(tensor(A, (-2, -3))), r"shape \(-2, -3\)"),
    "many axes": (x(tensor(A, (1,) * 50)), "expected at most 8 sides"),
    "an unknown shape": (x(number(1, 1) + piece(2, number(3, 1)) + piece(4, b"")), "of unknown shape"),
    "two of a name": (x(tensor(A)) * 2, "two constants of the name 'x'"),
    "a long name": (x(tensor(A), "n" * 201), "more than 200 characters"),
    "no constants": (node("x", "Placeholder") + node("y", "MatMul"), "without constants; take the frozen graph"),
    "cut off": (graph({"x": A})[:-9], "damaged TensorFlow graph, download it again: a field reaches beyond"),
    "half of a number": (x(listed(1, (2,), piece(5, b"12345"))), "whole numbers of bytes"),
    "half precision of 32 bits": (x(listed(19, (1,), number(13, 1 << 20))), "more than 16 bits"),
    "no end of a number": (node("x") + b"\x0a" + b"\xff" * 12, "a number in it does not end"),
    "groups": (x(tensor(A)) + b"\x0b", "wire type 3"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_hostile_graph_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    data, said = GRAPHS[name]
    path = tmp_path / "graph.pb"
    path.write_bytes(data)
    with little_memory(path.stat().st_size), pytest.raises(WeightsError, match=said) as caught:
        read_contents(path)
    assert re.fullmatch(rf"{re.escape(str(path))} is refused: [^\n]+", str(caught.value))


def test_texts_that_begin_with_an_empty_line_are_no_graphs(tmp_path: Path) -> None:
    for content, said in (
        (b"\n\n\n<html>", "web page"),
        (b"\nabc", "is no checkpoint: it begins with"),
        (b"\n", "no checkp"),
    ):
        (tmp_path / "x.pb").write_bytes(content)
        with pytest.raises(WeightsError, match=said):
            read_contents(tmp_path / "x.pb")


# Checkpoints


def test_tensors_of_a_checkpoint_are_read_through_its_index(tmp_path: Path) -> None:
    tensors = {f"model/{n}/W": A * n for n in range(7)} | {
        "model/1": A.astype(np.float64),
        "step": np.array(3, np.int64),
    }
    contents = read_contents(checkpoint(tmp_path, tensors))
    assert (contents.container, contents.version) == ("tensorflow checkpoint", 2)
    found = contents.networks[""].tensors
    assert list(found) == sorted(set(tensors) - {"step"})
    assert all(
        np.array_equal(array, tensors[name]) and array.dtype == tensors[name].dtype for name, array in found.items()
    )


def test_data_may_lie_in_several_files(tmp_path: Path) -> None:
    for shard, array in enumerate((A, A + 1)):
        (tmp_path / f"m.data-{shard:05d}-of-00002").write_bytes(b"1234" + array.tobytes())
    entries = [(b"", number(1, 2)), (b"a", entry(A, 0, 4)), (b"b", entry(A + 1, 1, 4))]
    (tmp_path / "m.index").write_bytes(table(entries, per_block=1))
    found = tensorflow_checkpoint.read_tensors(tmp_path / "m.index")
    assert np.array_equal(found["b"], A + 1)
    (tmp_path / "m.data-00001-of-00002").unlink()
    with pytest.raises(
        WeightsError, match=r"its data 'm.data-00001-of-00002' are missing; put the file beside the index"
    ):
        read_contents(tmp_path / "m.index")


ONE = {"a": A, "b": A}
CHANGED: dict[str, tuple[dict[str, Any], str]] = {
    "a wrong checksum": ({"crc": 5}, "the checksum of its tensor 'a' is wrong; download the files again"),
    "another size": ({"size": 20}, r"tensor 'a' of shape \(2, 3\) needs 24 bytes and has 20"),
    "behind the end": (
        {"offset": 40},
        "ends at byte 64 of model.ckpt.data-00000-of-00001, which has 48; it is cut off",
    ),
    "before the beginning": ({"offset": -8}, "ends at byte 16"),
    "a file that is not there": ({"more": number(3, 7)}, "lies in file 7 of 1"),
    "slices": ({"more": piece(7, b"")}, "is stored in slices, which are not read; save it whole"),
    "a bomb": ({"sides": (1 << 30, 1 << 20), "size": 1 << 52}, "is cut off"),
    "a negative side": ({"sides": (-2, -3)}, r"shape \(-2, -3\)"),
    "big endian": ({"header": number(1, 1) + number(2, 1)}, "big endian"),
    "no files": ({"header": number(1, 0)}, "names 0 files of data; expected 1 to"),
    "a million files": ({"header": number(1, 10**6)}, "names 1000000 files"),
    "the older format": ({"header": piece(1, b"")}, "checkpoint of format 1; save it again in format 2"),
    "packed": ({"kind": 1}, r"is packed \(snappy\), which is not read; save it plain"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_hostile_checkpoint_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    change, said = CHANGED[name]
    path = checkpoint(tmp_path, ONE, **change)
    with little_memory(path.stat().st_size), pytest.raises(WeightsError, match=said) as caught:
        read_contents(path)
    assert re.fullmatch(rf"{re.escape(str(path))} is refused: [^\n]+", str(caught.value))


def broken(change: Callable[[bytearray], Any]) -> Callable[[bytes], bytes]:
    def made(data: bytes) -> bytes:
        found = bytearray(data)
        change(found)
        return bytes(found)

    return made


INDICES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a bit of a block": (broken(lambda d: d.__setitem__(6, d[6] ^ 4)), "the checksum of a block of its index is wrong"),
    "a block beyond the file": (
        lambda d: d[:-48] + b"".join(map(varint, (0, 1, 1 << 40, 9))).ljust(40, b"\0") + d[-8:], "reaches from"),
    "no end of a number": (lambda d: d[:-48] + b"\xff" * 40 + d[-8:], "a number in it does not end"),
    "names out of order": (
        lambda d: table([(b"", HEADER), (b"b", entry(A, 0, 0)), (b"a", entry(A, 0, 0))], per_block=1), "out of order"),
    "a name twice": (
        lambda d: table([(b"", HEADER), (b"a", entry(A, 0, 0)), (b"a", entry(A, 0, 0))], per_block=1), "out of order"),
    "no header": (lambda d: table([(b"a", entry(A, 0, 0))]), "has no header"),
    "nothing": (lambda d: table([]), "has no header"),
    "a long name": (lambda d: table([(b"", HEADER), (b"n" * 300, entry(A, 0, 0))]), "a name of 300 bytes"),
    "an entry that is no message": (lambda d: table([(b"", HEADER), (b"a", b"\x0b")]), "is damaged, .*wire type 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", INDICES)
def test_a_damaged_index_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    change, said = INDICES[name]
    path = checkpoint(tmp_path, ONE)
    path.write_bytes(change(path.read_bytes()))
    with little_memory(path.stat().st_size), pytest.raises(WeightsError, match=said) as caught:
        read_contents(path)
    assert re.fullmatch(rf"{re.escape(str(path))} is refused: [^\n]+", str(caught.value))


def test_an_entry_may_share_no_more_than_the_name_before_it_has(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, ONE)
    made = block([(b"", HEADER)])
    body = made[:-13] + varint(9) + varint(1) + varint(0) + b"x" + struct.pack("<II", 0, 1) + b"\0"
    made = body + struct.pack("<I", crc32c.masked(crc32c.slow_crc32c(body)))
    whole = made + block([(b"x", varint(0) + varint(len(made) - 5))])
    footer = varint(0) + varint(4) + varint(len(made)) + varint(len(whole) - len(made) - 5)
    path.write_bytes(whole + footer.ljust(40, b"\0") + path.read_bytes()[-8:])
    with pytest.raises(WeightsError, match="an entry reaches beyond its block"):
        read_contents(path)


def test_the_data_beside_an_index_is_no_checkpoint_of_its_own(tmp_path: Path) -> None:
    checkpoint(tmp_path, ONE)
    said = r"is the data of a TensorFlow checkpoint; give the file model\.ckpt\.index beside it"
    with pytest.raises(WeightsError, match=said):
        read_contents(tmp_path / "model.ckpt.data-00000-of-00001")


def test_checksums_of_much_data_are_those_of_byte_by_byte() -> None:
    data = np.random.RandomState(0).bytes(3001)
    for size in (1, 2, 3, 64, 65, 1000, 3001):
        assert crc32c.long_crc32c(data[:size]) == crc32c.slow_crc32c(data[:size])
    assert crc32c.long_crc32c(b"123456789") == 0xE3069283  # RFC 3720's check value
    assert shape((2,)) == b"\x12\x02\x08\x02"  # of the writer: dimension 2, of size 2
