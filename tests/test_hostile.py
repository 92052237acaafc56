"""Checkpoints that attack: code that wants to run, files in files, bombs of memory and time. All are made at run time.

Each is refused with one sentence, nothing of it runs, and little memory is taken before it is refused.
"""

from __future__ import annotations

import argparse
import io
import pickle
import struct
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import (
    MEBIBYTE,
    SHELLS,
    Calls,
    State,
    dumps,
    meta,
    module_state,
    persistence_bytes,
    persistence_content,
    progan_bytes,
    progan_states,
    stand_ins,
    state_dict,
    tensorflow_bytes,
    torch_bytes,
    write,
)
from stress.fuzz_checkpoints import Fuzzer, golden_files

from pipeline import cli
from stages.generators import official, pickle_machine
from stages.generators.checkpoints import read_bytes, read_contents
from stages.generators.weights import WeightsError

SOURCE = "open('marker', 'w').close()\nclass Generator: pass\ndef G_paper(): return 'embedded-source'"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder, in which no test leaves the marker that hostile files write."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not (tmp_path / "marker").exists()


@contextmanager
def little_memory(file_bytes: int = 0) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 64 * MEBIBYTE + file_bytes
    finally:
        tracemalloc.stop()


def refused(data: bytes, sentence: str) -> None:
    """Within seconds of work, with little memory and in one line."""
    begun = time.process_time()
    with little_memory(), pytest.raises(WeightsError, match=sentence) as caught:
        read_bytes(data)
    assert time.process_time() - begun < 10
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


# Code that wants to run


def of_tensorflow(change: Callable[[list[Any]], Any], protocol: int = 4) -> bytes:
    states: list[Any] = [State(state) for state in progan_states()]
    change(states)
    return tensorflow_bytes(tuple(states), protocol)


def of_persistence(change: Callable[[dict[str, Any]], Any], protocol: int = 4) -> bytes:
    content = persistence_content()
    change(content)
    return persistence_bytes(content, protocol)


def of_torch(change: Callable[[dict[Any, Any]], Any], zipped: bool) -> bytes:
    content: dict[Any, Any] = {"generator": state_dict("a", "b"), "args": argparse.Namespace(size=4)}
    change(content)
    return torch_bytes(content, zipped)


def in_settings(name: str, index: int = 2) -> Callable[[Any], Callable[[list[Any]], Any]]:
    return lambda evil: lambda states: states[index].update({name: evil})


def nested(value: Any, zipped: bool) -> Calls:
    return Calls(torch.storage._load_from_bytes, torch_bytes({"a": value}, zipped))  # type: ignore[attr-defined]


PLACES: dict[str, Callable[[Any], bytes]] = {
    "G": lambda evil: of_tensorflow(lambda s: s.__setitem__(0, evil)),
    "D": lambda evil: of_tensorflow(lambda s: s.__setitem__(1, evil), 3),
    "Gs": lambda evil: of_tensorflow(lambda s: s.__setitem__(2, evil), 2),
    "setting": lambda evil: of_tensorflow(lambda s: s[2]["static_kwargs"].update(resolution=evil)),
    "setting name": lambda evil: of_tensorflow(lambda s: s[2]["static_kwargs"].update({evil: 1})),
    "variable": lambda evil: of_tensorflow(lambda s: s[1]["variables"].append(("x", evil)), 5),
    "variable name": lambda evil: of_tensorflow(lambda s: s[1]["variables"].append((evil, np.zeros(1)))),
    "component": lambda evil: of_tensorflow(lambda s: s[2].update(components={"synthesis": evil})),
    "embedded source": lambda evil: of_tensorflow(lambda s: s[0].update(build_module_src=evil)),
    "G of modules": lambda evil: of_persistence(lambda c: c.update(G=evil)),
    "G_ema of modules": lambda evil: of_persistence(lambda c: c.update(G_ema=evil), 2),
    "augmentation": lambda evil: of_persistence(lambda c: c.update(augment_pipe=evil), 3),
    "training settings": lambda evil: of_persistence(lambda c: c.update(training_set_kwargs={"x": evil})),
    "top name": lambda evil: of_persistence(lambda c: c.update({evil: 1})),
    "attribute": lambda evil: of_persistence(lambda c: c["G"]["state"].update(x=evil)),
    "tensor of modules": lambda evil: of_persistence(lambda c: c["G"]["state"]["_buffers"].update(x=evil)),
    "source of modules": lambda evil: of_persistence(lambda c: c["D"].update(module_src=evil)),
    "nested archive": lambda evil: of_persistence(lambda c: c["G"]["state"]["_buffers"].update(x=nested(evil, True))),
    "nested older file": lambda evil: of_persistence(
        lambda c: c["G"]["state"]["_buffers"].update(x=nested(evil, False))
    ),
    "archive, tensor": lambda evil: of_torch(lambda c: c["generator"].update(x=evil), True),
    "archive, tensor name": lambda evil: of_torch(lambda c: c["generator"].update({evil: torch.ones(1)}), True),
    "archive, entry": lambda evil: of_torch(lambda c: c.update(x=evil), True),
    "archive, record": lambda evil: of_torch(lambda c: c.update(args=argparse.Namespace(x=evil)), True),
    "older file, tensor": lambda evil: of_torch(lambda c: c["generator"].update(x=evil), False),
    "older file, name": lambda evil: of_torch(lambda c: c.update({evil: 1}), False),
}


