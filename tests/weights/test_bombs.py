"""Checkpoints that would fill memory or take hours: refused within seconds, before memory is taken.

All are made at run time.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import (
    MEBIBYTE,
    RECONSTRUCT,
    Calls,
    State,
    dumps,
    meta,
    module_state,
    of_persistence,
    of_tensorflow,
    of_torch,
    persistence_bytes,
    persistence_content,
    refused,
    stand_ins,
    tensorflow_state,
    torch_bytes,
)

from stages.generators.weights import WeightsError
from stages.weights import pickle_machine
from stages.weights.checkpoints import read_bytes


def rebuilt(size: Any, stride: Any, offset: Any = 0) -> Calls:
    storage = torch.zeros(1)._typed_storage()
    return Calls(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, {})  # type: ignore[attr-defined]


def packed(data: bytes) -> bytes:
    """The same archive with deflated members."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return made.getvalue()


def announced(data: bytes, zipped: bool) -> bytes:
    """A torch file of one value that announces 2**30."""
    before, after = (b"K\x01t", b"J\x00\x00\x00\x40t") if zipped else (b"K\x01N", b"J\x00\x00\x00\x40N")
    if not zipped:
        assert data.count(before) == 1
        return data.replace(before, after)
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(made, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("data.pkl"):
                assert content.count(before) == 1
                content = content.replace(before, after)
            target.writestr(name, content)
    return made.getvalue()


def array_without_bytes(shape: Any, kind: Any, content: bytes = b"") -> Calls:
    state = (1, shape, kind, False, content)
    return Calls(np._core.multiarray._reconstruct, np.ndarray, (0,), b"b", state=state)  # type: ignore[attr-defined]


def doubled(levels: int = 60) -> Any:
    value: Any = ["laugh"]
    for _ in range(levels):
        value = [value, value]
    return value


LARGE = np.zeros((512, 512), np.float32)


def turned() -> torch.Tensor:
    """A tensor of a megabyte whose values do not stand in order."""
    return torch.zeros(512, 512).T


def variable(value: Any) -> bytes:
    return of_tensorflow(lambda s: s[2]["variables"].append(("x", value)))


def encoded_often(count: int = 100_000) -> bytes:
    """One text of a mebibyte, made into bytes a hundred thousand times: 100 GB from a file of 1.5 MB."""
    text = b"X" + struct.pack("<I", MEBIBYTE) + b"a" * MEBIBYTE + b"q\x01X\x06\x00\x00\x00latin1\x86q\x02"
    return b"\x80\x02]c_codecs\nencode\nq\x00" + text + b"R0" + b"h\x00h\x02R0" * count + b"."


def copied_often(count: int = 100_000) -> bytes:
    """A list of 10,000 pairs, made into a dictionary again and again."""
    pairs = b"".join(b"M" + struct.pack("<H", k) + b"N\x86" for k in range(10_000))
    return b"\x80\x02]ccollections\nOrderedDict\nq\x00](" + pairs + b"e\x85q\x01R0" + b"h\x00h\x01R0" * count + b"."


def equal_hashes(count: int = 3_000) -> bytes:
    """Integers whose hashes are equal: a dictionary of them takes the square of their number."""
    step = (1 << 61) - 1
    keys = b"".join(b"\x8a\x14" + (k * step).to_bytes(20, "little") + b"N" for k in range(1, count))
    return b"\x80\x02}(" + keys + b"u."


def growing_names() -> bytes:
    """Parts in parts whose joined names would be long without end."""
    name = "n" * (MEBIBYTE // 10)
    state = module_state({f"{name}{k}": torch.zeros(1) for k in range(40)})
    content = persistence_content()
    content["G_ema"]["state"]["_modules"][name] = meta("SynthesisBlock", state)
    return persistence_bytes(content)


def overlapping_members(count: int = 4000) -> bytes:
    """An archive whose members are all the same megabyte."""
    tensors = {str(k): torch.zeros(MEBIBYTE // 4) for k in range(2)}
    data = torch_bytes(tensors)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        root = archive.namelist()[0].partition("/")[0]
        pickled = archive.read(f"{root}/data.pkl")
    del tensors
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as target:
        target.writestr("a/data.pkl", many_storages(pickled, count))
        target.writestr("a/data/0", bytes(MEBIBYTE))
        first = target.getinfo("a/data/0")
        for k in range(1, count):
            twin = zipfile.ZipInfo(f"a/data/{k}")
            twin.CRC, twin.file_size, twin.compress_size = first.CRC, first.file_size, first.compress_size
            twin.header_offset = first.header_offset
            target.filelist.append(twin)
            target.NameToInfo[twin.filename] = twin
        target._didModify = True  # type: ignore[attr-defined]
    return made.getvalue()


def many_storages(pickled: bytes, count: int) -> bytes:
    """The pickle of a dictionary of `count` tensors of a megabyte, each with a storage of its own."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            if isinstance(value, Place):
                return ("storage", torch.FloatStorage, value.key, "cpu", MEBIBYTE // 4)
            return None

    buffer = io.BytesIO()
    tensors = {
        str(k): Calls(torch._utils._rebuild_tensor_v2, Place(str(k)), 0, (1,), (1,), False, {})  # type: ignore[attr-defined]
        for k in range(count)
    }
    Pickler(buffer, 2).dump(tensors)
    return buffer.getvalue()


LIST = list(range(300)) * 30  # 9,000 numbers, most of them of one byte
SHARED = {f"x{k}": "x" for k in range(2000)}


def named_often(value: Any, count: int = 3000) -> dict[str, Any]:
    return {f"x{k}": value for k in range(count)}


def components(count: int = 3000, **shared: Any) -> bytes:
    """A network of many parts whose states hold the same objects."""

    def change(states: list[Any]) -> None:
        parts = {f"c{k}": State(tensorflow_state("a", "b", components={}, **shared)) for k in range(count)}
        states[2].update(components=parts)

    return of_tensorflow(change)


def modules(state: dict[str, Any], count: int = 3000) -> bytes:
    """A network of many parts of one state."""
    with stand_ins(RECONSTRUCT) as (reconstruct,):
        part = dict(meta("SynthesisBlock", state))
        parts = {f"c{k}": Calls(reconstruct, part) for k in range(count)}
        return dumps({"G_ema": Calls(reconstruct, dict(meta("Generator", module_state({}, parts))))})


class Place:
    def __init__(self, key: str) -> None:
        self.key = key


def flooded_directory(count: int = 100_000) -> bytes:
    """An archive of many empty members."""
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 3, 20, 0, *([0] * 14))
    directory = b"".join(entry for _ in range(count))
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count & 0xFFFF, count & 0xFFFF, len(directory), 4, 0)
    return b"PK\x03\x04" + directory + end


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "broadcast tensor": (
        lambda: of_torch(lambda c: c.update(x=rebuilt((1 << 20, 1 << 20), (0, 0))), True),
        r"tensor of shape \(1048576, 1048576\), stride \(0, 0\), offset 0 on 1 values",
    ),
    "broadcast tensor, older file": (
        lambda: of_torch(lambda c: c.update(x=rebuilt((1 << 20, 1 << 20), (0, 0))), False),
        r"tensor of shape \(1048576, 1048576\)",
    ),
    "broadcast tensor, nested": (
        lambda: of_persistence(lambda c: c.update(x=rebuilt((1 << 20, 1 << 20), (0, 0)))),
        r"tensor of shape \(1048576, 1048576\)",
    ),
    "tensor behind its storage": (
        lambda: of_torch(lambda c: c.update(x=rebuilt((1,), (1,), 1)), True),
        "offset 1 on 1",
    ),
    "negative stride": (lambda: of_torch(lambda c: c.update(x=rebuilt((1,), (-1,))), True), "expected integers >= 0"),
    "endless shape": (lambda: of_torch(lambda c: c.update(x=rebuilt(doubled(), (1,))), True), r"offset \(a list\)"),
    "no values of endless shape": (
        lambda: of_torch(lambda c: c.update(x=rebuilt((0, 1 << 40, 1 << 40), (0, 0, 0))), True),
        "which no computer can hold",
    ),
    "array without bytes": (
        lambda: variable(array_without_bytes((10**12,), np.dtype("f4"))),
        "needs 4000000000000 bytes and has 0",
    ),
    "array of too few bytes": (
        lambda: variable(array_without_bytes((10**6,), np.dtype("f4"), b"1234")),
        "needs 4000000 bytes and has 4",
    ),
    "array of objects": (lambda: variable(array_without_bytes((1,), np.dtype("O"))), "array of dtype 'O8'"),
    "array of records": (
        lambda: variable(array_without_bytes((1,), np.dtype([("a", "f4")]))),
        "array of dtype 'V4'",
    ),
    "array of text": (lambda: variable(array_without_bytes((1,), np.dtype("U9"))), "array of dtype 'U9'"),
    "packed zeros": (
        lambda: packed(torch_bytes({"a": torch.zeros(8 * MEBIBYTE)})),
        "packed more than 200 times",
    ),
    "packed zeros, nested": (
        lambda: of_persistence(
            lambda c: c.update(
                x=Calls(torch.storage._load_from_bytes, packed(torch_bytes(torch.zeros(8 * MEBIBYTE))))  # type: ignore
            )
        ),
        "packed more than 200 times",
    ),
    "announced storage": (
        lambda: announced(torch_bytes({"a": torch.zeros(1)}), True),
        "storage of 1073741824 values has 4 bytes",
    ),
    "announced storage, older file": (
        lambda: announced(torch_bytes({"a": torch.zeros(1)}, False), False),
        "storage of 1073741824 values is larger than the file around it",
    ),
    "long bytes": (lambda: b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.", "wants 1099511627776 bytes"),
    "long text": (lambda: b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"x.", "wants 4611686018427387904 bytes"),
    "long integer": (lambda: b"\x80\x04\x8b" + struct.pack("<i", 1 << 30) + b"x.", "integer of 1073741824 bytes"),
    "long frame": (
        lambda: b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b".",
        "a frame of 1099511627776 bytes and ends after 1 of them; it is damaged or cut off, download",
    ),
    "long buffer": (lambda: b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.", "wants 1099511627776 bytes"),
    "long decimal": (lambda: b"\x80\x02I" + b"9" * 900 + b"\n.", "where an integer belongs"),
    "memo of four billion": (lambda: b"\x80\x02Nr\xff\xff\xff\xffh\x00.", "recalls object 0"),
    "doubled list in settings": (
        lambda: of_tensorflow(lambda s: s[2]["static_kwargs"].update(x=doubled())),
        "nested too deeply or are too many",
    ),
    "large array in settings, often": (
        lambda: of_tensorflow(lambda s: s[2]["static_kwargs"].update(x=[np.arange(9000)] * 9000)),
        "nested too deeply or are too many",
    ),
    "doubled list as a version": (lambda: of_tensorflow(lambda s: s[2].update(version=doubled())), "version a list"),
    "doubled list of modules": (
        lambda: of_persistence(lambda c: c.update(training_set_kwargs=doubled())),
        "nested too deeply or are too many",
    ),
    "doubled list in an archive": (lambda: of_torch(lambda c: c.update(x=doubled()), True), "nested too deeply"),
    "doubled list alone": (lambda: dumps(doubled()), "pickle of a list without a network"),
    "wide list": (lambda: dumps({"G": [[1] * 1000] * 1000}), "pickle of a dict without a network"),
    "a million sets": (lambda: b"\x80\x04" + b"\x8f" * 1_000_000 + b".", "more than 67108864 bytes of memory"),
    "text encoded often": (encoded_often, "more than 67108864 bytes of memory"),
    "list copied often": (copied_often, "more than 67108864 bytes of memory"),
    "endless layers": (
        lambda: of_tensorflow(lambda s: s[2]["static_kwargs"].update(mapping_layers=10**6)),
        "its setting 'mapping_layers' is 1000000",
    ),
    "endless power": (
        lambda: of_tensorflow(lambda s: s[2]["static_kwargs"].update(fmap_decay=10**9)),
        "its setting 'fmap_decay' is 1000000000",
    ),
    "equal hashes": (equal_hashes, "an integer of more than 64 bits as a key"),
    "growing names": (growing_names, "at most 200 characters"),
    "overlapping members": (overlapping_members, "members that lie over each other"),
    "tensor of many names": (
        lambda: of_torch(lambda c: c["generator"].update(dict.fromkeys(map(str, range(1000)), turned())), False),
        "more than 67108864 bytes of memory",
    ),
    "array of many names": (
        lambda: of_tensorflow(lambda s: s[2].update(variables=[(f"x{k}", LARGE) for k in range(1000)])),
        "more than 67108864 bytes of memory",
    ),
    "array of many names, protocol 5": (
        lambda: of_tensorflow(lambda s: s[2].update(variables=[(f"x{k}", LARGE) for k in range(1000)]), 5),
        "more than 67108864 bytes of memory",
    ),
    "array without values": (
        lambda: of_tensorflow(lambda s: s[2]["static_kwargs"].update(x=np.zeros((1 << 22, 0)))),
        "nested too deeply or are too many",
    ),
    "list of many names": (lambda: of_torch(lambda c: c.update(named_often(LIST, 50)), True), "are too many"),
    "list of many names, older file": (lambda: of_torch(lambda c: c.update(named_often(LIST)), False), "are too many"),
    "list of many names, modules": (lambda: of_persistence(lambda c: c.update(named_often(LIST))), "are too many"),
    "setting of many parts": (lambda: components(static_kwargs={"x": LIST}), "are too many"),
    "variables of many parts": (
        lambda: components(variables=[(name, 0.5) for name in SHARED]),
        "more than 67108864 bytes of memory",
    ),
    "attributes of many parts": (
        lambda: modules(module_state({}) | SHARED),
        "more than 67108864 bytes of memory",
    ),
    "unread attributes of many parts": (
        lambda: modules(module_state({}) | dict.fromkeys(SHARED, ())),
        "more than 67108864 bytes of memory",
    ),
    "no tensors of many parts": (
        lambda: modules(module_state(dict.fromkeys(SHARED))),
        "more than 67108864 bytes of memory",
    ),
    "empty tensors of many names": (
        lambda: of_torch(lambda c: c.update(named_often({name: torch.zeros(0) for name in SHARED})), True),
        "more than 67108864 bytes of memory",
    ),
    "dictionary that is no state, of many names": (
        lambda: of_torch(lambda c: c.update(named_often({**dict.fromkeys(SHARED, torch.zeros(0)), "x": LIST})), False),
        "more than 67108864 bytes of memory",
    ),
    "flooded directory": (flooded_directory, "more than 67108864 bytes of memory"),
}


MILLIONS = (
    "unread attributes of many parts", "attributes of many parts", "no tensors of many parts", "setting of many parts",
    "empty tensors of many names", "list of many names, modules", "list of many names, older file", "list copied often",
)  # fmt: skip
"""Seconds each, and like others in all that counts."""

SLOW = ("a million sets", "variables of many parts")
"""Seconds each until 64 MiB are spent."""


@pytest.mark.parametrize(
    "bomb", [pytest.param(bomb, marks=pytest.mark.stress if bomb in MILLIONS else ()) for bomb in BOMBS]
)
def test_a_bomb_is_refused_before_memory_or_time_is_taken(bomb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, sentence = BOMBS[bomb]
    if bomb in SLOW:
        monkeypatch.setattr(pickle_machine, "SMALLEST_BUDGET", 4 * MEBIBYTE)
        sentence = sentence.replace("67108864", "4194304")
    refused(make(), sentence)


def test_opcodes_are_counted_over_nested_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_machine, "OPCODE_LIMIT", 200)
    data = persistence_bytes(persistence_content())
    with pytest.raises(WeightsError, match="more than 200 pickle opcodes"):
        read_bytes(data)
