"""Of ten detectors one more trains itself alone, and another augmentation only those that have it."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_project import Project

NAMES = (
    "profile-svm", "profile-logistic", "profile-forest", "profile-kmeans", "profile-mlp", "dct2d-cnn", "fft2d-cnn",
    "pixel-resnet-small", "patch-resnet-small", "eigenfaces",
)  # fmt: skip
ROWS = """
nodes:
  reals: {stage: "toy_photos:LargePhotos", count: 8, splits: [train, val, test]}
  fakes: {stage: "toy_photos:LargePhotos", count: 8, first: 300, label: 1, splits: [train, val, test]}
  images: {stage: equalize, of: [reals, fakes], size: 32}
  spectra: {stage: spectrum, of: images, features: [profile, dct2d, fft2d]}
"""


def line(number: int, name: str) -> str:
    on = "images" if name.startswith(("pixel", "patch", "eigen")) else "spectra"
    return f"  d{number}: {{stage: train, on: {on}, detector: {{preset: {name}}}}}\n"


def test_a_detector_more_or_an_augmentation_trains_what_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = ROWS + "".join(line(number, name) for number, name in enumerate(NAMES))
    project = Project(tmp_path, monkeypatch, text)

    def recipes() -> dict[str, bytes]:
        return {name: one.recipe.digest for name, one in project.plan().artifacts.items()}

    before = recipes()
    assert len(before) == 10
    project.replace(line(9, "eigenfaces"), line(9, "eigenfaces") + line(10, "knn").replace("spectra", "images"))
    more = recipes()
    assert more.keys() - before.keys() == {"d10"}
    assert {name for name in before if more[name] != before[name]} == set()
    project.replace("preset: patch-resnet-small", "preset: patch-resnet-small, augmentation: []")
    assert {name for name, digest in recipes().items() if digest != more[name]} == {"d8"}
