"""Mistakes a newcomer made: each ends in one sentence with the place and the way out."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_project import Project, touchstone

from pipeline.commands.upkeep import pin_nodes
from pipeline.declaring.config import load_pipeline, load_stage
from pipeline.errors import ConfigError
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
    monkeypatch.setattr("pipeline.planning.recipes.library_version", lambda name: "99.1")
    (note,) = [note for note in line.plan().notes if "pinned" in note]
    assert note.startswith("m is pinned although env.numpy ")


def test_cuda_without_a_device_is_refused_before_anything_runs(line: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    import toy

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(toy.Scale, "network", True)
    sentence = r"^{} device is cuda, but PyTorch finds no CUDA device.*'b' runs a network; use --device cpu$"
    with pytest.raises(ConfigError, match=sentence.format("--set device:")):
        line.run(overrides=("device=cuda",))
    line.write("device: cuda" + LINE)
    with pytest.raises(ConfigError, match=sentence.format(r"pipeline\.yaml:1")):
        line.run()
    assert not (line.folder / "store").exists()
    monkeypatch.setattr(toy.Scale, "network", False)
    line.run("b", overrides=("device=cuda",))  # no network is wanted: the device does not matter


@pytest.mark.parametrize("name", ["gpu", "GPU", "CUDA", "cuda:0"])
def test_other_names_of_the_gpu_are_corrected_to_cuda(line: Project, name: str) -> None:
    with pytest.raises(ConfigError, match=f"device is '{name}'; expected 'cpu' or 'cuda'; did you mean 'cuda'"):
        load_pipeline(line.file, device=name)


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


def test_a_setting_that_is_given_twice_is_refused(line: Project) -> None:
    with pytest.raises(ConfigError, match=r"^--set nodes\.b\.factor is given twice; leave one of them out$"):
        line.load("nodes.b.factor=3.0", "nodes.b.factor=4.0")
    assert line.load("nodes.b.factor=3.0", "nodes.a.count=4").nodes["b"].config.factor == 3.0  # type: ignore[attr-defined]


def test_a_place_that_cannot_be_written_is_one_sentence(line: Project) -> None:
    line.run()
    (row, *_) = touchstone(line, "show", "b").stdout.split()
    said = touchstone(line, "show", "b", row, "--field", "vector", "--out", "/nonexistent/row.png")
    assert said.returncode == 1
    assert said.stderr.strip() == "touchstone: /nonexistent/row.png cannot be used: No such file or directory"


SIZES = """
nodes:
  photos: {stage: "toy_photos:Photos", count: 16, splits: [train, val]}
  fakes: {stage: "toy_photos:Photos", count: 16, first: 100, label: 1, splits: [train, val]}
  large: {stage: "toy_photos:LargePhotos", count: 16, first: 200, label: 1, splits: [train, val]}
  spectra: {stage: spectrum, of: [photos, fakes, large], features: [profile, dct2d]}
  maps: {stage: spectrum, of: fakes, features: [dct2d]}
  old: {stage: spectrum, of: photos, features: [profile], convention: durall20}
"""
IMAGES = r"'image' is \(32, 32, 3\) in fakes, photos and \(64, 64, 3\) in large"
MAPS = r"'dct2d' is \(3, 32, 32\) in fakes, photos and \(3, 64, 64\) in large"


@pytest.mark.parametrize(
    ("node", "clause"),
    [
        ("{stage: mean_spectra, of: [photos, fakes, large]}", IMAGES),
        ("{stage: fit_equalization, on: [photos, fakes, large]}", IMAGES),
        ("{stage: train_generator, on: [photos, fakes, large], recipe: {family: progan}}", IMAGES),
        ("{stage: train_resynthesizer, on: [photos, fakes, large], task: SR, kimg: 1}", IMAGES),
        ("{stage: train, on: spectra, detector: dct2d-cnn}", MAPS),
        ("{stage: standardize, on: spectra, feature: dct2d}", MAPS),
        (
            "{stage: train, on: [{of: spectra, where: source = photos}, maps], detector: profile-svm}",
            r"'profile' is \(\d+,\) in spectra and missing in maps",
        ),
        (
            "{stage: train, on: [{of: spectra, where: source = fakes}, old], detector: profile-svm}",
            r"'profile' is 20 ln \|F\|, durall20 in old and 20 ln \|F\|, durall19 in spectra",
        ),
    ],
)
def test_a_field_that_differs_within_a_view_is_named_with_its_nodes(line: Project, node: str, clause: str) -> None:
    line.write(SIZES + f"  n: {node}\n")
    with pytest.raises(ConfigError, match=rf"pipeline\.yaml:9 nodes\.n {clause}; equalize all to one size"):
        line.plan()
