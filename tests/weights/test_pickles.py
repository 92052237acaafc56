"""Pickles are data: what they hold comes out exactly, whatever wrote them; what is no network is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import (
    Calls,
    Meta,
    State,
    dumps,
    meta,
    module_state,
    persistence_bytes,
    persistence_content,
    progan_states,
    stand_ins,
    tensorflow_bytes,
    tensorflow_state,
    torch_bytes,
)

from stages.generators import stylegan2, stylegan2_official, weights
from stages.generators.stylegan2_discriminator import Discriminator
from stages.generators.weights import WeightsError
from stages.weights import arrays, pickles
from stages.weights.checkpoints import read_bytes
from stages.weights.filling import fill
from stages.weights.pickle_machine import Budget, PickleMachine

SETTINGS = {"z_dim": 4, "c_dim": 0, "w_dim": 6, "img_resolution": 8, "img_channels": 3}
WIDTHS: dict[str, Any] = {"channel_base": 64, "channel_max": 8}
GENERATOR = {**SETTINGS, "mapping_kwargs": {"num_layers": 2}, "synthesis_kwargs": WIDTHS}
DISCRIMINATOR = {
    "c_dim": 0,
    "img_resolution": 8,
    "img_channels": 3,
    **WIDTHS,
    "epilogue_kwargs": {"mbstd_group_size": None},
}
CLASSES = {
    "ToRGB": "ToRGBLayer",
    "Linear": "FullyConnectedLayer",
    "Convolution": "Conv2dLayer",
    "MinibatchDeviation": "MinibatchStdLayer",
    "DiscriminatorEnd": "DiscriminatorEpilogue",
}
"""Our classes -> those of stylegan2-ada-pytorch, where the names differ."""


def persistent(network: torch.nn.Module, settings: dict[str, Any]) -> Meta:
    """A network of ours as an official file holds it."""
    parts = {name: persistent(part, {}) for name, part in network._modules.items() if part is not None}
    state = module_state(network._parameters, parts, settings) | {
        "_buffers": dict(network._buffers),
        "conv_clamp": None,
    }
    kind = type(network).__name__
    return meta(CLASSES.get(kind, kind), state)


def stylegan2_content() -> tuple[dict[str, Any], dict[str, torch.nn.Module]]:
    torch.manual_seed(2)
    sizes: dict[str, Any] = {"c_dim": 0, "resolution": 8}
    g = stylegan2.Generator(z_dim=4, w_dim=6, mapping_layers=2, **sizes, **WIDTHS)
    ema = stylegan2.Generator(z_dim=4, w_dim=6, mapping_layers=2, **sizes, **WIDTHS)
    d = Discriminator(group=None, **sizes, **WIDTHS)
    networks = {"G": g, "D": d, "G_ema": ema}
    content: dict[str, Any] = {
        name: persistent(network, DISCRIMINATOR if name == "D" else GENERATOR) for name, network in networks.items()
    }
    return {**content, "augment_pipe": None, "training_set_kwargs": {"path": "photos.zip"}}, dict(networks)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_network_of_modules_comes_back_exactly(protocol: int) -> None:
    content, networks = stylegan2_content()
    contents = read_bytes(persistence_bytes(content, protocol))
    assert (contents.container, contents.version) == ("persistence pickle", 6)
    assert contents.extra == {"augment_pipe": None, "training_set_kwargs": {"path": "photos.zip"}}
    assert contents.networks["G_ema"].settings == GENERATOR
    assert contents.networks["G_ema"].attributes["mapping.fc0.weight_gain"] == np.sqrt(2)
    for name, network in networks.items():
        found, original = contents.networks[name].tensors, network.state_dict()
        assert set(found) == set(original)
        assert all(np.array_equal(found[key], tensor.numpy()) for key, tensor in original.items())
    for converted, network in (
        (stylegan2_official.generator(contents), networks["G_ema"]),
        (stylegan2_official.discriminator(contents), networks["D"]),
    ):
        assert converted is not None
        header = weights.Header(
            converted.family,
            converted.architecture,
            {},
            network="discriminator" if network is networks["D"] else "generator",
        )
        filled = fill("test", weights.build("test", header)[1], converted.tensors)
        assert all(torch.equal(filled.state_dict()[key], tensor) for key, tensor in network.state_dict().items())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("module", ["tfutil", "dnnlib.tflib.network"])
def test_a_network_of_tensorflow_comes_back_exactly(module: str, protocol: int) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)

    def network(name: str, function: str, **changes: Any) -> State:
        return State(tensorflow_state(name, function, version=3, **changes))

    average = network(
        "Gs",
        "G_style",
        static_kwargs={"resolution": 8, "truncation_psi": 0.7, "resample_kernel": (1, 3, 3, 1), "dtype": None},
        variables=[("lod", np.float32(0.25)), ("dlatent_avg", np.asfortranarray(values)), ("step", 7)],
        components={
            "mapping": network("G_mapping", "G_mapping", variables=[("Dense0/weight", values)]),
            "synthesis": network("G_synthesis", "G_synthesis", static_kwargs={"use_noise": True}),
        },
    )
    three = (network("G", "G_style"), network("D", "D_basic"), average)
    contents = read_bytes(tensorflow_bytes(three, protocol, module))
    assert (contents.container, contents.version, list(contents.networks)) == ("tensorflow pickle", 3, ["G", "D", "Gs"])
    found = contents.networks["Gs"]
    assert found.class_name == "G_style"
    assert found.settings == {"resolution": 8, "truncation_psi": 0.7, "resample_kernel": [1, 3, 3, 1], "dtype": None}
    assert list(found.tensors) == ["lod", "dlatent_avg", "step", "mapping/Dense0/weight"]
    assert found.tensors["lod"].shape == ()
    assert found.tensors["lod"].dtype == np.float32
    assert float(found.tensors["lod"]) == 0.25
    assert int(found.tensors["step"]) == 7
    for name in ("dlatent_avg", "mapping/Dense0/weight"):
        assert np.array_equal(found.tensors[name], values)
        assert found.tensors[name].flags.c_contiguous
    assert found.attributes == {
        "name": "Gs",
        "mapping/name": "G_mapping",
        "mapping/class_name": "G_mapping",
        "mapping/settings": {},
        "synthesis/name": "G_synthesis",
        "synthesis/class_name": "G_synthesis",
        "synthesis/settings": {"use_noise": True},
    }


def loaded(text: bytes) -> Any:
    """The object of a pickle of plain data and arrays."""
    budget = Budget(len(text))
    found = PickleMachine(memoryview(text), budget, pickles.calls(budget), None, arrays.NUMPY_NAMES).load()
    return getattr(found, "array", found)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "value",
    [
        np.arange(4, dtype=">f4"),
        np.asfortranarray(np.arange(6, dtype="<i2").reshape(2, 3)),
        np.asfortranarray(np.arange(24, dtype=">f8").reshape(2, 3, 4)),
        np.array([True, False]),
        np.array(3, dtype=np.uint8),
        np.float32(2.5),
        np.float64(-1e300),
        np.int64(-5),
        np.bool_(True),
        [1, -1, 255, 256, 65535, 65536, 1 << 31, -(1 << 31), 1 << 62, -(1 << 62), 1 << 100, 0.1, None, True],
        {"a": {"b": (1, 2)}, "\u00e9\u4e16": [()], "": {}, 5: set()},
    ],
    ids=repr,
)
def test_plain_data_and_arrays_come_back_exactly(value: Any, protocol: int) -> None:
    found = loaded(pickle.dumps(value, protocol))
    assert np.array_equal(found, value) if isinstance(value, np.ndarray) else found == value
    assert np.shape(found) == np.shape(value) if isinstance(value, np.ndarray) else type(found) is type(value)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_an_array_without_values_keeps_its_shape(protocol: int) -> None:
    assert loaded(pickle.dumps(np.zeros((0, 5), dtype=np.float16), protocol)).shape == (0, 5)


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_arrays_have_the_names_of_either_numpy(core: str, protocol: int) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    with stand_ins((f"{core}.multiarray", "_reconstruct"), (f"{core}.multiarray", "scalar")) as (reconstruct, scalar):
        state = (1, (2, 3), np.dtype("f4"), False, values.tobytes())
        array = Calls(reconstruct, np.ndarray, (0,), b"b", state=state)
        number = Calls(scalar, np.dtype("f4"), np.float32(1.5).tobytes())
        text = dumps([array, number], protocol)
    assert core.encode() in text
    array, number = loaded(text)
    assert np.array_equal(array.array, values)
    assert number == np.float32(1.5)


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_arrays_of_protocol_5_buffers_are_read(core: str) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    with stand_ins((f"{core}.numeric", "_frombuffer")) as (from_buffer,):
        flat = Calls(from_buffer, bytearray(values.tobytes()), np.dtype("f4"), (2, 3), "C")
        turned = Calls(from_buffer, values.T.astype(">f4").tobytes(), np.dtype(">f4"), (2, 3), "F")
        text = dumps([flat, turned], 5)
    flat, turned = loaded(text)
    assert turned.array.dtype.isnative
    assert np.array_equal(flat.array, values)
    assert np.array_equal(turned.array, values)


def test_strings_of_python_2_are_text_and_bytes() -> None:
    values = np.array([1.5, -2.0], dtype=np.float32)
    kind = b"cnumpy\ndtype\n(U\x02f4I0\nI1\ntR(I3\nU\x01<NNNI-1\nI-1\nI0\ntb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR(I1\n(L2L\nt" + kind
    text = b"\x80\x02(" + array + b"I00\nU\x08" + values.tobytes() + b"tbT\x03\x00\x00\x00Gs\xe9t."
    array, name = loaded(text)
    assert np.array_equal(array.array, values)
    assert name == "Gs\u00e9"


@pytest.mark.parametrize("zipped", [True, False])
def test_a_nested_torch_file_is_read_in_both_forms(zipped: bool) -> None:
    values = torch.arange(6, dtype=torch.float64)
    nested = Calls(torch.storage._load_from_bytes, torch_bytes(values._typed_storage(), zipped))  # type: ignore
    content = persistence_content()
    content["G_ema"]["state"]["_buffers"]["extra"] = Calls(
        torch._utils._rebuild_tensor_v2,
        nested,
        1,
        (2, 2),
        (1, 2),
        False,
        {},  # type: ignore[attr-defined]
    )
    found = read_bytes(persistence_bytes(content)).networks["G_ema"].tensors["extra"]
    assert found.tolist() == [[1, 3], [2, 4]]
    assert found.dtype == np.float64


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"\x80\x02ccollections\nOrderedDict\n}b.", "gives a state to a Symbol"),
        (b"\x80\x02cnumpy\nndarray\n)R.", "only a name here"),
        (b"\x80\x02cnumpy\ndtype\n)R.", "with arguments that do not fit"),
        (b"\x80\x02Nnumpy\n)R.", "opcode 0x6e"),
        (b"\x80\x02N)R.", "calls something that is not a known symbol"),
        (b"\x80\x02]](X\x01\x00\x00\x00a}u.", "a key that has no value|fills a dict"),
        (b"\x80\x02}(]K\x01u.", "a key of type list"),
        (b"\x80\x02}(c_codecs\nencode\nK\x01u.", "a key of type Symbol"),
        (b"\x80\x02K\x01a.", "takes more objects than it made|fills a list"),
        (b"\x80\x02}K\x01a.", "fills a list that is not there"),
        (b"\x80\x02t.", "goes back to a mark that it did not set"),
        (b"\x80\x02q\x00.", "remembers an object before there is one"),
        (b"\x80\x04\x8c\x01\xff.", "text that is not UTF-8"),
        (b"\x80\x02cos\xff\nsystem\n.", "a line that is not ASCII"),
        (b"\x80\x02c" + b"a" * 2000, "a line of more than 1024 bytes"),
        (b"\x80\x04K\x01K\x02\x93.", "names a symbol with something that is not text"),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x04\x00\x00\x00utf8\x86R.", "encodes text in a way"),
        (b"\x80\x02c_codecs\nencode\nX\x03\x00\x00\x00\xe4\xb8\x96X\x06\x00\x00\x00latin1\x86R.", "that are no bytes"),
        (b"\x80\x04\x8b" + (-5).to_bytes(4, "little", signed=True) + b"x.", "wants -5 bytes"),
        (b"\x80\x06N.", "protocol 6; 2 to 5 are read, save it again with one of these"),
        (b"\x80\x01N.", "protocol 1; 2 to 5 are read"),
        (b"\x80\x02.", "ends in the middle"),
        (b"\x80\x02", "damaged or cut off, download it again"),
        (b"\x80\x02N", "damaged or cut off, download it again"),
        (b"\x80\x02}.trailing", "8 bytes behind its pickle"),
        (b"\x80\x02}.", "a pickle of a dict without a network of a known kind"),
        (b"\x80\x02N.", "a pickle of None without a network"),
    ],
)
def test_a_pickle_that_is_not_sound_is_refused(text: bytes, sentence: str) -> None:
    with pytest.raises(WeightsError, match=sentence):
        read_bytes(text)


Change = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda meta: meta.update(class_name="MyGenerator"), "class 'MyGenerator', which is not one of StyleGAN2"),
        (lambda meta: meta.update(class_name="SynthesisInput"), "alias-free StyleGAN3 network, which is not supported"),
        (lambda meta: meta.update(class_name=None), "without a class name"),
        (lambda meta: meta.update(version=7), "version 7; expected 6"),
        (lambda meta: meta.update(type="function"), "no class with a state"),
        (lambda meta: meta["state"].pop("_buffers"), "has no dictionary _buffers"),
        (lambda meta: meta["state"].update(_init_args=(4, 0)), "unnamed arguments"),
        (lambda meta: meta["state"].update(_init_kwargs=[1]), "unnamed arguments"),
        (lambda meta: meta["state"].update(_init_kwargs={"channel_base": 1 << 40}), "'channel_base' is 1099511627776"),
        (lambda meta: meta["state"]["_parameters"].update({"a.b": torch.zeros(1)}), "has no dictionary _parameters"),
        (lambda meta: meta["state"]["_buffers"].update(a=3), "its entry 'a' is no tensor"),
        (lambda meta: meta["state"]["_buffers"].update(weight=torch.zeros(1)), "its tensor 'weight' occurs twice"),
        (lambda meta: meta["state"]["_modules"].update(a=3), "is no network"),
        (lambda meta: meta["state"]["_modules"].update({"": meta_of_part()}), "name ''; expected"),
    ],
)
def test_a_module_that_is_not_as_expected_is_refused(change: Change, sentence: str) -> None:
    content = persistence_content()
    change(content["G_ema"])
    with pytest.raises(WeightsError, match=sentence):
        read_bytes(persistence_bytes(content))


def meta_of_part() -> Meta:
    return meta("SynthesisBlock", module_state({}))


def test_a_module_that_is_there_twice_is_refused() -> None:
    content = persistence_content()
    with stand_ins(("torch_utils.persistence", "_reconstruct_persistent_obj")) as (reconstruct,):
        part = Calls(reconstruct, dict(meta_of_part()))
        content = {"G_ema": Calls(reconstruct, dict(meta("Generator", module_state({}, {"a": part, "b": part}))))}
        text = dumps(content)
    with pytest.raises(WeightsError, match="occurs twice"):
        read_bytes(text)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda state: state.update(version=1), "version 1; expected 2 to 5"),
        (lambda state: state.pop("version"), "version None; expected 2 to 5"),
        (lambda state: state.pop("variables"), "variables is None; expected a list"),
        (lambda state: state.update(build_func_name=3), "build_func_name is 3; expected a str"),
        (lambda state: state.update(components=[]), "components are no dictionary"),
        (lambda state: state.update(components={"mapping": 3}), "is no network"),
        (lambda state: state.update(components={"": State(tensorflow_state("a", "b"))}), "name ''; expected"),
        (lambda state: state["variables"].append(3), "not a pair of name and values"),
        (lambda state: state["variables"].append((3, np.zeros(1))), "name 3; expected"),
        (lambda state: state["variables"].append(("x", "y")), "tensor 'x' is 'y'; expected numbers"),
        (lambda state: state["variables"].append(("x", [1.0])), "tensor 'x' is a list; expected numbers"),
        (lambda state: state["static_kwargs"].update(func=np.dtype("f4")), "settings hold a DataType; expected text"),
        (lambda state: state["static_kwargs"].update(mapping_layers=101), "'mapping_layers' is 101, which no network"),
        (lambda state: state["static_kwargs"].update(a={"b": [float("nan")]}), "setting 'b' is nan, which no network"),
    ],
)  # fmt: skip
def test_a_tensorflow_network_that_is_not_as_expected_is_refused(change: Change, sentence: str) -> None:
    states = [State(state) for state in progan_states()]
    change(states[2])
    with pytest.raises(WeightsError, match=sentence):
        read_bytes(tensorflow_bytes(tuple(states)))


def test_a_tensorflow_network_without_a_state_is_refused() -> None:
    with pytest.raises(WeightsError, match="a TensorFlow network without a state"):
        read_bytes(b"\x80\x02ctfutil\nNetwork\n)\x81.")
    with pytest.raises(WeightsError, match="whose state is no dictionary"):
        read_bytes(b"\x80\x02ctfutil\nNetwork\n)\x81]b.")
