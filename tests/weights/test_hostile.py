"""Checkpoints that attack: code that wants to run, files in files, damage. All are made at run time.

Each is refused with one sentence, and nothing of it runs.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Iterator
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
    nested,
    of_persistence,
    of_tensorflow,
    of_torch,
    persistence_bytes,
    persistence_content,
    progan_bytes,
    progan_states,
    refused,
    stand_ins,
    tensorflow_bytes,
    torch_bytes,
    write,
)
from stress.fuzz_checkpoints import Fuzzer, golden_files

from pipeline import cli
from stages.generators import official
from stages.generators.weights import WeightsError
from stages.weights.checkpoints import read_contents

SOURCE = "open('marker', 'w').close()\nclass Generator: pass\ndef G_paper(): return 'embedded-source'"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder, in which no test leaves the marker that hostile files write."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not (tmp_path / "marker").exists()


# Code that wants to run


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
    with pytest.raises(WeightsError, match=r"no known family .* with classes 'G_mine'"):
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
    refused(of_tensorflow(lambda s: s[2]["variables"].append(("lod", np.float32(1)))), "tensor 'lod' occurs twice")
    refused(b"\x80\x02}(K\x01K\x02K\x01K\x03u.", "name '1' occurs twice")


def test_a_network_inside_itself_is_refused() -> None:
    with stand_ins(("tfutil", "Network")) as (network,):
        made = network()
        made.__dict__.update(progan_states()[2], components={"synthesis": made})
        data = dumps(made)
    refused(data, "is no network, is deeper than 8 levels or occurs twice")


# Chance


@pytest.mark.jobs
def test_mutated_files_are_read_or_refused_and_nothing_else(request: pytest.FixtureRequest) -> None:
    invoked = request.config.invocation_params.dir
    fuzzer = Fuzzer(golden_files(invoked / request.config.getoption("--golden") / "generators", largest=2 * MEBIBYTE))
    outcome = fuzzer.run(seed=20, count=40, seconds_per_case=5)
    assert outcome["other_errors"] == []
    assert outcome["refused"] > 12
