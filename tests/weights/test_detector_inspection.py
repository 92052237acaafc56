"""`touchstone checkpoint` of published detectors: all entries that fit, and one named by digest or place only."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from command_line import Command, command
from toy_project import ROOT

from pipeline.errors import ConfigError
from stages.weights import detectors
from stages.weights.detector_entries import read_entries
from stages.weights.detector_inspection import SHIPPED, facts

CONTAINERS = ROOT / "tests" / "golden" / "detectors" / "containers"
TINY = CONTAINERS / "tiny_ladeda.pth"
ENTRIES: dict[str, Any] = yaml.safe_load(SHIPPED.read_text())


@pytest.fixture
def touchstone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return command(monkeypatch, capsys)


def manifest(folder: Path, **entries: dict[str, Any]) -> Path:
    """Entries like those of Tiny-LaDeDa, with other facts."""
    plain = {
        name: one for name, one in ENTRIES["tiny-ladeda-forensynth"].items() if name not in ("size", "sha256_prefix")
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump({name: {**plain, **more} for name, more in entries.items()}))
    return folder / "mine.yaml"


def test_all_entries_that_fit_are_listed_and_none_is_picked(touchstone: Command) -> None:
    said = touchstone("checkpoint", str(TINY), "--json")
    assert (said.code, said.err) == (0, "")
    found = said.facts()
    assert (found["container"], found["family"], found["generator"]) == ("torch zip", "published detector", None)
    assert found["sha256"] == hashlib.sha256(TINY.read_bytes()).hexdigest()
    assert found["networks"] == {"": {"class": "", "tensors": 21, "values": 1297 + 48 + 3}}
    assert found["detector"]["networks"] == ["tiny_ladeda"]
    assert found["detector"]["entries"] == ["tiny-ladeda-forensynth", "tiny-ladeda-wildrf"]
    assert found["detector"]["named"] == []
    text = touchstone("checkpoint", str(TINY)).out
    assert "entries      tiny-ladeda-forensynth, tiny-ladeda-wildrf of " in text
    assert "it is        named by none of them: its tensors do not tell strides" in text


def test_networks_that_differ_in_strides_alone_are_all_listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shapes = detectors.network_shapes("cnndetection", {})
    fitting = detectors.fitting_detectors(shapes)
    monkeypatch.setattr("stages.weights.detector_inspection.fitting_detectors", lambda shapes: fitting)
    torch.save({"model": {"fc.bias": torch.zeros(1)}}, tmp_path / "some.pth")
    found = facts(tmp_path / "some.pth")
    assert found is not None
    assert {"cnndetection-0.5", "cnndetection-0.1", "npr"} & set(found["detector"]["entries"]) == {
        "cnndetection-0.5", "cnndetection-0.1"
    }  # fmt: skip
    assert {"dire-lsun-adm", "grip-nodown-2021-progan", "fredect-aigcdetect"} <= set(found["detector"]["entries"])


def test_a_digest_or_a_place_names_an_entry(touchstone: Command, tmp_path: Path) -> None:
    shutil.copy(TINY, tmp_path / "tiny.pth")
    digest = hashlib.sha256(TINY.read_bytes()).hexdigest()
    path = manifest(
        tmp_path,
        known={"sha256": digest},
        begun={"sha256_prefix": digest[:10]},
        placed={"file": "tiny.pth"},
        another={"sha256": "0" * 64, "file": "tiny.pth"},
        other_net={"network": "npr", "file": "tiny.pth", "arguments": {}},
        elsewhere={"file": "lost.pth"},
    )
    said = touchstone("checkpoint", "tiny.pth", "--manifest", str(path), "--json").facts()["detector"]
    assert said["named"] == ["begun", "known", "placed"]
    assert said["entries"] == ["another", "begun", "elsewhere", "known", "placed"]
    assert (
        "it is        begun, known, placed, by the digest"
        in touchstone("checkpoint", "tiny.pth", "--manifest", "mine.yaml").out
    )


def test_a_file_that_fits_nothing_is_refused_as_before(touchstone: Command) -> None:
    for name in ("tiny_ladeda_missing_key.pth", "whole_module_zip.pth", "code_in_extra_entry.pth"):
        said = touchstone("checkpoint", str(CONTAINERS / name))
        assert (said.code, said.out) == (1, "")
        assert name in said.err


@pytest.mark.parametrize(("name", "container"), [
    ("mesoinception4_keras2.h5", "HDF5 of Keras"), ("tiny_ladeda_netC_module_legacy.pth", "torch legacy"),
])  # fmt: skip
def test_other_containers_are_described(name: str, container: str) -> None:
    found = facts(CONTAINERS / name)
    assert found is not None
    assert found["container"] == container


def test_the_entries_of_the_project_are_whole() -> None:
    entries = read_entries(SHIPPED)
    undecided = {"tiny-ladeda-wildrf", "ladeda-wildrf"}
    for name, entry in entries.items():
        if name in undecided:
            with pytest.raises(ValueError):
                entry.config(name)
        else:
            assert entry.config(name).name == name
    assert entries["cnndetection-0.5-nocrop"].config("x").preprocessing.crop is None
    assert entries["npr"].config("x").preprocessing.resize == 256
    assert entries["fredect-aigcdetect"].config("x").moments["variance"].file == "dct_var"
    assert entries["patch-forensics-xception-block2"].config("x").decision == "cells of fake, real"
    assert entries["mesoinception4-deepfake"].config("x").decision == "logit of real"


def test_a_manifest_with_a_mistake_names_its_line(tmp_path: Path) -> None:
    path = manifest(tmp_path, one={}, two={"licens": "MIT"})
    with pytest.raises(ConfigError, match=r"mine\.yaml:\d+ two 'licens' is no fact of a published detector; did"):
        read_entries(path)
