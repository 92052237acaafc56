"""All files that a pipeline misses are named at once, by line and by manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import command
from toy_project import Project

from pipeline.declaring.missing import missing_files
from pipeline.errors import ConfigError

PIPELINE = """
nodes:
  photos: {stage: ingest, folder: photos}
  more: {stage: ingest, manifest: ../more.yaml}
  packed: {stage: ingest, zip: packed.zip, label: fake}
  fakes:
    stage: sample
    matrix: {generator: [one, two, three]}
    checkpoint: mine.yaml#{generator}
    count: 4
  images: {stage: equalize, of: [photos, fakes], size: 8}
  network: {stage: train_resynthesizer, on: images, size: small}
  residuals: {stage: residual, of: images, model: network, levels: [pixel]}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    made = Project(tmp_path / "project", monkeypatch, PIPELINE)
    (made.folder / "photos").mkdir()
    (made.folder / "mine.yaml").write_text(
        "one: {file: one.pkl}\ntwo: {page: example.org/two}\nthree: {file: three.pkl, url: 'https://example.org/3'}\n"
    )
    return made


def test_every_file_is_named_with_line_and_way_out(project: Project) -> None:
    found = missing_files(project.file)
    assert [sentence.split(" names ")[-1] for sentence in found[:2]] == [
        "../more.yaml, which does not exist beside pipeline.yaml; put it there",
        "packed.zip, which does not exist beside pipeline.yaml; put it there",
    ]
    assert found[0].startswith("pipeline.yaml:4 nodes.more.manifest")
    assert "is one.pkl, which does not exist; put the file there" in found[2]
    assert "get it from example.org/two, then add the line 'file: PATH'" in found[3]
    assert "or get it from https://example.org/3 with --download" in found[4]
    assert len(found) == 5


def test_a_node_in_place_of_a_file_and_what_is_there_are_not_named(project: Project) -> None:
    project.write("nodes:\n  photos: {stage: ingest, folder: photos}\n  x: {stage: nothing, folder: none}\n")
    assert missing_files(project.file) == []


def test_a_file_without_nodes_is_a_sentence(project: Project) -> None:
    project.write("seed: 1\n")
    with pytest.raises(ConfigError, match=r"pipeline\.yaml:1 nodes must be a mapping of node names to stages"):
        missing_files(project.file)


def test_doctor_lists_them(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.folder)
    said: Any = command(monkeypatch, capsys)("doctor", "--json")
    assert said.code == 1
    assert sum(finding["what"] == "missing file" for finding in said.facts()) == 5
    assert not any(finding["what"] == "pipeline file" for finding in said.facts())


def test_containers_and_lists_are_places_too(project: Project) -> None:
    names = ("tfrecord", "tar", "lmdb", "parquet")
    nodes = "".join(f"  {name}: {{stage: ingest, {name}: of/{name}, lists: listed}}\n" for name in names)
    project.write(f"nodes:\n{nodes}")
    found = [sentence.split(" names ")[-1].partition(",")[0] for sentence in missing_files(project.file)]
    assert sorted(found) == sorted([*(f"of/{name}" for name in names), *["listed"] * 4])
