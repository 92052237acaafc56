"""Our weights file: round trip, headers without torch, and one sentence for each way a file can be wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from stages.generators import stargan2, stylegan2, weights
from stages.generators.stylegan2_discriminator import Discriminator

ARCHITECTURE: dict[str, Any] = {
    "z_dim": 4,
    "c_dim": 0,
    "w_dim": 6,
    "resolution": 8,
    "channel_base": 64,
    "channel_max": 8,
    "mapping_layers": 2,
}


def tensors() -> dict[str, np.ndarray[Any, Any]]:
    torch.manual_seed(1)
    generator = stylegan2.Generator(**ARCHITECTURE)
    return {name: tensor.detach().numpy().copy() for name, tensor in generator.state_dict().items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    weights.save(tmp_path / "w.safetensors", "stylegan2", ARCHITECTURE, tensors(), {"psi": 0.7, "cutoff": 3})
    return tmp_path / "w.safetensors"


def rewrite(path: Path, change: Any) -> None:
    """Change the JSON header of a file and write it back."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    about = json.loads(header["__metadata__"]["touchstone"])
    change(header, about)
    if "__metadata__" in header:
        header["__metadata__"]["touchstone"] = json.dumps(about)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


def test_saved_weights_come_back_bit_for_bit(path: Path) -> None:
    family, generator = weights.load(path)
    assert family is stylegan2
    assert not generator.training
    state = generator.state_dict()
    for name, array in tensors().items():
        assert state[name].numpy().tobytes() == array.tobytes()
        assert load_file(path)[name].shape == array.shape  # plain safetensors reads it too


