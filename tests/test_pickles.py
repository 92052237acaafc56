"""Official pickles are data: what they hold comes out, what they want to run does not.

All hostile files are built here, at run time; none is stored.
"""

from __future__ import annotations

import builtins
import collections
import io
import os
import pickle
import random
import struct
import subprocess
import sys
import tracemalloc
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.generators import pickle_machine, pickles, stylegan2, weights
from stages.generators.pickles import read_persistent, read_pickle
from stages.generators.stylegan2_discriminator import Discriminator
from stages.generators.stylegan2_official import discriminator_architecture, drop_constants, generator_architecture
from stages.generators.weights import WeightsError

SETTINGS = {"z_dim": 4, "c_dim": 0, "w_dim": 6, "img_resolution": 8, "img_channels": 3}
WIDTHS = {"channel_base": 64, "channel_max": 8}
GENERATOR = {**SETTINGS, "mapping_kwargs": {"num_layers": 2}, "synthesis_kwargs": WIDTHS}
DISCRIMINATOR = {
    "c_dim": 0,
    "img_resolution": 8,
    "img_channels": 3,
    **WIDTHS,
    "epilogue_kwargs": {"mbstd_group_size": None},
}
CLASSES = {
    stylegan2.Generator: "Generator",
    stylegan2.MappingNetwork: "MappingNetwork",
    stylegan2.SynthesisNetwork: "SynthesisNetwork",
    stylegan2.SynthesisBlock: "SynthesisBlock",
    stylegan2.SynthesisLayer: "SynthesisLayer",
    stylegan2.ToRGB: "ToRGBLayer",
    stylegan2.Linear: "FullyConnectedLayer",
    stylegan2.Convolution: "Conv2dLayer",
    Discriminator: "Discriminator",
}
MEBIBYTE = 1 << 20


class Calls:
    """Pickles as a call of a function with arguments, and optionally a state."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.made = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.made


@pytest.fixture
def reconstruct(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The function that official files call, importable while a test writes its file."""
    module = types.ModuleType("torch_utils.persistence")

    def _reconstruct_persistent_obj(meta: Any) -> Any:
        raise AssertionError("this must never run")

    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    module._reconstruct_persistent_obj = _reconstruct_persistent_obj  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_utils", types.ModuleType("torch_utils"))
    monkeypatch.setitem(sys.modules, "torch_utils.persistence", module)
    return _reconstruct_persistent_obj


def persistent(reconstruct: Any, network: torch.nn.Module, settings: dict[str, Any], source: str = "") -> Calls:
    """A network as an official file holds it."""
    state = {
        "training": False,
        "_parameters": collections.OrderedDict(network._parameters),
        "_buffers": dict(network._buffers),
        "_modules": {n: persistent(reconstruct, m, {}, source) for n, m in network._modules.items() if m is not None},
        "_non_persistent_buffers_set": set(),
        "_init_args": (),
        "_init_kwargs": settings,
        "weight_gain": np.sqrt(np.float64(2)),
        "conv_clamp": None,
    }
    name = CLASSES.get(type(network), type(network).__name__.replace("MinibatchDeviation", "MinibatchStdLayer"))
    name = name.replace("DiscriminatorEnd", "DiscriminatorEpilogue")
    meta = {"type": "class", "version": 6, "module_src": source, "class_name": name, "state": state}
    return Calls(reconstruct, meta)


def content(reconstruct: Any, source: str = "") -> dict[str, Any]:
    torch.manual_seed(2)
    g = stylegan2.Generator(z_dim=4, c_dim=0, w_dim=6, resolution=8, mapping_layers=2, **WIDTHS)  # type: ignore[arg-type]
    d = Discriminator(c_dim=0, resolution=8, group=None, **WIDTHS)  # type: ignore[arg-type]
    networks = {"G": (g, GENERATOR), "D": (d, DISCRIMINATOR), "G_ema": (g, GENERATOR)}
    made: dict[str, Any] = {n: persistent(reconstruct, *pair, source) for n, pair in networks.items()}
    return {**made, "augment_pipe": None, "training_set_kwargs": {"path": "photos.zip", "use_labels": False}}


