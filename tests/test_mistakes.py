"""Mistakes a newcomer made: each ends in one sentence with the place and the way out."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_project import Project, touchstone

from pipeline.config import load_pipeline, load_stage
from pipeline.errors import ConfigError
from pipeline.keeping import pin_nodes
from pipeline.stage import Kind, Stage, StageConfig, file_setting

LINE = """
nodes:
  a: {stage: "toy:Numbers", count: 30}
  b: {stage: "toy:Scale", of: a}
  m: {stage: "toy:Mean", on: b}
"""


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path / "project", monkeypatch, LINE)


def test_a_pinned_node_whose_settings_changed_is_noted_and_one_of_another_stage_refused(line: Project) -> None:
    line.run()
    pin_nodes(line.load(), ["m"])
    assert not [note for note in line.plan().notes if "pinned" in note]
    line.replace('"toy:Scale", of: a', '"toy:Scale", of: a, factor: 9.0')
    assert line.plan().artifacts["m"].found is not None  # rows changed, the recipe of m did not
    line.replace('{stage: "toy:Mean", on: b}', '{stage: "plan_stages:Learn", on: b}')
    with pytest.raises(
        ConfigError, match=r"m.* is pinned to an artifact of the stage 'mean'; remove the pin, or rename"
    ):
        line.plan()


def test_changed_code_below_a_pin_is_noted(line: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    line.run()
    pin_nodes(line.load(), ["m"])
    monkeypatch.setattr("pipeline.recipes.library_version", lambda name: "99.1")
    (note,) = [note for note in line.plan().notes if "pinned" in note]
    assert note.startswith("m is pinned although env.numpy ")


def test_cuda_without_a_device_is_refused_before_anything_runs(line: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    import toy

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(toy.Scale, "network", True)
    with pytest.raises(ConfigError, match=r"device is cuda, but PyTorch finds no CUDA device.*use --device cpu"):
        line.run(overrides=("device=cuda",))
    assert not (line.folder / "store").exists()
    monkeypatch.setattr(toy.Scale, "network", False)
    line.run("b", overrides=("device=cuda",))  # no network is wanted: the device does not matter


class Inner(StageConfig):
    weights: str = file_setting(description="a file")


class NestedConfig(StageConfig):
    inner: Inner


class Nested(Stage):
    name, kind, Config = "nested", Kind.MAP, NestedConfig


def test_a_file_setting_inside_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match="file setting 'weights' inside another model; move it to the top"):
        load_stage("test_mistakes:Nested")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("b.factor=3.0", r"--set b\.factor: there is no b; did you mean nodes\.b\.factor\?"),
        ("nodes.b.factor=", r"nodes\.b\.factor is empty; give it a value, or leave the key out"),
        ("nodes.b.facter=3.0", r"nodes\.b\.facter is not a setting of 'scale'; did you mean 'factor'\?"),
    ],
)
def test_a_bad_override_names_the_way_out(line: Project, override: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        line.load(override)


def test_a_folder_in_place_of_the_pipeline_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a folder; give the pipeline file itself"):
        load_pipeline(tmp_path)


def test_an_artifact_of_the_wrong_stage_is_refused_when_planning(line: Project) -> None:
    line.write(LINE + "  page: {stage: report, of: m}\n")
    with pytest.raises(ConfigError, match=r"page\.of names 'm', a node of the stage 'mean'; expected 'evaluate'"):
        line.load()


def test_a_typo_is_named_before_the_key_that_it_leaves_missing(line: Project) -> None:
    line.write("nodes:\n  p: {stage: ingest, folder: x}\n  e: {stage: equalize, of: p, sise: 64}\n")
    with pytest.raises(ConfigError, match=r"pipeline\.yaml:3 nodes\.e\.sise is not a setting .*did you mean 'size'\?"):
        line.load()


def test_a_place_that_cannot_be_written_is_one_sentence(line: Project) -> None:
    line.run()
    (row, *_) = touchstone(line, "show", "b").stdout.split()
    said = touchstone(line, "show", "b", row, "--field", "vector", "--out", "/nonexistent/row.png")
    assert said.returncode == 1
    assert said.stderr.strip() == "touchstone: /nonexistent/row.png cannot be used: No such file or directory"
