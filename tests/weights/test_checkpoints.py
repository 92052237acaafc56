"""Official checkpoints: every container is read, every golden file is found to be of one family, others are named."""

from __future__ import annotations

import argparse
import gzip
import io
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import (
    Calls,
    Meta,
    State,
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
from stress.fuzz_checkpoints import made_files

from stages.generators import official, weights
from stages.generators.weights import WeightsError
from stages.weights.checkpoints import Contents, read_bytes

CONTAINERS = {True: "torch zip", False: "torch legacy"}
SUFFIXES = (".pkl", ".pth", ".pt", ".model", ".ckpt")


# The golden files


def unpacked(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden_data" in metafunc.fixturenames:
        folder = metafunc.config.getoption("--golden") / "generators"
        found = [p for p in sorted(folder.iterdir()) if p.name.removesuffix(".gz").endswith(SUFFIXES)]
        metafunc.parametrize("golden_data", found or [None], indirect=True, ids=[p.name for p in found] or ["none"])


@pytest.fixture
def golden_data(request: pytest.FixtureRequest) -> bytes:
    if request.param is None:
        pytest.fail("the golden set has no checkpoint of a generator")
    return unpacked(request.param)


def test_a_golden_file_is_read_and_is_of_one_family(golden_data: bytes, tmp_path: Path) -> None:
    contents = read_bytes(golden_data)
    assert contents.networks
    for network in contents.networks.values():
        assert network.tensors
        for array in network.tensors.values():
            assert array.dtype.kind in "fiub"
            assert array.dtype.isnative
    forms = {family: module.recognize(contents) for family, module in official.converters().items()}
    assert len([form for form in forms.values() if form]) == 1
    path = write(tmp_path / "file", golden_data)
    _, family, form = official.recognize(path, contents)
    assert forms[family] == form
    judge = official.discriminator(path)
    if official.judges_only(contents, form):
        assert judge is not None
        with pytest.raises(WeightsError, match="holds a discriminator only"):
            official.open_checkpoint(path)
        return
    converted = official.open_checkpoint(path)
    assert converted.family == family
    saved = weights.save(
        tmp_path / "ours.safetensors", family, converted.architecture, converted.tensors, converted.truncation
    )
    assert saved.resolution == converted.architecture["resolution"]
    _, generator = weights.load(tmp_path / "ours.safetensors", "generator")
    stored = generator.state_dict()
    assert set(stored) == set(converted.tensors)
    assert all(np.array_equal(stored[name].numpy(), array) for name, array in converted.tensors.items())


# Torch files


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_bare_state_dict_is_one_network_without_a_name(zipped: bool, protocol: int) -> None:
    contents = read_bytes(torch_bytes(state_dict("a.weight", "b"), zipped, protocol))
    assert (contents.container, contents.version) == (CONTAINERS[zipped], None)
    assert list(contents.networks) == [""]
    found = contents.networks[""]
    assert (found.class_name, found.settings, list(found.tensors)) == ("", {}, ["a.weight", "b"])
    assert found.tensors["b"].tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_networks_plain_values_and_single_tensors_are_told_apart(zipped: bool, protocol: int) -> None:
    config = argparse.Namespace(size=64, arch="stylegan2", nested={"a": (1, None)}, iter=10**7)
    content = {
        "g_ema": state_dict("x"),
        "d": {**state_dict("y"), "step": torch.tensor(3)},
        "latent_avg": torch.arange(4.0),
        "args": config,
        "ada_aug_p": 0.5,
        "best": np.float64(0.25),
        "losses": {"g": [np.float32(1.5), np.int64(3)]},
        "mean": np.arange(3, dtype=np.float32),
        "g_optim": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]},
        "empty": {},
    }
    contents = read_bytes(torch_bytes(content, zipped, protocol))
    assert list(contents.networks) == ["g_ema", "d"]
    assert contents.networks["d"].tensors["step"].shape == ()
    assert contents.extra["latent_avg"].tolist() == [0, 1, 2, 3]
    assert contents.extra["args"] == {"size": 64, "arch": "stylegan2", "nested": {"a": [1, None]}, "iter": 10**7}
    assert (contents.extra["ada_aug_p"], contents.extra["empty"]) == (0.5, {})
    assert (contents.extra["best"], contents.extra["losses"]) == (0.25, {"g": [1.5, 3]})
    assert np.array_equal(contents.extra["mean"], np.arange(3, dtype=np.float32))
    assert contents.ignored == ("g_optim",)