def state_of(file: dict[str, Any], name: str = "G_ema") -> dict[str, Any]:
    return file[name].made[1][0]["state"]  # type: ignore[no-any-return]


def write(path: Path, file: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(file, protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_tensors_and_settings_come_back_exactly(reconstruct: Any, tmp_path: Path, protocol: int) -> None:
    file = content(reconstruct)
    networks = read_pickle(write(tmp_path / "g.pkl", file, protocol))
    assert networks["G_ema"].settings == GENERATOR
    assert generator_architecture(networks["G_ema"]) == {
        "z_dim": 4,
        "c_dim": 0,
        "w_dim": 6,
        "resolution": 8,
        "colors": 3,
        "mapping_layers": 2,
        "conv_clamp": None,
        **WIDTHS,
    }
    assert networks["G_ema"].attributes["mapping.fc0.weight_gain"] == np.sqrt(2)
    assert discriminator_architecture(networks["D"])["group"] is None
    for name, network in (
        ("G_ema", stylegan2.build(generator_architecture(networks["G_ema"]))),
        ("D", Discriminator(**discriminator_architecture(networks["D"]))),
    ):
        filled = weights.fill("test", network, drop_constants(networks[name].tensors))
        original = stored_tensors(file[name])
        assert set(original) == set(filled.state_dict())
        assert all(np.array_equal(original[key], array.numpy()) for key, array in filled.state_dict().items())


def stored_tensors(module: Calls, prefix: str = "") -> dict[str, Any]:
    state = module.made[1][0]["state"]
    found = {
        prefix + n: t.detach().numpy()
        for k in ("_parameters", "_buffers")
        for n, t in state[k].items()
        if t is not None
    }
    for name, part in state["_modules"].items():
        found |= stored_tensors(part, f"{prefix}{name}.")
    return found


SHELLS: dict[str, tuple[Any, Any]] = {
    "os.system": (os.system, ("touch marker",)),
    "builtins.eval": (eval, ("open('marker', 'w')",)),
    "builtins.exec": (exec, ("open('marker', 'w')",)),
    "builtins.getattr": (getattr, ("", "join")),
    "builtins.__import__": (builtins.__import__, ("antigravity",)),
    "subprocess.Popen": (subprocess.Popen, (["touch", "marker"],)),
    "torch.hub.load": (torch.hub.load, ("owner/name", "model")),
    "numpy.load": (np.load, ("marker",)),
}
PLACES = {
    "network": lambda file, evil: file.update(G=evil),
    "sampled network": lambda file, evil: file.update(G_ema=evil),
    "setting": lambda file, evil: file.update(training_set_kwargs=evil),
    "dictionary key": lambda file, evil: file["training_set_kwargs"].update({evil: 1}),
    "state value": lambda file, evil: state_of(file).update(conv_clamp=evil),
    "tensor": lambda file, evil: state_of(file)["_buffers"].update(extra=evil),
    "source text": lambda file, evil: file["D"].made[1][0].update(module_src=evil),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("shell", SHELLS)
def test_a_call_of_the_shell_is_refused_wherever_it_stands(
    reconstruct: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    function, arguments = SHELLS[shell]
    file = content(reconstruct)
    PLACES[place](file, Calls(function, *arguments))
    write(tmp_path / "g.pkl", file)
    symbol = f"{function.__module__}.{function.__qualname__}".replace("numpy.load", "numpy.*load")
    with pytest.raises(WeightsError, match=rf"{symbol}.*nothing was run"):
        read_pickle(tmp_path / "g.pkl")
    assert not (tmp_path / "marker").exists()


def test_a_dotted_name_is_not_followed() -> None:
    text = b"\x80\x04\x8c\x05numpy\x8c\x0ecore.os.system\x93\x8c\x0ctouch marker\x85R."
    with pytest.raises(WeightsError, match=r"'numpy.core.os.system'.*nothing was run"):
        read_persistent(memoryview(text))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"\x80\x02\x82\x01.", "opcode 0x82"),  # extension registry
        (b"\x80\x02\x83\x01\x00.", "opcode 0x83"),
        (b"\x80\x02\x84\x01\x00\x00\x00.", "opcode 0x84"),
        (b"\x80\x02(X\x02\x00\x00\x00lsios\nsystem\n.", "opcode 0x69"),  # INST
        (b"\x80\x02(cos\nsystem\no.", "'os.system', which weights"),  # OBJ
        (b"\x80\x04(ccollections\nOrderedDict\no.", "opcode 0x6f"),
        (b"\x80\x02Pkey\n.", "opcode 0x50"),
        (b"\x80\x02X\x01\x00\x00\x00kQ.", "a persistent id"),
        (b"\x80\x02ccollections\nOrderedDict\n}b.", "gives a state to a Symbol"),
        (b"\x80\x02cnumpy\nndarray\n)R.", "only a name here"),
        (b"\x80\x02cnumpy\ndtype\n)R.", "with arguments that do not fit"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.", "wants 1099511627776 bytes"),  # BINBYTES8
        (b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"x.", "wants 4611686018427387904 bytes"),
        (b"\x80\x04\x8b" + struct.pack("<i", 1 << 30) + b"x.", "an integer of 1073741824 bytes"),  # LONG4
        (b"\x80\x04\x8b" + struct.pack("<i", -5) + b"x.", "wants -5 bytes"),
        (b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b".", "a frame of 1099511627776 bytes"),
        (b"\x80\x02I" + b"9" * 900 + b"\n.", "where an integer belongs"),
        (b"\x80\x02Nr\xff\xff\xff\xffh\x00.", "recalls object 0"),  # a memo of four billion places is not made
        (b"\x80\x02]](X\x01\x00\x00\x00a}u.", "a key that has no value|fills a dict"),
        (b"\x80\x02}(]K\x01u.", "a key of type list"),
        (b"\x80\x02}(K\x01K\x02K\x01K\x03u.", "the name '1' occurs twice"),
        (b"\x80\x06N.", "protocol 6"),
        (b"\x80\x02.", "ends in the middle"),
        (b"\x80\x02N", "it is damaged"),
        (b"\x80\x02}.trailing", "8 bytes behind its pickle"),
        (b"\x80\x02}.", "not of a dictionary with the networks G_ema and D"),
        (b"\x80\x02N.", "not of a dictionary with the networks"),
    ],
)
def test_opcodes_that_weights_do_not_need_are_refused(text: bytes, sentence: str) -> None:
    with pytest.raises(WeightsError, match=sentence):
        read_persistent(memoryview(text))


def test_embedded_source_is_neither_run_nor_kept(
    reconstruct: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = "open('marker', 'w')\nclass Generator: pass"
    networks = read_pickle(write(tmp_path / "g.pkl", content(reconstruct, source)))
    assert not (tmp_path / "marker").exists()
    assert "marker" not in repr(networks)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda meta: meta.update(class_name="MyGenerator"), "class 'MyGenerator', which is not one of StyleGAN2"),
        (lambda meta: meta.update(class_name="SynthesisInput"), "alias-free StyleGAN3 network, which is not supported"),
        (lambda meta: meta.update(class_name="Discriminator"), "its G_ema is not a Generator"),
        (lambda meta: meta.update(class_name=None), "without a class name"),
        (lambda meta: meta.update(version=7), "version 7; expected 6"),
        (lambda meta: meta.update(type="function"), "no class with a state"),
        (lambda meta: meta["state"].pop("_buffers"), "has no dictionary _buffers"),
        (lambda meta: meta["state"].update(_init_args=(4, 0)), "unnamed arguments"),
        (lambda meta: meta["state"]["_parameters"].update({"a.b": torch.zeros(1)}), "has no dictionary _parameters"),
        (
            lambda meta: meta["state"]["_buffers"].update(a=torch.tensor(float("nan"))),
            "tensor a has 1 values that are not",
        ),
        (lambda meta: meta["state"]["_buffers"].update(a=3), "its entry a is no tensor"),
        (lambda meta: meta["state"]["_modules"].update(a=3), "is no module"),
        (
            lambda meta: meta["state"]["_modules"].update(again=meta["state"]["_modules"]["mapping"]),
            "occurs twice",
        ),
    ],
)
def test_a_network_that_is_not_as_expected_is_refused(
    reconstruct: Any, tmp_path: Path, change: Any, sentence: str
) -> None:
    file = content(reconstruct)
    change(file["G_ema"].made[1][0])
    with pytest.raises(WeightsError, match=sentence):
        read_pickle(write(tmp_path / "g.pkl", file))