SHELL = next(iter(SHELLS))


@pytest.mark.parametrize(
    ("symbol", "place"),
    [(SHELL, place) for place in PLACES]
    + [
        (symbol, place)
        for symbol in SHELLS
        for place in ("Gs", "setting name", "nested older file", "archive, tensor")
        if symbol != SHELL
    ],
)
def test_a_call_is_refused_by_its_name_wherever_it_stands(symbol: str, place: str) -> None:
    function, arguments = SHELLS[symbol]
    data = PLACES[place](Calls(function, *arguments))
    refused(data, rf"asks for '\w+(\.\w+)*\.{function.__qualname__}', .*; nothing was run")  # old protocols rename


@pytest.mark.parametrize("module", ["os", "nt", "posix"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_the_shell_of_any_system_is_refused(module: str, protocol: int) -> None:
    with stand_ins(("posix" if module == "os" else module, "system")) as (system,):
        data = dumps((1, 2, Calls(system, "touch marker")), protocol)
    if module == "os":
        data = b"\x80\x02cos\nsystem\nX\x0c\x00\x00\x00touch marker\x85R."
    refused(data, rf"asks for '{module}\.system'")


DOTTED = [
    (b"\x8c\x05numpy\x8c\x0ecore.os.system\x93", "numpy.core.os.system"),
    (b"\x8c\x0bcollections\x8c\x0cabc.sys.exit\x93", "collections.abc.sys.exit"),
    (b"\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93", "collections.OrderedDict.fromkeys"),
    (b"\x8c\x00\x8c\x17collections.OrderedDict\x93", ".collections.OrderedDict"),
    (b"\x8c\x17collections.OrderedDict\x8c\x08__init__\x93", "collections.OrderedDict.__init__"),
    (b"cnumpy.core\nmultiarray.scalar\n", "numpy.core.multiarray.scalar"),
    (b"cnumpy\nndarray.tofile\n", "numpy.ndarray.tofile"),
]


@pytest.mark.parametrize(("text", "name"), DOTTED)
def test_only_exact_pairs_of_module_and_name_are_known(text: bytes, name: str) -> None:
    refused(b"\x80\x04" + text + b"\x8c\x0ctouch marker\x85R.", f"asks for '{name}'")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"\x80\x02\x82\x01.", "opcode 0x82"),  # EXT1, EXT2, EXT4
        (b"\x80\x02\x83\x01\x00.", "opcode 0x83"),
        (b"\x80\x02\x84\x01\x00\x00\x00.", "opcode 0x84"),
        (b"\x80\x02(X\x02\x00\x00\x00lsios\nsystem\n.", "opcode 0x69"),  # INST
        (b"\x80\x02(cos\nsystem\no.", "asks for 'os.system'"),  # OBJ
        (b"\x80\x04(ccollections\nOrderedDict\no.", "opcode 0x6f"),
        (b"\x80\x04ctfutil\nNetwork\n)}\x92.", "opcode 0x92"),  # NEWOBJ_EX
        (b"\x80\x02Pkey\n.", "opcode 0x50"),
        (b"\x80\x02X\x01\x00\x00\x00kQ.", "a persistent id"),
        (b"\x80\x02(X\x07\x00\x00\x00storageNNNNtQ.", "a persistent id"),
    ],
)
def test_opcodes_that_make_classes_or_reach_out_are_refused(text: bytes, sentence: str) -> None:
    refused(text, sentence)


def kept(path: Path) -> str:
    """Everything that comes out of a file: what is read, what the command prints, what a conversion writes."""
    said = io.StringIO()
    contents = read_contents(path)
    converted = path.with_suffix(".safetensors")
    texts = [repr(contents)]
    texts += [repr([network.attributes for network in contents.networks.values()])]
    for arguments in ([], ["--json"], ["--to", "safetensors", "--out", str(converted)]):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["touchstone", "checkpoint", str(path), *arguments])
            patch.setattr(sys, "stdout", said)
            patch.setattr(sys, "stderr", said)
            with pytest.raises(SystemExit):
                cli.main()
    return "".join(texts) + said.getvalue() + (converted.read_bytes().decode("latin-1") if converted.exists() else "")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_embedded_source_of_a_tensorflow_file_is_neither_run_nor_kept(folder: Path, protocol: int) -> None:
    path = write(folder / "g.pkl", progan_bytes(protocol, SOURCE))
    everything = kept(path)
    assert (folder / "g.safetensors").exists()
    assert "progan" in everything
    assert "embedded-source" not in everything
    assert "marker" not in everything