@pytest.mark.parametrize(
    ("value", "name"),
    [(torch.Size([1, 2]), "torch.Size"), (torch.device("cpu"), "torch.device"), (1j, r"\w+.complex")],
)
def test_a_symbol_that_weights_do_not_need_is_refused_with_a_way_out(value: Any, name: str) -> None:
    with pytest.raises(WeightsError, match=rf"asks for '{name}', .*; nothing was run; .* save its state dicts alone"):
        read_bytes(torch_bytes({"generator": state_dict("x"), "value": value}))


def test_a_long_history_beside_the_networks_is_read() -> None:
    history = [0.5 * k for k in range(50_000)]
    assert read_bytes(torch_bytes({"g": state_dict("x"), "losses": history})).extra["losses"] == history


def test_records_of_settings_become_dictionaries() -> None:
    with stand_ins(("models.utils.config", "BaseConfig")) as (config,):
        made = config()
        made.depthScales = [16, 8]
        data = torch_bytes({"avgG": state_dict("x"), "config": made, "empty": config()})
    contents = read_bytes(data)
    assert contents.extra == {"config": {"depthScales": [16, 8]}, "empty": {}}


def test_the_prefix_of_data_parallel_is_taken_off_where_all_names_have_it() -> None:
    contents = read_bytes(
        torch_bytes({"a": state_dict("module.x", "module.y.module.z"), "b": state_dict("module.x", "y")})
    )
    assert list(contents.networks["a"].tensors) == ["x", "y.module.z"]
    assert list(contents.networks["b"].tensors) == ["module.x", "y"]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
)
def test_tensors_of_all_types_views_and_shared_storages_are_exact(dtype: str, zipped: bool) -> None:
    whole = (torch.arange(24) % 7).to(getattr(torch, dtype)).reshape(4, 6)
    views = {
        "whole": whole,
        "turned": whole.T,
        "part": whole[1:3, ::2],
        "last": whole[3, 5],
        "none": whole[:0],
        "parameter": torch.nn.Parameter(whole.clone(), requires_grad=False),
        "copy": whole.clone(),
    }
    found = read_bytes(torch_bytes(views, zipped)).networks[""].tensors
    for name, tensor in views.items():
        expected = (tensor.float() if dtype == "bfloat16" else tensor).detach().numpy()
        assert found[name].dtype == expected.dtype
        assert found[name].shape == expected.shape
        assert np.array_equal(found[name], expected)


def test_tensors_are_views_of_the_file_where_they_stand_in_order() -> None:
    data = torch_bytes({"a": torch.arange(6.0).reshape(2, 3), "b": torch.arange(6.0).reshape(2, 3).T})
    found = read_bytes(data).networks[""].tensors
    whole = np.frombuffer(data, np.uint8)
    assert np.shares_memory(found["a"], whole)
    assert not found["a"].flags.writeable
    assert not np.shares_memory(found["b"], whole)


def test_an_archive_that_was_packed_again_is_read() -> None:
    data, packed = torch_bytes(state_dict("a")), io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert read_bytes(packed.getvalue()).networks[""].tensors["a"].tolist() == [[0, 1, 2], [3, 4, 5]]