def test_settings_that_the_network_lacks_are_refused(reconstruct: Any, tmp_path: Path) -> None:
    for settings, sentence in (
        ({**GENERATOR, "magic": 1}, "setting 'magic', which is not one of StyleGAN2"),
        ({**GENERATOR, "synthesis_kwargs": {"resample_filter": [1]}}, r"resample_filter \[1\]; only"),
        ({**GENERATOR, "mapping_kwargs": 3}, "'mapping_kwargs' is not a dictionary"),
    ):
        file = content(reconstruct)
        state_of(file)["_init_kwargs"] = settings
        network = read_pickle(write(tmp_path / "g.pkl", file))["G_ema"]
        with pytest.raises(WeightsError, match=sentence):
            generator_architecture(network)
    with pytest.raises(WeightsError, match=r"filter b4.resample_filter is not the one of StyleGAN2"):
        drop_constants({"b4.resample_filter": np.ones((4, 4))})


def torch_bytes(value: Any, zipped: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_nested_torch_file_is_read_in_both_forms(reconstruct: Any, tmp_path: Path, zipped: bool) -> None:
    values = torch.arange(6, dtype=torch.float64)
    nested = Calls(torch.storage._load_from_bytes, torch_bytes(values._typed_storage(), zipped))  # type: ignore
    tensor = Calls(torch._utils._rebuild_tensor_v2, nested, 1, (2, 2), (1, 2), False, {})  # type: ignore[attr-defined]
    file = content(reconstruct)
    state_of(file)["_buffers"]["extra"] = tensor
    found = read_pickle(write(tmp_path / "g.pkl", file))["G_ema"].tensors["extra"]
    assert found.tolist() == [[1, 3], [2, 4]]
    assert found.dtype == np.float64


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("inner", ["shell", "nested file"])
def test_a_nested_torch_file_may_not_call_anything(
    reconstruct: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool, inner: str
) -> None:
    monkeypatch.chdir(tmp_path)
    call: tuple[Any, Any] = (os.system, "touch marker")
    if inner == "nested file":
        call = (torch.storage._load_from_bytes, torch_bytes({"a": Calls(*call)}, zipped))  # type: ignore[attr-defined]
    nested = Calls(torch.storage._load_from_bytes, torch_bytes({"a": Calls(*call)}, zipped))  # type: ignore[attr-defined]
    file = content(reconstruct)
    state_of(file)["_buffers"]["extra"] = nested
    with pytest.raises(WeightsError, match=r"(system|_load_from_bytes).*nothing was run"):
        read_pickle(write(tmp_path / "g.pkl", file))
    assert not (tmp_path / "marker").exists()


def rebuilt(size: Any, stride: Any, offset: Any = 0) -> Calls:
    storage = torch.zeros(1)._typed_storage()
    return Calls(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, {})  # type: ignore[attr-defined]


def packed_zeros() -> Calls:
    """A torch archive whose storage of 32 MiB of zeros is packed to some kilobytes."""
    plain, packed = io.BytesIO(torch_bytes(torch.zeros(8 * MEBIBYTE)._typed_storage(), True)), io.BytesIO()
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return Calls(torch.storage._load_from_bytes, packed.getvalue())  # type: ignore[attr-defined]


def announced_storage() -> Calls:
    """A torch file of the older form that announces 2**30 values and has one."""
    small = torch_bytes(torch.zeros(1)._typed_storage(), False)
    assert small.count(b"K\x01N") == 1  # number of values, view metadata
    return Calls(torch.storage._load_from_bytes, small.replace(b"K\x01N", b"J\x00\x00\x00\x40N"))  # type: ignore


def array_without_bytes(shape: Any, kind: Any) -> Calls:
    state = (1, shape, kind, False, b"")
    return Calls(np._core.multiarray._reconstruct, np.ndarray, (0,), b"b", state=state)  # type: ignore[attr-defined]


def doubled_list() -> Any:
    value: Any = ["laugh"]
    for _ in range(60):
        value = [value, value]
    return value


BOMBS = {
    "broadcast tensor": (lambda: rebuilt((1 << 20, 1 << 20), (0, 0)), r"tensor of shape \(1048576, 1048576\)"),
    "tensor behind its storage": (lambda: rebuilt((1,), (1,), 1), "offset 1 on 1 values"),
    "negative stride": (lambda: rebuilt((1,), (-1,)), "expected integers >= 0"),
    "array without bytes": (
        lambda: array_without_bytes((10**12,), np.dtype("f4")),
        "needs 4000000000000 bytes and has 0",
    ),
    "array of objects": (lambda: array_without_bytes((1,), np.dtype("O")), "array of dtype 'O8'"),
    "packed zeros": (packed_zeros, "packed more than 200 times"),
    "announced storage": (announced_storage, "storage of 1073741824 values is larger than the file around it"),
    "doubled list": (doubled_list, "nested too deeply or are too many"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_memory_bomb_is_refused_before_memory_is_taken(reconstruct: Any, tmp_path: Path, bomb: str) -> None:
    make, sentence = BOMBS[bomb]
    file = content(reconstruct)
    file["training_set_kwargs"] = {"x": make()}
    path = write(tmp_path / "g.pkl", file)
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match=sentence):
            read_pickle(path)
        assert tracemalloc.get_traced_memory()[1] < 64 * MEBIBYTE
    finally:
        tracemalloc.stop()


def test_many_objects_in_a_small_file_run_out_of_budget() -> None:
    text = b"\x80\x04" + b"\x8f" * 1_000_000 + b"."
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match="more than 67108864 bytes of memory"):
            read_persistent(memoryview(text))
        assert tracemalloc.get_traced_memory()[1] < 64 * MEBIBYTE
    finally:
        tracemalloc.stop()


def test_opcodes_are_counted_over_nested_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_machine, "OPCODE_LIMIT", 100)
    with pytest.raises(WeightsError, match="more than 100 pickle opcodes"):
        read_persistent(memoryview(b"\x80\x04" + b"N0" * 60 + b"N."))


