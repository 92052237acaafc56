"""`touchstone checkpoint`: what it says of files, what it writes, and what an entry of a manifest needs."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import State, progan_bytes, progan_states, tensorflow_bytes, torch_bytes, write
from command_line import Command, command
from toy_project import ROOT

from pipeline.declaring.config import load_pipeline
from pipeline.declaring.document import load
from pipeline.errors import ConfigError
from stages.generators import generator_file, stargan2, weights
from stages.generators.official import converters

WIDTH = 4  # feature maps of `progan_bytes` at 8 pixels
PARAMETERS = {
    "generator": (WIDTH * 16 * WIDTH + WIDTH) + 3 * (9 * WIDTH * WIDTH + WIDTH) + 2 * (WIDTH * 3 + 3),
    "discriminator": 2 * (3 * WIDTH + WIDTH)
    + 2 * (9 * WIDTH * WIDTH + WIDTH)
    + (9 * (WIDTH + 1) * WIDTH + WIDTH)
    + (16 * WIDTH * WIDTH + WIDTH)
    + (WIDTH + 1),
}
"""Counted by hand: dense layer, convolutions of 3x3, colors; colors, convolutions, 4x4 with deviation, two dense."""


@pytest.fixture
def touchstone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    return command(monkeypatch, capsys)


@pytest.fixture
def progan(tmp_path: Path) -> Path:
    return write(tmp_path / "progan.pkl", progan_bytes())


def test_all_that_a_file_says_is_in_the_json(touchstone: Command, progan: Path) -> None:
    said = touchstone("checkpoint", "progan.pkl", "--json")
    assert (said.code, said.err) == (0, "")
    facts = said.facts()
    data = progan.read_bytes()
    assert facts["file"] == "progan.pkl"
    assert facts["size"] == len(data)
    assert facts["sha256"] == hashlib.sha256(data).hexdigest()
    assert (facts["container"], facts["version"]) == ("tensorflow pickle", 2)
    assert (facts["family"], facts["form"]) == ("progan", "tensorflow")
    generator = facts["generator"]
    assert {key: generator[key] for key in weights.DIMENSIONS} == {"resolution": 8, "z_dim": 4, "w_dim": 0, "c_dim": 0}
    assert generator["source"] == "Gs"
    assert generator["truncation"] == {"psi": 1.0, "cutoff": None}
    assert generator["architecture"]["fmap_max"] == WIDTH
    assert generator["parameters"] == PARAMETERS["generator"]
    assert generator["values"] == PARAMETERS["generator"] + 1  # lod
    assert facts["discriminator"]["parameters"] == PARAMETERS["discriminator"]
    assert facts["networks"]["Gs"] == {"class": "G_paper", "tensors": 13, "values": PARAMETERS["generator"] + 1}
    assert (facts["other_entries"], facts["unread_entries"]) == ([], [])


def test_the_text_names_what_the_json_names(touchstone: Command, progan: Path) -> None:
    said = touchstone("checkpoint", "progan.pkl")
    assert (said.code, said.err) == (0, "")
    lines = {line.split("  ")[0].strip() or line.split()[0]: line for line in said.out.splitlines()}
    assert lines["container"].endswith("tensorflow pickle, version 2")
    assert lines["family"].endswith("progan (tensorflow)")
    assert lines["generator"].endswith(f"Gs: {PARAMETERS['generator']:,} parameters and 1 constant")
    assert hashlib.sha256(progan.read_bytes()).hexdigest() in lines["sha256"]
    for text in ("8 pixels", "z 4, w none, labels 0", "fmap_max 4", "D: D_paper, 15 tensors"):
        assert text in said.out


def test_the_raw_generator_is_described_on_request(touchstone: Command, progan: Path) -> None:
    assert touchstone("checkpoint", "progan.pkl", "--network", "raw", "--json").facts()["generator"]["source"] == "G"


@pytest.mark.parametrize("network", ["average", "raw", "discriminator"])
def test_a_network_is_written_as_a_file_of_ours(touchstone: Command, progan: Path, network: str) -> None:
    said = touchstone(
        "checkpoint", "progan.pkl", "--network", network, "--to", "safetensors", "--out", "new/g.safetensors", "--json"
    )
    assert (said.code, said.err) == (0, "")
    role = "discriminator" if network == "discriminator" else "generator"
    facts = said.facts()
    assert (facts["container"], facts["family"], facts["form"]) == ("safetensors", "progan", "touchstone")
    assert facts[role]["parameters"] == PARAMETERS[role]
    path = Path("new/g.safetensors")
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [entry.name for entry in path.parent.iterdir()] == ["g.safetensors"]
    assert weights.read_header(path).network == role
    _, loaded = weights.load(path, role)
    name, original = {"average": ("Gs", 2), "raw": ("G", 0), "discriminator": ("D", 1)}[network]
    theirs = dict(progan_states()[original]["variables"])
    assert progan_states()[original]["name"] == name
    kernel = theirs["8x8/Conv1/weight"].transpose(3, 2, 0, 1)
    assert np.array_equal(loaded.state_dict()["b8.conv1.weight"].numpy(), kernel)
    again = touchstone("checkpoint", str(path), "--json")
    assert again.code == 0
    assert again.facts() == facts


def test_an_existing_file_is_replaced_with_force_alone(touchstone: Command, progan: Path, tmp_path: Path) -> None:
    arguments = ("checkpoint", "progan.pkl", "--to", "safetensors", "--out", "g.safetensors")
    (tmp_path / "g.safetensors").write_text("precious")
    said = touchstone(*arguments)
    assert said.code == 2
    assert said.err == "touchstone: g.safetensors exists; choose another name, or replace it with --force\n"
    assert (tmp_path / "g.safetensors").read_text() == "precious"
    assert touchstone(*arguments, "--force").code == 0
    weights.read_header(tmp_path / "g.safetensors")
    before = progan.read_bytes()
    said = touchstone(*arguments[:-1], "progan.pkl", "--force")
    assert (said.code, said.err) == (2, "touchstone: progan.pkl exists; choose another name\n")
    assert progan.read_bytes() == before
    said = touchstone(*arguments[:-1], str(tmp_path), "--force")
    assert (said.code, said.err) == (2, f"touchstone: {tmp_path} exists; choose another name\n")


def test_a_failed_conversion_leaves_no_file(touchstone: Command, tmp_path: Path) -> None:
    states = progan_states()
    states[2]["variables"].append(("extra", np.zeros(3, np.float32)))
    write(tmp_path / "g.pkl", tensorflow_bytes(tuple(State(state) for state in states)))
    said = touchstone("checkpoint", "g.pkl", "--to", "safetensors", "--out", "g.safetensors", "--force")
    assert (said.code, said.out) == (1, "")
    assert re.fullmatch(r"touchstone: g.pkl is refused: .*unknown tensors.* extra\n", said.err)
    assert [path.name for path in tmp_path.iterdir()] == ["g.pkl"]


def test_a_network_that_cannot_be_used_is_described_with_the_reason(touchstone: Command, tmp_path: Path) -> None:
    states = progan_states()
    states[2]["variables"].append(("extra", np.zeros(3, np.float32)))
    write(tmp_path / "g.pkl", tensorflow_bytes(tuple(State(state) for state in states)))
    said = touchstone("checkpoint", "g.pkl", "--json")
    assert (said.code, said.err) == (1, "")
    assert re.search(r"g.pkl is refused: .* unknown tensors.* extra", said.facts()["generator"]["refused"])
    assert said.facts()["discriminator"]["parameters"] == PARAMETERS["discriminator"]
    said = touchstone("checkpoint", "g.pkl")
    assert said.code == 1
    assert re.search(r"^generator +refused: g.pkl is refused: .* extra$", said.out, re.MULTILINE)
    said = touchstone("checkpoint", "g.pkl", "--network", "raw")
    assert said.code == 0


def test_a_snapshot_is_refused_with_the_way_out_that_works(touchstone: Command, tmp_path: Path) -> None:
    write(tmp_path / "g.pkl", tensorflow_bytes(State(progan_states()[0])))
    said = touchstone("checkpoint", "g.pkl", "--json")
    assert said.code == 1
    way_out = re.search(
        r"touchstone (checkpoint FILE --network raw --to safetensors)", said.facts()["generator"]["refused"]
    )
    assert way_out
    said = touchstone(*way_out[1].replace("FILE", "g.pkl").split(), "--out", "g.safetensors")
    assert said.code == 0


def test_a_file_of_a_discriminator_alone_is_described(touchstone: Command, tmp_path: Path) -> None:
    write(tmp_path / "d.pkl", tensorflow_bytes(State(progan_states()[1])))
    said = touchstone("checkpoint", "d.pkl", "--json")
    assert said.code == 0
    assert said.facts()["generator"] is None
    assert said.facts()["discriminator"]["source"] == "D"
    assert "generator" in touchstone("checkpoint", "d.pkl").out
    said = touchstone("checkpoint", "d.pkl", "--to", "safetensors", "--out", "d.safetensors")
    assert said.code == 1
    assert said.err.startswith("touchstone: d.pkl holds a discriminator only; images need the file with the generator")


def test_a_translator_and_its_unread_entries_are_described(touchstone: Command, tmp_path: Path) -> None:
    network = stargan2.Generator(
        resolution=64, width=4, max_width=4, z_dim=4, w_dim=6, c_dim=2, mapping_width=8, w_hpf=0.0
    )
    parts: dict[str, Any] = {"optims": {"state": {0: {"step": torch.ones(1)}}}, "step": 7}
    for name, tensor in network.state_dict().items():
        part, _, inner = name.partition(".")
        parts.setdefault(part, {})[inner] = tensor
    write(tmp_path / "nets_ema.ckpt", torch_bytes(parts))
    facts = touchstone("checkpoint", "nets_ema.ckpt", "--json").facts()
    assert (facts["container"], facts["version"], facts["family"]) == ("torch zip", None, "stargan2")
    assert facts["generator"]["parameters"] == sum(tensor.numel() for tensor in network.parameters())
    assert (facts["generator"]["c_dim"], facts["generator"]["resolution"]) == (2, 64)
    assert facts["discriminator"] is None
    assert (facts["other_entries"], facts["unread_entries"]) == (["step"], ["optims"])
    said = touchstone("checkpoint", "nets_ema.ckpt").out
    assert re.search(r"^not read +optims$", said, re.MULTILINE)
    assert re.search(r"^discriminator +none$", said, re.MULTILINE)


def test_a_file_of_ours_is_described_without_being_converted(touchstone: Command, tmp_path: Path) -> None:
    network = stargan2.Generator(
        resolution=64, width=4, max_width=4, z_dim=4, w_dim=6, c_dim=2, mapping_width=8, w_hpf=0.0
    )
    tensors = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    architecture: dict[str, Any] = {"resolution": 64, "width": 4, "max_width": 4, "z_dim": 4, "w_dim": 6, "c_dim": 2}
    architecture |= {"mapping_width": 8, "w_hpf": 0.0}
    weights.save(tmp_path / "g.safetensors", "stargan2", architecture, tensors, domains=("cat", "dog"))
    facts = touchstone("checkpoint", "g.safetensors", "--json").facts()
    assert facts["generator"]["domains"] == ["cat", "dog"]
    assert facts["generator"]["architecture"] == architecture
    assert "cat, dog" in touchstone("checkpoint", "g.safetensors").out
    said = touchstone("checkpoint", "g.safetensors", "--to", "safetensors", "--out", "h.safetensors")
    assert (said.code, said.err) == (1, "touchstone: g.safetensors is a file of this project already; copy it\n")


@pytest.mark.parametrize("options", ["", "--to safetensors --out h.safetensors"])
@pytest.mark.parametrize("content", [b"\xc8\x0d\x6b\x5a\xd1\x80\xd1\xf8{}", b"no weights", b"<html>"])
def test_a_bogus_safetensors_file_is_refused_as_planning_refuses_it(
    touchstone: Command, tmp_path: Path, content: bytes, options: str
) -> None:
    (tmp_path / "g.safetensors").write_bytes(content)
    said = touchstone("checkpoint", "g.safetensors", *options.split())
    with pytest.raises(weights.WeightsError) as planned:
        generator_file.read_header(Path("g.safetensors"))
    assert (said.code, said.err) == (1, f"touchstone: {planned.value}\n")
    assert content[:1] == b"<" or said.err.endswith("; get it again\n")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("rdn-small-SR", "is a re-synthesizer; use it as `model` of residual or `checkpoint` of simulate\n"),
        ("perceptual-small", "is a perceptual network; use it as `perceptual` of residual\n"),
    ],
)
def test_a_network_that_is_no_generator_is_named_with_its_place(touchstone: Command, name: str, sentence: str) -> None:
    said = touchstone("checkpoint", str(ROOT / f"manifests/weights/{name}.safetensors"))
    assert said.code == 1
    assert said.err.endswith(f"{name}.safetensors {sentence}")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ("absent.pkl", 2, "touchstone: absent.pkl is not a file; give the path of a checkpoint"),
        (".", 2, "touchstone: . is not a file; give the path of a checkpoint"),
        (
            "page.pkl",
            1,
            "touchstone: page.pkl is an HTML or XML page, a web page in place of the file; download it again",
        ),
        ("page.pkl --to safetensors --out x.safetensors", 1, "touchstone: page.pkl is an HTML or XML page"),
        ("progan.pkl --to safetensors", 2, "touchstone: a conversion needs both --to safetensors and --out FILE"),
        ("progan.pkl --out x", 2, "touchstone: a conversion needs both --to safetensors and --out FILE"),
        ("absent.pkl --to safetensors --out x", 2, "touchstone: absent.pkl is not a file"),
        ("progan.pkl --network discriminator", 2, "touchstone: --network discriminator is for conversion; give --to"),
        ("progan.pkl --to pickle --out x", 2, "Invalid value for '--to'"),
        ("progan.pkl --network best", 2, "Invalid value for '--network'"),
        ("", 2, "Missing argument 'FILE'"),
    ],
)
def test_a_mistake_is_one_sentence(touchstone: Command, progan: Path, arguments: str, code: int, sentence: str) -> None:
    write(progan.parent / "page.pkl", b"<html>")
    said = touchstone("checkpoint", *arguments.split())
    assert (said.code, said.out) == (code, "")
    assert sentence in said.err
    assert sorted(path.name for path in progan.parent.iterdir()) == ["page.pkl", "progan.pkl"]


def test_the_examples_of_the_help_work(touchstone: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = touchstone("checkpoint", "--help").out.partition("Examples:")[2].strip().splitlines()
    assert len(examples) == 2
    monkeypatch.chdir(ROOT)
    for example in examples:
        said = touchstone(*shlex.split(example)[1:])
        assert (said.code, said.err) == (0, "")
        assert said.out


# Entries of manifests

FILE = "nodes:\n  fakes: {stage: sample, checkpoint: 'list.yaml#net', count: 2}\n"


def entry(folder: Path, **facts: Any) -> Any:
    """The pipeline of one node whose checkpoint is an entry of these facts."""
    folder.joinpath("list.yaml").write_text(json.dumps({"net": facts}))
    folder.joinpath("pipeline.yaml").write_text(FILE)
    return load_pipeline(folder / "pipeline.yaml")


def test_an_entry_without_a_digest_says_the_line_to_add_and_then_works(progan: Path) -> None:
    folder = progan.parent
    before = set(folder.iterdir()) | {folder / "list.yaml", folder / "pipeline.yaml"}
    with pytest.raises(ConfigError) as caught:
        entry(folder, file="progan.pkl")
    said = str(caught.value)
    line = re.search(
        r"list.yaml:1 net lacks 'sha256'; if progan.pkl is the right file, add the line '(sha256: .*)'$", said
    )
    assert line
    assert set(folder.iterdir()) == before
    digest = line[1].removeprefix("sha256: ")
    assert digest == hashlib.sha256(progan.read_bytes()).hexdigest()
    pipeline = entry(folder, file="progan.pkl", sha256=digest)
    assert pipeline.nodes["fakes"].files["checkpoint"].sha256 == digest


def test_an_entry_without_a_file_says_where_its_authors_publish_it(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"net lacks 'file', .*; get it from the repository a/b, then add the line 'file: "
    ):
        entry(tmp_path, page="the repository a/b")
    with pytest.raises(ConfigError, match=r"net lacks 'file', the path of the checkpoint; add the line 'file: PATH'"):
        entry(tmp_path, sha256="0" * 64)


def test_every_official_release_has_an_entry_that_lacks_what_the_user_knows(tmp_path: Path) -> None:
    entries = load(ROOT / "manifests" / "official.yaml").data
    assert {facts["family"] for facts in entries.values()} == set(converters())
    for name, facts in entries.items():
        assert name.startswith(facts["family"])
        assert set(facts) == {"family", "released_as", "data", "resolution", "truncation", "licence", "page"}
        assert set(facts["truncation"]) == {"psi", "cutoff"}
        assert facts["resolution"] in (32, 64, 256, 512, 1024)
        assert "://" not in json.dumps(facts)
        tmp_path.joinpath("pipeline.yaml").write_text(FILE.replace("list.yaml#net", f"official.yaml#{name}"))
        tmp_path.joinpath("official.yaml").write_bytes((ROOT / "manifests" / "official.yaml").read_bytes())
        with pytest.raises(
            ConfigError, match=re.escape(f"lacks 'file', the path of the checkpoint; get it from {facts['page']}")
        ):
            load_pipeline(tmp_path / "pipeline.yaml")