def test_embedded_source_of_modules_is_neither_run_nor_kept(folder: Path) -> None:
    path = write(folder / "g.pkl", persistence_bytes(persistence_content(SOURCE)))
    everything = kept(path)
    assert "weight" in everything
    assert "embedded-source" not in everything
    assert "marker" not in everything


def test_a_function_or_class_that_only_the_source_defines_is_refused(folder: Path) -> None:
    states = [State({**state, "build_func_name": "G_mine"}) for state in progan_states(source=SOURCE)]
    path = write(folder / "g.pkl", tensorflow_bytes(tuple(states)))
    with pytest.raises(WeightsError, match=r"no known family .* with classes G_mine"):
        official.open_checkpoint(path)
    content = persistence_content(SOURCE)
    content["G_ema"]["class_name"] = "MyGenerator"
    refused(persistence_bytes(content), "class 'MyGenerator', which is not one of StyleGAN2")


# Files in files


@pytest.mark.parametrize("zipped", [True, False])
def test_a_nested_torch_file_may_not_hold_another_one(zipped: bool) -> None:
    inner = Calls(torch.storage._load_from_bytes, torch_bytes({"a": 1}, zipped))  # type: ignore[attr-defined]
    data = of_persistence(lambda c: c["G"]["state"]["_buffers"].update(x=nested(inner, zipped)))
    refused(data, r"asks for 'torch.storage._load_from_bytes'")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_torch_file_may_not_hold_nested_files_at_all(zipped: bool) -> None:
    refused(of_torch(lambda c: c.update(x=nested(1, zipped)), zipped), "asks for 'torch.storage._load_from_bytes'")


# Bombs


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


def equal_hashes(count: int = 30_000) -> bytes:
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
    "long frame": (lambda: b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b".", "a frame of 1099511627776 bytes"),
    "long buffer": (lambda: b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.", "wants 1099511627776 bytes"),
    "long decimal": (lambda: b"\x80\x02I" + b"9" * 900 + b"\n.", "where an integer belongs"),
    "memo of four billion": (lambda: b"\x80\x02Nr\xff\xff\xff\xffh\x00.", "recalls object 0"),
    "doubled list in settings": (
        lambda: of_tensorflow(lambda s: s[2]["static_kwargs"].update(x=doubled())),
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
    "flooded directory": (flooded_directory, "more than 67108864 bytes of memory"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_before_memory_or_time_is_taken(bomb: str) -> None:
    make, sentence = BOMBS[bomb]
    refused(make(), sentence)


def test_opcodes_are_counted_over_nested_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_machine, "OPCODE_LIMIT", 200)
    data = persistence_bytes(persistence_content())
    with pytest.raises(WeightsError, match="more than 200 pickle opcodes"):
        read_bytes(data)


# Numbers and names


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_reported_by_name(folder: Path, value: float) -> None:
    states = progan_states()
    name, array = states[2]["variables"][3]
    array[0, 0, 0, 0] = value
    path = write(folder / "g.pkl", tensorflow_bytes(tuple(State(state) for state in states)))
    with pytest.raises(WeightsError, match=r"g.pkl is refused: .*1 values that are not finite"):
        official.open_checkpoint(path)
    assert name.endswith("weight")


def test_two_tensors_of_one_name_are_refused() -> None:
    refused(of_tensorflow(lambda s: s[2]["variables"].append(("lod", np.float32(1)))), "tensor lod occurs twice")
    refused(b"\x80\x02}(K\x01K\x02K\x01K\x03u.", "name '1' occurs twice")


def test_a_network_inside_itself_is_refused() -> None:
    with stand_ins(("tfutil", "Network")) as (network,):
        made = network()
        made.__dict__.update(progan_states()[2], components={"synthesis": made})
        data = dumps(made)
    refused(data, "is no network, is deeper than 8 levels or occurs twice")


# Chance


def test_mutated_files_are_read_or_refused_and_nothing_else(request: pytest.FixtureRequest) -> None:
    fuzzer = Fuzzer(golden_files(request.config.getoption("--golden") / "generators", largest=2 * MEBIBYTE))
    outcome = fuzzer.run(seed=20, count=300, seconds_per_case=5)
    assert outcome["other_errors"] == []
    assert outcome["refused"] > 100
