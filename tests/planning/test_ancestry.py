"""The lineage of planned rows: what comes after their origin, in an order of doing, and where its files lie."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import toy
import yaml
from toy_project import ROOT, Project

from pipeline.chain import Made, follow
from pipeline.ids import expanded as expanded_ids
from pipeline.lineage import Lineage
from pipeline.planning.ancestry import lineage_of
from pipeline.running.compute import Step
from pipeline.stage import Field

PIPELINE = """
nodes:
  a: {stage: "toy:Numbers", count: 40}
  scaled: {stage: "toy:Scale", matrix: {factor: [2.0, 3.0]}, of: a, factor: "{factor}"}
  sum: {stage: "toy:SumStage", of: {of: "scaled[2.0]", pair: "scaled[3.0]"}}
  noisy: {stage: "toy:Jitter", of: sum}
  mean: {stage: "toy:Mean", on: sum}
  centered: {stage: "toy:Center", of: sum, mean: mean}
  shifted: {stage: "toy:Offset", of: centered, table: table.txt}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    (tmp_path / "table.txt").write_text("5")
    return Project(tmp_path, monkeypatch, PIPELINE)


def lineage(project: Project, node: str) -> Lineage:
    plan = project.plan()

    def find(one: object) -> object:
        return project.store.artifact("mean", one.key)  # type: ignore[attr-defined]

    return lineage_of(plan.branches[node][0], plan.names.words, find)  # type: ignore[arg-type]


def test_steps_stand_after_what_they_read_and_each_once(project: Project) -> None:
    found = lineage(project, "noisy")
    assert [(one.stage, one.content) for one in found.origins] == [("numbers", False)]
    assert [(one.stage, one.module, one.of, one.multiplies) for one in found.steps] == [
        ("scale", "toy", [-1], False),
        ("scale", "toy", [-1], False),
        ("add", "toy", [0, 1], False),
        ("jitter", "toy", [2], True),
    ]
    assert [one.config for one in found.steps] == [{"factor": 2.0}, {"factor": 3.0}, {}, {}]
    assert found.steps[0].fields == {"value": ["<f8", [], "1"], "vector": ["<f4", [3], "1"]}
    assert found.places == {}


def test_the_origin_alone_has_no_step(project: Project) -> None:
    assert lineage(project, "a").steps == ()


def test_what_a_checkpoint_makes_has_the_licence_of_its_entry(project: Project) -> None:
    """A file that no manifest names has none, and who states one is asked first."""
    weights = ROOT / "manifests" / "weights" / "progan-small-R.safetensors"
    entry = yaml.safe_load((ROOT / "manifests" / "generators.yaml").read_text())["progan-raw"]
    project.write(f"""
    nodes:
      drawn: {{stage: sample, checkpoint: "manifests/generators.yaml#progan-raw", count: 4}}
      others: {{stage: sample, checkpoint: {weights}, count: 4}}
      photos: {{stage: "toy_photos:Photos"}}
      small: {{stage: equalize, of: [drawn, others, photos], size: 32}}
    """)
    plan = project.plan()
    found = [lineage_of(one, plan.names.words, lambda _: None) for one in plan.branches["small"]]  # type: ignore[arg-type, return-value]
    assert sorted((one.stage, one.licence) for each in found for one in each.origins) == [
        ("photos", "toys 1"),
        ("sample", ""),
        ("sample", entry["licence"]),
    ]


def test_files_and_artifacts_stand_with_digest_size_and_place(project: Project) -> None:
    project.run("mean")
    found = lineage(project, "shifted")
    centered, shifted = found.steps[-2:]
    table = hashlib.sha256(b"5").hexdigest()
    assert {name: (one.sha256, one.size) for name, one in shifted.files.items()} == {"table": (table, 1)}
    (artifact,) = centered.artifacts["mean"]
    assert list(artifact.files) == ["mean.json"]
    (place,) = project.folder.glob("store/mean/*/mean.json")
    digest = hashlib.sha256(place.read_bytes()).hexdigest()
    assert artifact.files["mean.json"].sha256 == digest
    assert found.places == {table: project.folder / "table.txt", digest: place}


def test_steps_are_followed_row_by_row_in_memory() -> None:
    row_ids = np.frombuffer(b"".join(bytes([number]) * 16 for number in range(5)), dtype="V16")
    value = {"value": Field("<f8", (), "1")}
    one = Made(np.array([0, 1, 3]), row_ids[[0, 1, 3]], {"value": np.array([1.0, 2.0, 4.0])}, value)
    other = Made(np.array([1, 3, 4]), row_ids[[1, 3, 4]], {"value": np.array([20.0, 40.0, 50.0])}, value)
    failures = {0: "gone", 2: "gone", 4: "gone"}
    both = follow(Step("sum", toy.SumStage(), None, value), [one, other], failures)
    assert both.rows.tolist() == [1, 3]
    assert both.arrays["value"].tolist() == [22.0, 44.0]
    noisy = follow(Step("noisy", toy.Jitter(), None, value, seed=3), [both], failures, np.array([1, 0]))
    assert noisy.ids.tolist() == expanded_ids([row_ids[[1, 3]]], np.array([1, 0])).tolist()
    assert sorted(failures) == [0, 2, 4]
