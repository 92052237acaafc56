"""Files of re-synthesizers: ours, the published layout in all its forms, and one sentence for each that is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from pipeline.planning.closure import closure
from pipeline.stage import Artifact, Context, Promise
from stages.resynthesis import weights
from stages.resynthesis.rdn import RDN
from stages.resynthesis.weights import Architecture, WeightsError

SMALL = Architecture(4, 4, 2, 3)


def network(architecture: Architecture = SMALL, seed: int = 0) -> RDN:
    torch.manual_seed(seed)
    return RDN(**asdict(architecture)).requires_grad_(False)


def arrays(made: RDN) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in made.state_dict().items()}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    weights.save(tmp_path / "own.safetensors", SMALL, "SR+D", arrays(network()))
    return tmp_path / "own.safetensors"


def same(first: RDN, second: RDN) -> bool:
    x = torch.rand(1, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    return bool((first(x) == second(x)).all())


# The published layout


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("key", [None, "state_dict"])
@pytest.mark.parametrize("architecture", [SMALL, Architecture(3, 7, 1, 2)])
def test_the_published_layout_loads(
    tmp_path: Path, architecture: Architecture, key: str | None, prefix: str, legacy: bool
) -> None:
    made = network(architecture)
    state = {prefix + name: tensor for name, tensor in made.state_dict().items()}
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    content: Any = state if key is None else {"epoch": 7, key: state, "optimizer": optimizer}
    path = tmp_path / "published.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    header = weights.read_header(path)
    assert (header.architecture, header.task, header.size) == (architecture, None, "other")
    loaded = weights.load(path, "cpu")
    assert same(loaded, made)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_the_size_is_seen_in_the_shapes(tmp_path: Path) -> None:
    for size in ("small", "tiny"):
        torch.save(network(weights.SIZES[size]).half().state_dict(), tmp_path / f"{size}.pt")
        assert weights.read_header(tmp_path / f"{size}.pt").size == size
        assert weights.load(tmp_path / f"{size}.pt", "cpu").output.weight.dtype == torch.float32


def test_a_detector_in_the_same_file_is_left_alone(tmp_path: Path) -> None:
    content = {"state_dict": {"fc.weight": torch.ones(2, 3)}, "sr": network().state_dict()}
    torch.save(content, tmp_path / "both.pth")
    assert same(weights.load(tmp_path / "both.pth", "cpu"), network())


class Evil:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("legacy", [False, True])
def test_no_code_of_a_file_runs(tmp_path: Path, legacy: bool) -> None:
    content = {"state_dict": network().state_dict(), "args": Evil(tmp_path / "made")}
    torch.save(content, tmp_path / "evil.pth", _use_new_zipfile_serialization=not legacy)
    for read in (weights.read_header, lambda path: weights.load(path, "cpu")):
        with pytest.raises(WeightsError, match=r"evil.pth is refused: .*mkdir"):
            read(tmp_path / "evil.pth")
    assert not (tmp_path / "made").exists()


def changed(**changes: Any) -> dict[str, Any]:
    """A state dict with other or, by None, without some tensors; names with _ for a dot."""
    state = {**network().state_dict(), **{name.replace("__", "."): value for name, value in changes.items()}}
    return {name: value for name, value in state.items() if value is not None}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"state_dict": {"fc.weight": torch.ones(1)}}, "holds no re-synthesizer .*; its state dicts are 'state_dict'$"),
        ({"a": changed(), "b": changed()}, "holds 2 re-synthesizers; its state dicts are 'a', 'b'$"),
        (changed(gff__0__bias=None), r"it lacks gff\.0\.bias$"),
        (changed(extra=torch.ones(1)), "it has the unknown extra$"),
        (changed(rdbs__1__layers__2__conv__weight=None), r"lacks rdbs\.1\.layers\.2\.conv\.weight$"),
        (changed(sfe2__bias=torch.ones(5)), r"tensor 'sfe2.bias' has shape \(5,\), its network needs \(4,\)$"),
        (changed(sfe2__bias=torch.full((4,), torch.nan)), "'sfe2.bias' has 4 values that are not finite"),
        (changed(sfe2__bias=torch.ones(4, dtype=torch.int64)), "'sfe2.bias' has values of int64; expected floating-"),
        (changed(rdbs__0__layers__0__conv__weight=None), "it lacks weights of 'sfe1' or of 'rdbs.0.layers.0'$"),
        (changed(rdbs__9999__layers__0__conv__weight=torch.ones(1)), r"of counts \(4, 4, 10000, 3\); expected 1"),
    ],
)  # fmt: skip
def test_a_file_with_other_tensors_is_refused(tmp_path: Path, content: Any, sentence: str) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=rf"^{tmp_path}/w.pth.*{sentence}"):
        weights.load(tmp_path / "w.pth", "cpu")


# Our file


def test_our_file_comes_back_and_is_the_same_bytes_each_time(own: Path) -> None:
    header = weights.read_header(own)
    assert (header.architecture, header.task, header.size) == (SMALL, "SR+D", "other")
    assert header.shapes == {name: array.shape for name, array in arrays(network()).items()}
    assert same(weights.load(own, "cpu"), network())
    before = own.read_bytes()
    weights.save(own, SMALL, "SR+D", dict(reversed(arrays(network()).items())))
    assert own.read_bytes() == before
    weights.save(own, SMALL, "SR+D", arrays(network(seed=1)))
    assert same(weights.load(own, "cpu"), network(seed=1))  # a new file under the old name


def test_what_does_not_fit_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"w\.safetensors does not fit its network: it lacks rdbs\.2"):
        weights.save(tmp_path / "w.safetensors", Architecture(4, 4, 3, 3), "SR", arrays(network()))
    assert not list(tmp_path.iterdir())


def rewritten(path: Path, **changes: Any) -> None:
    """Change the description of a file."""
    about = {"format": 1, "network": "rdn", "architecture": asdict(SMALL), "task": "SR", **changes}
    save_file(load_file(path), path, metadata={"touchstone": json.dumps(about)})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"network": "vgg"}, "holds 'vgg'; expected the network 'rdn' of train_resynthesizer$"),
        ({"network": "perceptual"}, "is a perceptual network; use it as `perceptual` of residual$"),
        ({"network": "generator"}, "is a generator; use it as `checkpoint` of sample, translate or simulate$"),
        ({"format": 2}, "is of format 2; this version reads format 1$"),
        ({"architecture": {"features": 4}}, r"architecture is \{'features': 4\}; expected counts of features, growth"),
        ({"architecture": asdict(SMALL) | {"growth": 4.0}}, "expected counts of features, growth, blocks, layers$"),
        ({"architecture": asdict(SMALL) | {"growth": 1 << 40}}, "expected counts of features, growth, blocks, layers$"),
        ({"task": "sr"}, r"its task is 'sr'; expected SR, SR\+C, SR\+D, SR\+C\+D$"),
    ],
)
def test_a_wrong_description_is_refused(own: Path, changes: dict[str, Any], sentence: str) -> None:
    rewritten(own, **changes)
    with pytest.raises(WeightsError, match=rf"^{own}.*{sentence}"):
        weights.read_header(own)


def test_values_that_do_not_fit_the_description_are_refused(own: Path) -> None:
    rewritten(own, architecture=asdict(SMALL) | {"layers": 2})
    with pytest.raises(WeightsError, match=r"it has the unknown rdbs\.0\.layers\.2\.conv\.bias"):
        weights.load(own, "cpu")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is no whole safetensors file"),
        (b"\x10\0\0\0\0\0\0\0{}", "is no whole safetensors file"),
        (b"<html>", "is no whole safetensors file"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=rf"^{tmp_path}/w.safetensors {sentence}"):
        weights.read_header(tmp_path / "w.safetensors")


def test_other_files_are_named_for_what_they_are(own: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(own.read_bytes()[:-4])
    with pytest.raises(WeightsError, match=r"cut\.safetensors is no whole safetensors file"):
        weights.read_header(tmp_path / "cut.safetensors")
    save_file({"a": np.zeros(1, np.float32)}, tmp_path / "plain.safetensors")
    with pytest.raises(WeightsError, match=r"does not say what it holds \(metadata entry 'touchstone' is missing\)$"):
        weights.read_header(tmp_path / "plain.safetensors")
    save_file({"a": np.zeros(1, np.float32)}, tmp_path / "text.safetensors", metadata={"touchstone": "{"})
    with pytest.raises(WeightsError, match="its description is not JSON"):
        weights.read_header(tmp_path / "text.safetensors")
    (tmp_path / "page.pth").write_text("<html>")
    with pytest.raises(WeightsError, match="is an HTML or XML page"):
        weights.read_header(tmp_path / "page.pth")
    for path in (tmp_path / "none.pth", tmp_path / "none.safetensors"):
        with pytest.raises(WeightsError, match=rf"^{path} cannot be read"):
            weights.read_header(path)
        with pytest.raises(WeightsError, match=rf"^{path} is not a file; give the weights of a re-synthesizer$"):
            weights.load(path, "cpu")


# Planning


def test_a_node_promises_what_its_file_will_say(own: Path) -> None:
    promise = Promise("sr", weights.promised(SMALL, "SR+C"))
    assert weights.read_header(promise) == weights.Header(SMALL, "SR+C")
    assert weights.modules(promise) == ()
    with pytest.raises(WeightsError, match=r"^node 'other' does not train a re-synthesizer; name one that does"):
        weights.read_header(Promise("other", {"family": "progan"}))
    artifact = Artifact("sr", "key", own.parent)
    assert weights.place(Context(0, "s", artifacts={"model": (artifact,)}), "model") == own.parent / weights.FILE
    assert weights.place(Context(0, "s", files={"checkpoint": own})) == own


def test_the_reader_of_torch_files_is_code_of_those_files_alone(own: Path, tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "w.pth")
    readers = {"stages.resynthesis.published", "stages.weights.pickle_machine"}
    assert not readers & closure(("stages.resynthesis.weights", *weights.modules(own))).keys()
    assert readers <= closure(weights.modules(tmp_path / "w.pth")).keys()
    assert "stages.resynthesis.rdn" in closure(weights.modules(own))


def test_headers_are_read_without_torch(own: Path, tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "w.pth")
    code = (
        "import sys; from pathlib import Path; from stages.resynthesis import weights\n"
        "assert all(weights.read_header(Path(p)).architecture.layers == 3 for p in sys.argv[1:])\n"
        "weights.modules(Path(sys.argv[1])); assert 'torch' not in sys.modules"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, str(own), str(tmp_path / "w.pth")], cwd=root, check=True)
