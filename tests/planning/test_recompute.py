"""Through the engine: what a change of normalization, standardization, band or detector computes again."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_project import Project

PIPELINE = """
nodes:
  reals: {stage: "toy_photos:Photos", count: 24, splits: [train, val]}
  fakes: {stage: "toy_photos:Photos", first: 100, count: 24, label: 1, splits: [train, val]}
  spectra: {stage: spectrum, of: [reals, fakes], features: [profile, dct2d, fft2d]}
  statistics: {stage: standardize, on: {of: spectra, where: label = real}}
  pictures: {stage: mean_spectra, of: [reals, fakes]}
  detector: {stage: train, on: spectra, detector: DETECTOR}
"""
SMALL = "widths: [2], epochs: 1, batch_size: 8, micro_batch: 8"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path, monkeypatch, PIPELINE)


def computed(project: Project, detector: str) -> dict[str, int]:
    """What a run computes with another detector in the pipeline."""
    project.write(PIPELINE.replace("DETECTOR", detector))
    return project.run("detector").computed


def test_a_change_of_normalization_standardization_or_detector_recomputes_no_feature(project: Project) -> None:
    svm = "{preset: profile-svm, length: null}"
    assert computed(project, svm) == {"reals": 24, "fakes": 24, "spectra": 48, "detector": 1}
    dct = f"{{preset: dct2d-cnn, {SMALL}}}"
    for other in (
        "{preset: profile-svm, length: null, normalization: min_max}",
        "{preset: profile-svm, length: 40}",
        "{preset: profile-logistic, length: null}",
        dct,
        f"{{preset: fft2d-cnn, {SMALL}}}",
        f"{{preset: fft2d-cnn, {SMALL}, band: high}}",
        f"{{preset: fft2d-cnn, {SMALL}, normalization: standardize}}",
    ):
        assert computed(project, other) == {"detector": 1}, other
    assert computed(project, f"{dct}, standardization: statistics") == {"statistics": 1, "detector": 1}
    assert computed(project, svm) == {}, "what was there is there again"
    project.replace("fft2d]}", "fft2d], color: gray}")
    assert project.run("detector").computed == {"spectra": 48, "detector": 1}, "a change of the features is seen"


def test_statistics_of_another_field_are_an_error_before_anything_runs(project: Project) -> None:
    project.write(PIPELINE.replace("DETECTOR", "{preset: fft2d-cnn, normalization: standardize}, "
                                               "standardization: statistics"))  # fmt: skip
    with pytest.raises(
        Exception, match=r"has statistics of feature \"dct2d\", expected \"fft2d\"; standardize the rows"
    ):
        project.plan()


def test_pictures_are_made_from_images_and_again_only_when_rows_come(project: Project) -> None:
    project.write(PIPELINE.replace("DETECTOR", "profile-svm"))
    assert project.run("pictures").computed == {"reals": 24, "fakes": 24, "pictures": 1}
    assert project.run("pictures").computed == {}
    assert project.facts("pictures")["rows"] == {"000 reals": 24, "001 fakes": 24}
    project.replace("first: 100, count: 24", "first: 100, count: 28")
    assert project.run("pictures").computed == {"fakes": 4, "pictures": 1}