def test_a_damaged_file_never_fails_in_another_way(reconstruct: Any) -> None:
    whole = pickle.dumps(content(reconstruct), 4)
    chance = random.Random(5)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole[: chance.randrange(len(whole))] if chance.random() < 0.1 else whole)
        for _ in range(chance.choice((1, 1, 4))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            read_persistent(memoryview(bytes(damaged)))
        except WeightsError:
            refused += 1
    assert refused > 50


def test_other_files_are_named_for_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "g.pkl"
    with pytest.raises(WeightsError, match="cannot be read: No such file"):
        read_pickle(path)
    for start, kind in ((b"<html>", "an HTML or XML page"), (b"PK\x03\x04", "not a pickle of protocol 2 or higher")):
        path.write_bytes(start)
        with pytest.raises(WeightsError, match=kind):
            read_pickle(path)


def test_big_endian_half_and_brain_floats_become_plain_arrays() -> None:
    budget = pickle_machine.Budget(1000)
    calls = pickles.persistent_calls(budget)
    for array in (
        np.arange(4, dtype=">f4"),
        np.asfortranarray(np.arange(6, dtype="<i2").reshape(2, 3)),
        np.float32(2.5),
    ):
        text = pickle.dumps(array, 4)
        machine = pickle_machine.PickleMachine(memoryview(text), budget, calls, None, pickles.NUMPY_NAMES)
        found = machine.load()
        found = getattr(found, "array", found)
        assert np.array_equal(found, array)
    values = torch.tensor([1.5, -3.0, 1e30], dtype=torch.bfloat16)
    stored = pickles.read_torch(memoryview(torch_bytes(values, True)), budget, depth=1)
    assert np.array_equal(stored.array(), values.float().numpy())