def test_the_same_weights_give_the_same_file(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "folder" / "again.safetensors"
    shuffled = dict(reversed(tensors().items()))
    weights.save(other, "stylegan2", dict(reversed(ARCHITECTURE.items())), shuffled, {"cutoff": 3, "psi": 0.7})
    assert other.read_bytes() == path.read_bytes()
    assert [file.name for file in other.parent.iterdir()] == ["again.safetensors"]  # no temporary file is left


def test_the_header_says_what_the_file_holds_without_torch(path: Path) -> None:
    header = weights.read_header(path)
    assert header.family == "stylegan2"
    assert header.architecture == ARCHITECTURE
    assert header.resolution == 8
    assert header.dimensions == {"resolution": 8, "z_dim": 4, "w_dim": 6, "c_dim": 0}
    assert header.truncation == {"psi": 0.7, "cutoff": 3}
    assert header.shapes["synthesis.b8.conv0.weight"] == (8, 8, 3, 3)
    code = (
        "import sys; from pathlib import Path; from stages.generators.weights import read_header\n"
        f"read_header(Path({str(path)!r})); sys.exit('torch was imported' if 'torch' in sys.modules else 0)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_half_precision_is_widened(path: Path) -> None:
    text = weights.read_header(path)
    about = {"format": 1, "family": "stylegan2", "architecture": ARCHITECTURE}
    about |= {"dimensions": dict(text.dimensions), "truncation": dict(text.truncation)}
    half = {name: array.astype(np.float16) for name, array in tensors().items()}
    save_file(half, path, {"touchstone": json.dumps(about)})
    _, generator = weights.load(path)
    found = generator.state_dict()["mapping.fc0.weight"]
    assert found.dtype == torch.float32
    assert np.array_equal(found.numpy(), half["mapping.fc0.weight"].astype(np.float32))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"<!DOCTYPE html><html>Sign in</html>", "is an HTML or XML page, not weights; download the file"),
        (b"\n<html>", "is an HTML or XML page"),
        (b"PK\x03\x04 and more bytes", "is a pickle or an archive, not safetensors; convert it"),
        (b"\x80\x04\x95 and more", "is a pickle or an archive"),
        (b"", "begins with a header of at most 8388608 bytes, found 0"),
        (b"\x10\x00", "begins with a header"),
        (
            (1 << 40).to_bytes(8, "little") + b"{}",
            "is no whole safetensors file: .* of at most 8388608 bytes, found 1099511627776; get it again$",
        ),
        ((50).to_bytes(8, "little") + b"{}", "is truncated: its header has 50 bytes, the file ends after 2 of them"),
        (
            (4).to_bytes(8, "little") + b"abcd",
            r"is no whole safetensors file \(invalid JSON in header: .*\); get it again$",
        ),
        ((2).to_bytes(8, "little") + b"[]", "invalid JSON in header: invalid type: sequence"),
        ((2).to_bytes(8, "little") + b"{}", "no description of a network"),
        ((100_000).to_bytes(8, "little") + b"[" * 100_000, "invalid JSON in header"),
        ((18).to_bytes(8, "little") + b'{"a": {}, "a": {}}', "invalid JSON in header: missing field `dtype`"),
    ],
)
def test_a_file_that_is_no_weights_file_is_named(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(weights.WeightsError, match=sentence) as caught:
        weights.read_header(path)
    assert str(path) in str(caught.value)


def test_a_missing_or_shortened_file_is_named(path: Path, tmp_path: Path) -> None:
    with pytest.raises(weights.WeightsError, match="cannot be read: No such file"):
        weights.read_header(tmp_path / "none.safetensors")
    content = path.read_bytes()
    path.write_bytes(content[:-10])
    with pytest.raises(weights.WeightsError, match=r"is truncated: its tensors need \d+ bytes, the file has \d+"):
        weights.read_header(path)
    path.write_bytes(content + b"12345")
    with pytest.raises(weights.WeightsError, match="has 5 bytes behind its last tensor"):
        weights.read_header(path)


def first_tensor(header: dict[str, Any]) -> dict[str, Any]:
    return next(entry for name, entry in header.items() if name != "__metadata__" and entry["shape"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda h, a: a.update(family="biggan"),
            "a network 'generator' of family 'biggan'; known are generator and discriminator of progan, style",
        ),
        (lambda h, a: a.update(network=["rdn"]), "holds a network a list of family 'stylegan2'"),
        (lambda h, a: a.update(family={"a": 1}), "of family a dict; known are"),
        (lambda h, a: a.update(network="rdn"), "is a re-synthesizer; use it as `model` of residual or "),
        (lambda h, a: a.update(network="perceptual"), "is a perceptual network; use it as `perceptual` of residual$"),
        (lambda h, a: a.update(format=2), "is of format 2; this version reads format 1"),
        (lambda h, a: a.pop("architecture"), "its description has no architecture"),
        (lambda h, a: a["dimensions"].update(z_dim=5), "its dimensions .* are not those of its architecture"),
        (lambda h, a: a["dimensions"].pop("w_dim"), "lacks one of the dimensions"),
        (lambda h, a: a.update(truncation=0.5), "its truncation is 0.5, expected psi, a number, and cutoff"),
        (lambda h, a: a.update(truncation={"psi": "low", "cutoff": None}), "its truncation is .*'low'.*, expected psi"),
        (lambda h, a: a.update(truncation={"psi": 0.5, "cutoff": 0}), "its truncation is .*, expected psi"),
        (lambda h, a: h.pop("__metadata__"), "no description of a network"),
        (lambda h, a: first_tensor(h).update(dtype="I32"), "has dtype I32; expected F16 or F32"),
        (
            lambda h, a: first_tensor(h).update(shape=[10**12, 10**12]),
            "whole .*overflow computing buffer size",
        ),
        (lambda h, a: first_tensor(h).update(shape=[-1, 2]), "whole .*integer `-1`, expected usize"),
        (lambda h, a: first_tensor(h).pop("dtype"), "whole .*missing field `dtype`"),
        (
            lambda h, a: h.update(extra={"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}),
            "whole .*invalid offset for tensor `",
        ),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(path: Path, change: Any, sentence: str) -> None:
    rewrite(path, change)
    with pytest.raises(weights.WeightsError, match=sentence):
        weights.read_header(path)


def wider(h: dict[str, Any], a: dict[str, Any]) -> None:
    a["architecture"]["w_dim"] = a["dimensions"]["w_dim"] = 7


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda h, a: h.update(other=h.pop("mapping.w_avg")), "lacks mapping.w_avg and has the unknown other"),
        (wider, "tensor .* has shape .*, its network needs"),
        (
            lambda h, a: a["architecture"].update(mapping_layers=1),
            "has the unknown mapping.fc1.bias, mapping.fc1.weight",
        ),
        (lambda h, a: a["architecture"].update(mapping_layers=3), "lacks mapping.fc2.bias, mapping.fc2.weight"),
        (lambda h, a: a["architecture"].update(mapping_layers=10**9), "cannot be built: .*1 to 64 layers"),
        (lambda h, a: a["architecture"].update(speed=3), "cannot be built: .*unexpected keyword argument 'speed'"),
        (lambda h, a: a["architecture"].update(channel_base="wide"), "cannot be built"),
    ],
)
def test_tensors_that_do_not_fit_the_network_are_refused(path: Path, change: Any, sentence: str) -> None:
    rewrite(path, change)
    with pytest.raises(weights.WeightsError, match=sentence):
        weights.load(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_counted(path: Path, tmp_path: Path, value: float) -> None:
    broken = tensors()
    broken["synthesis.b4.const"].reshape(-1)[:3] = value
    with pytest.raises(weights.WeightsError, match=r"'synthesis.b4.const' has 3 values that are not finite"):
        weights.save(tmp_path / "broken.safetensors", "stylegan2", ARCHITECTURE, broken)
    assert not (tmp_path / "broken.safetensors").exists()
    content = bytearray(path.read_bytes())
    content[-4:] = np.float32(value).tobytes()
    path.write_bytes(content)
    with pytest.raises(weights.WeightsError, match="has 1 values that are not finite"):
        weights.load(path)


@pytest.mark.parametrize("start", [b"\x80\x04", b"PK", b"\x1f\x8b", b"\x3c\x00"])
def test_a_header_whose_length_looks_like_a_pickle_or_an_archive_is_read(path: Path, start: bytes) -> None:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    wanted = next(number for number in range(length, 1 << 20) if number.to_bytes(8, "little").startswith(start))
    path.write_bytes(wanted.to_bytes(8, "little") + content[8 : 8 + length].ljust(wanted) + content[8 + length :])
    assert weights.read_header(path).architecture == ARCHITECTURE


DISCRIMINATOR: dict[str, Any] = {"c_dim": 2, "resolution": 8, "channel_base": 64, "channel_max": 8}


@pytest.fixture
def judge(tmp_path: Path) -> Path:
    """A discriminator of two named classes."""
    torch.manual_seed(2)
    state = Discriminator(**DISCRIMINATOR).state_dict()
    arrays = {name: tensor.detach().numpy().copy() for name, tensor in state.items()}
    path = tmp_path / "judge.safetensors"
    weights.save(path, "stylegan2", DISCRIMINATOR, arrays, network="discriminator", domains=["cat", "dog"])
    return path


def test_a_discriminator_comes_back_bit_for_bit_and_names_its_classes(judge: Path) -> None:
    header = weights.read_header(judge)
    assert (header.network, header.domains) == ("discriminator", ("cat", "dog"))
    assert header.dimensions == {"resolution": 8, "z_dim": 0, "w_dim": 0, "c_dim": 2}
    module, network = weights.load(judge, "discriminator")
    assert module.__name__ == "stages.generators.stylegan2_discriminator"
    torch.manual_seed(2)
    for name, tensor in Discriminator(**DISCRIMINATOR).state_dict().items():
        assert network.state_dict()[name].numpy().tobytes() == tensor.detach().numpy().tobytes()


def test_one_network_is_not_taken_for_the_other(path: Path, judge: Path) -> None:
    with pytest.raises(weights.WeightsError, match="holds a discriminator; a generator is wanted"):
        weights.load(judge, "generator")
    with pytest.raises(weights.WeightsError, match="holds a generator; a discriminator is wanted"):
        weights.load(path, "discriminator")


def test_a_file_without_the_entry_network_is_a_generator(path: Path) -> None:
    rewrite(path, lambda header, about: about.pop("network"))
    assert weights.read_header(path).network == "generator"
    assert weights.load(path, "generator")[0] is stylegan2


@pytest.mark.parametrize("domains", [["cat"], ["cat", "cat"], ["cat", ""], ["cat", 3], "ab", ["a", "b", "c"]])
def test_domains_are_one_name_for_each_class(judge: Path, domains: Any) -> None:
    rewrite(judge, lambda header, about: about.update(domains=domains))
    with pytest.raises(weights.WeightsError, match=r"its domains are .*, expected 2 different names"):
        weights.read_header(judge)


def test_a_dimension_that_the_architecture_leaves_to_a_default_must_be_named(judge: Path, tmp_path: Path) -> None:
    state = load_file(judge)
    short = {key: value for key, value in DISCRIMINATOR.items() if key != "resolution"}
    with pytest.raises(weights.WeightsError, match="cannot be built"):
        weights.save(tmp_path / "short.safetensors", "stylegan2", short, state, network="discriminator")
    with pytest.raises(weights.WeightsError, match="holds a network 'critic' of family 'stylegan2'; known"):
        weights.save(tmp_path / "critic.safetensors", "stylegan2", DISCRIMINATOR, state, network="critic")
    assert not list(tmp_path.glob("[sc]*.safetensors"))


def test_a_dimension_that_the_network_has_by_default_must_be_named(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"resolution": 32, "c_dim": 2, "width": 2, "max_width": 2, "mapping_width": 4}
    tensors = {name: tensor.detach().numpy() for name, tensor in stargan2.Generator(**sizes).state_dict().items()}
    with pytest.raises(weights.WeightsError, match="its architecture must name w_dim, which is 64"):
        weights.save(tmp_path / "star.safetensors", "stargan2", sizes, tensors)
    weights.save(tmp_path / "star.safetensors", "stargan2", {**sizes, "z_dim": 16, "w_dim": 64}, tensors)
    assert weights.read_header(tmp_path / "star.safetensors").dimensions["z_dim"] == 16
