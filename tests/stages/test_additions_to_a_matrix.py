"""What is computed, trained and scored when a matrix grows: the new cells alone, with the bytes of a cold build."""

from __future__ import annotations

import io
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_project import Project

from stages.evaluation.detector_file import Detector

PIPELINE = """
nodes:
  reals: {stage: "toy_photos:Photos", count: 48, splits: [train, val, test]}
  fakes: {stage: "toy_photos:Photos", count: 48, first: 100, label: 1, splits: [train, val, test]}
  others: {stage: "toy_photos:Photos", count: 24, first: 200, label: 1, splits: [test]}
  images: {stage: "toy_photos:Invert", of: [reals, fakes]}
  spectra: {stage: spectrum, matrix: {of: [images]}, of: "{of}", features: [profile]}
  detectors:
    stage: train
    matrix: {detector: [profile-logistic, profile-threshold]}
    on: "spectra[images]"
    detector: "{detector}"
  tables:
    stage: evaluate
    matrix: {model: detectors}
    model: "{model}"
    test: {raw: "spectra[images]"}
"""
TWISTED = """  twisted: {stage: "toy_photos:Invert", of: {of: images, where: CHOSEN}}
  spectra: {stage: spectrum, matrix: {of: [images, twisted]}"""
FILES = ("results.json", "scores.npz")
OLD = {"tables[profile-logistic]": 1, "tables[profile-threshold]": 1}


def twisted(project: Project, chosen: str, view: str) -> None:
    project.replace("  spectra: {stage: spectrum, matrix: {of: [images]}", TWISTED.replace("CHOSEN", chosen))
    project.replace("{raw: ", f"{{twisted: {view}, raw: ")


def variant(project: Project) -> None:
    twisted(project, "split = test", '"spectra[twisted]"')


def variant_of_fakes(project: Project) -> None:
    twisted(
        project, "split = test and label = fake", "['spectra[twisted]', {of: 'spectra[images]', where: label = real}]"
    )


def variant_of_old_rows(project: Project) -> None:
    project.replace("{raw: ", '{some: {of: "spectra[images]", take: 80}, raw: ')


def source(project: Project) -> None:
    project.replace("of: [reals, fakes]}", "of: [reals, fakes, others]}")


def rows_of_a_source(project: Project) -> None:
    project.replace("count: 48, splits", "count: 51, splits")


def detector(project: Project) -> None:
    project.replace("profile-threshold]", "profile-threshold, profile-kmeans]")


ADDITIONS: dict[str, tuple[Callable[[Project], None], dict[str, int], dict[str, int]]] = {
    # name: (what is added, node -> rows or artifacts that a run computes, family -> rows that it scores)
    "nothing": (lambda project: None, {}, {}),
    "a variant": (
        variant, {"twisted": 32, "spectra[twisted]": 32, **OLD}, {"logistic": 32, "threshold": 32}
    ),
    "a variant of the fakes": (
        variant_of_fakes, {"twisted": 16, "spectra[twisted]": 16, **OLD}, {"logistic": 16, "threshold": 16}
    ),
    "a variant of rows that are there": (variant_of_old_rows, OLD, {}),
    "a test source": (
        source, {"others": 24, "images": 24, "spectra[images]": 24, **OLD}, {"logistic": 24, "threshold": 24}
    ),
    "a detector": (
        detector, {"detectors[profile-kmeans]": 1, "tables[profile-kmeans]": 1}, {"kmeans": 32}
    ),
}  # fmt: skip


class Matrix(Project):
    """A pipeline that counts the rows that detectors score."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        text = (folder / "pipeline.yaml").read_text() if folder.exists() else PIPELINE
        super().__init__(folder, patch, text)
        self.scored: Counter[str] = Counter()
        plain = Detector.scores

        def scores(one: Detector, blocks: Any, device: str = "cpu") -> Any:
            found = list(blocks)
            self.scored[one.config.family] += sum(map(len, found))
            return plain(one, found, device)

        patch.setattr(Detector, "scores", scores)

    def grown(self) -> tuple[dict[str, int], dict[str, int]]:
        """What a run computes and scores."""
        self.scored.clear()
        return self.run("tables").computed, dict(self.scored)

    def evaluations(self) -> dict[str, bytes]:
        """File -> content, of the evaluations that the pipeline has now."""
        found = {}
        for name, one in self.plan().artifacts.items():
            if one.node.entry == "tables":
                assert one.found is not None
                found |= {f"{name} {file}": (one.found.path / file).read_bytes() for file in FILES}
        return found


def distinct(content: bytes) -> int:
    """How many rows the scores of an evaluation are of."""
    if not content.startswith(b"PK"):
        return 0
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return len({(chain, bytes(row)) for chain, row in zip(file["chain"].tolist(), file["id"], strict=True)})


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a matrix that was run from nothing."""
    folder = tmp_path_factory.mktemp("cold") / "project"
    with pytest.MonkeyPatch.context() as patch:
        project = Matrix(folder, patch)
        assert project.run("tables").computed == {
            "reals": 48, "fakes": 48, "images": 96, "spectra[images]": 96, "detectors[profile-logistic]": 1,
            "detectors[profile-threshold]": 1, **OLD,
        }  # fmt: skip
    return folder


@pytest.fixture
def project(cold: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Matrix:
    shutil.copytree(cold, tmp_path / "project")
    return Matrix(tmp_path / "project", monkeypatch)


@pytest.mark.parametrize("name", ADDITIONS)
def test_an_addition_computes_trains_and_scores_its_own_cells(name: str, project: Matrix) -> None:
    add, computed, scored = ADDITIONS[name]
    add(project)
    assert project.grown() == (computed, scored)
    assert project.grown() == ({}, {})
    grown = project.evaluations()
    project.remove_store()
    _, scored = project.grown()
    assert project.evaluations() == grown, "a cold build gives other bytes"
    assert sum(scored.values()) == sum(map(distinct, grown.values())), "a row of two variants is scored once"


def test_two_additions_and_what_was_taken_away_between_them_are_all_remembered(project: Matrix) -> None:
    before = project.file.read_text()
    variant(project)
    project.grown()
    project.write(before)
    source(project)
    project.grown()
    project.write(before)
    variant(project)
    source(project)
    computed, scored = project.grown()
    assert computed == {"twisted": 24, "spectra[twisted]": 24, **OLD}
    assert scored == {"logistic": 24, "threshold": 24}, "the twisted others are the only new rows"


def test_another_detector_scores_all_and_a_damaged_evaluation_is_no_source(project: Matrix) -> None:
    project.replace('on: "spectra[images]"', 'on: {of: "spectra[images]", take: 90}')
    _, scored = project.grown()
    assert scored == {"logistic": 32, "threshold": 32}
    for path in (project.folder / "store" / "evaluate").glob("*/scores.npz"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    variant(project)
    _, scored = project.grown()
    assert scored == {"logistic": 64, "threshold": 64}