def archive(**changes: bytes | None) -> bytes:
    """A torch archive with other members, by the end of their names."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(torch_bytes(state_dict("a")))) as source, zipfile.ZipFile(made, "w") as target:
        members = {name.partition("/")[2]: source.read(name) for name in source.namelist()}
        for name, content in {**members, **changes}.items():
            if content is not None:
                target.writestr(f"archive/{name}", content)
    return made.getvalue()


def damaged(data: bytes, part: bytes) -> bytes:
    """One bit of the part is turned over, where it stands first."""
    place = data.index(part)
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (archive(**{"data/0": None}), "a storage of 6 values has no bytes"),
        (archive(**{"data/0": bytes(20)}), "a storage of 6 values has 20 bytes"),
        (archive(**{"data.pkl": None}), "it needs exactly one data.pkl.*unpack it and give the checkpoint in it"),
        (archive(**{"constants.pkl": b""}), r"a TorchScript program; save .*torch.jit.load\(FILE\).state_dict"),
        (archive(byteorder=b"big"), "written by a big-endian machine"),
        (damaged(archive(), struct.pack("<2f", 4, 5)), "its checksum differs; download it again"),
        (archive()[:-30], "cut off .its archive has no end.; download it again"),
        (archive()[:400], "cut off"),
        (torch_bytes(state_dict("a"), False)[:-8], "damaged or cut off, download it again"),
        (torch_bytes([1, 2]), "a torch file of a list; expected dictionaries of tensors"),
        (torch_bytes({}), "a torch file of a dict; expected"),
        (torch_bytes({"a": 1}), "without a dictionary of tensors"),
        (torch_bytes({"a": state_dict("x"), 3: 4}), "an entry named 3; expected a text of at most 200"),
        (torch_bytes({3: torch.ones(1)}), "a tensor named 3; expected a text"),
        (torch_bytes({"x" * 300: torch.ones(1)}), "expected a text of at most 200"),
        (torch_bytes(torch.nn.Linear(2, 2)), "asks for 'torch.nn.modules.linear.Linear'"),
        (torch_bytes({"a": torch.ones(2, dtype=torch.complex64)}), "asks for 'torch.ComplexFloatStorage'"),
    ],
)
def test_a_torch_file_that_is_not_as_expected_is_refused(data: bytes, sentence: str) -> None:
    with pytest.raises(WeightsError, match=sentence):
        read_bytes(data)


# Networks alone


@pytest.mark.parametrize(
    ("index", "change", "expected"),
    [(0, {}, "G"), (1, {}, "D"), (2, {}, "Gs"), (2, {"name": "other"}, "Gs"), (1, {"name": "other"}, "D")],
)
@pytest.mark.parametrize("alone", [True, False])
def test_one_network_alone_has_the_name_that_its_state_says(
    index: int, change: dict[str, Any], expected: str, alone: bool
) -> None:
    state = State({**progan_states()[index], **change})
    contents = read_bytes(tensorflow_bytes(state if alone else (state,)))
    assert list(contents.networks) == [expected]


@pytest.mark.parametrize(("name", "expected"), [("G_ema", "G_ema"), ("G", "G_ema"), ("D", "D")])
def test_a_module_alone_is_the_averaged_generator_or_the_discriminator(name: str, expected: str) -> None:
    contents = read_bytes(persistence_bytes(persistence_content()[name]))
    assert (contents.container, contents.version, list(contents.networks)) == ("persistence pickle", 6, [expected])
    assert contents.networks[expected].tensors["weight"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["MappingNetwork", "AugmentPipe"])
def test_a_part_alone_is_no_network(kind: str) -> None:
    part = meta(kind, module_state({"weight": torch.arange(4.0)}))
    for content in (part, {"part": part}):
        with pytest.raises(WeightsError, match=f"it holds a {kind}, .*; take the file that has G_ema"):
            read_bytes(persistence_bytes(content))


@pytest.mark.parametrize("count", [2, 4])
def test_another_number_of_networks_is_refused(count: int) -> None:
    states = [State(state) for state in (progan_states() * 2)[:count]]
    with pytest.raises(WeightsError, match=f"a pickle of {count} objects; expected the networks G, D and Gs"):
        read_bytes(tensorflow_bytes(tuple(states)))


def test_the_averaged_generator_is_taken_and_the_raw_one_on_request(tmp_path: Path) -> None:
    path = write(tmp_path / "g.pkl", progan_bytes())
    states = {state["name"]: dict(state["variables"]) for state in progan_states()}
    for which, source in (("average", "Gs"), ("raw", "G")):
        found = official.open_checkpoint(path, which)
        assert found.source == source
        original = states[source]["ToRGB_lod0/weight"].transpose(3, 2, 0, 1)
        assert np.array_equal(found.tensors["b8.torgb.weight"], original)
    assert not np.array_equal(states["G"]["ToRGB_lod0/weight"], states["Gs"]["ToRGB_lod0/weight"])
    judge = official.discriminator(path)
    assert judge is not None
    assert judge.source == "D"
    with pytest.raises(ValueError, match="which is 'best'; expected 'average' or 'raw'"):
        official.open_checkpoint(path, "best")


@pytest.mark.parametrize(("name", "shape"), [("4x4/Conv/weight", (3, 3, 0, 4)), ("4x4/Conv/bias", ()), ("lod", (0,))])
def test_a_tensor_of_a_shape_that_no_layer_has_is_refused(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    states = [State(state) for state in progan_states()]
    places = [place for place, _ in states[2]["variables"]]
    states[2]["variables"][places.index(name)] = (name, np.zeros(shape, np.float32))
    path = write(tmp_path / "g.pkl", tensorflow_bytes(tuple(states)))
    with pytest.raises(WeightsError, match=re.escape(f"its tensor '{name}' has shape {shape}, as no layer has")):
        official.open_checkpoint(path)


def test_a_snapshot_of_a_translator_is_raw(tmp_path: Path) -> None:
    path = write(tmp_path / "nets.ckpt", made_files()["made stargan2 with discriminator, older file"])
    assert official.open_checkpoint(path, "raw").source == "nets"
    judge = official.discriminator(path)
    assert judge is not None
    assert judge.family == "stargan2"


def test_large_arrays_of_protocol_2_stay_within_the_budget() -> None:
    values = np.random.default_rng(0).integers(0, 256, 8 << 20, dtype=np.uint8).view("<i4")
    states = [State({**state, "variables": [("x", values)]}) for state in progan_states()]
    contents = read_bytes(
        tensorflow_bytes((states[0], states[1], State({**states[2], "variables": [("y", values + 1)]})), 2)
    )
    assert np.array_equal(contents.networks["Gs"].tensors["y"], values + 1)


def test_reading_needs_no_torch(tmp_path: Path) -> None:
    path = write(tmp_path / "g.pt", torch_bytes(state_dict("a")))
    program = (
        "import sys, pathlib\nfrom stages.weights.checkpoints import read_contents\n"
        "read_contents(pathlib.Path(sys.argv[1]))\nsys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", program, str(path)], cwd=root, check=False).returncode == 0


def test_contents_are_made_of_what_the_file_holds() -> None:
    contents = read_bytes(persistence_bytes({"G_ema": persistence_content()["G_ema"]}))
    assert isinstance(contents, Contents)
    assert list(contents.networks) == ["G_ema"]
    with pytest.raises(WeightsError, match="an entry named 3; expected a text"):
        read_bytes(persistence_bytes({3: Meta(persistence_content()["G_ema"])}))
    augmented = {**persistence_content(), "augment_pipe": meta("AugmentPipe", module_state({"p": torch.zeros(1)}))}
    assert set(read_bytes(persistence_bytes(augmented)).networks) == {"G", "D", "G_ema"}


def test_a_call_in_a_top_level_value_is_refused() -> None:
    with pytest.raises(WeightsError, match="nothing was run"):
        read_bytes(torch_bytes({"a": state_dict("x"), "b": Calls(print, "hello")}))
