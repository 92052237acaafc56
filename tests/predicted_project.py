"""A project of files of noise and fakes that are arrays, with detectors of many kinds, to ask about images."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import toy_photos
from numpy.typing import NDArray
from PIL import Image
from toy_project import Project

from pipeline import ids

COUNT, FIRST = 16, 100
"""Photographs, and as many fakes; number of the first fake."""

SIDE = 16

KINDS = {"svm": "spectra", "forest": "spectra", "cnn": "spectra", "resnet": "residuals", "patches": "images",
         "fused": "spectra"}  # fmt: skip
"""Detector -> node of its rows."""

PIPELINE = f"""
nodes:
  photos: {{stage: ingest, folder: photos, splits: {{train: 0.5, val: 0.25, test: 0.25}}}}
  fakes:
    stage: "toy_photos:Photos"
    count: {COUNT}
    first: {FIRST}
    label: 1
    domains: [cat]
    splits: [train, train, val, test]
  images: {{stage: equalize, of: [photos, fakes], size: {SIDE}}}
  spectra: {{stage: spectrum, of: images, features: [profile, dct2d]}}
  residuals: {{stage: residual, of: images, model: "manifests/networks.yaml#rdn-small-SR"}}

  svm: {{stage: train, on: spectra, detector: profile-svm}}
  forest: {{stage: train, on: spectra, detector: {{preset: profile-forest, trees: 5}}}}
  cnn:
    stage: train
    on: spectra
    detector: {{preset: dct2d-cnn, widths: [4], epochs: 1, batch_size: 8, micro_batch: 8}}
  resnet:
    stage: train
    on: residuals
    detector:
      preset: residual-resnet-small
      network: {{architecture: resnet, depth: 18, kernel: 3, width: 8, stages: 2}}
      training: {{epochs: 1, batch: 8}}
      micro_batch: 8
  patches:
    stage: train
    on: images
    detector: {{preset: patch-resnet-small, training: {{epochs: 1, batch: 8}}, micro_batch: 8}}
  fused: {{stage: train, on: spectra, members: [svm, cnn], detector: fusion}}
"""

TABLES = "".join(f"  {name}_table: {{stage: evaluate, model: {name}, test: {rows}}}\n" for name, rows in KINDS.items())


def photo(number: int) -> bytes:
    """A file of noise: PNG and JPEG, upright and lying, of several sizes."""
    random = np.random.default_rng(number)
    pixels = random.integers(0, 256, (20 + number % 5, 24 + number % 3, 3), dtype=np.uint8)
    return packed(pixels, "PNG" if number % 2 else "JPEG")


def packed(pixels: NDArray[np.uint8], codec: str = "PNG") -> bytes:
    """A file of these pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, codec)
    return buffer.getvalue()


def predicted_project(folder: Path, patch: pytest.MonkeyPatch, more: str = TABLES) -> Project:
    """The project, with its files."""
    (folder / "photos").mkdir(parents=True)
    for number in range(COUNT):
        (folder / "photos" / f"{number}.{'png' if number % 2 else 'jpg'}").write_bytes(photo(number))
    return Project(folder, patch, PIPELINE + more)


def artifact(project: Project, node: str) -> Path:
    """Folder of what a node has made."""
    found = project.plan(recorded=True).artifacts[node].found
    assert found is not None
    return found.path


def exported(project: Project, table: str, folder: Path) -> dict[str, float]:
    """Files of the rows that a table has scored, as they entered `images`, and the score of each by its name.

    Reals are the files themselves, fakes are arrays, and become PNG.
    """
    folder.mkdir()
    names = {}
    for place in sorted((project.folder / "photos").iterdir()):
        names[toy_id(place.read_bytes())] = place
    found = {}
    with np.load(artifact(project, table) / "scores.npz", allow_pickle=False) as file:
        for row_id, label, score in zip(ids.to_bytes(file["id"]), file["label"], file["score"].tolist(), strict=True):
            if label:
                name = f"fake {row_id.hex()}.png"
                (folder / name).write_bytes(packed(toy_photos.photo(row_id)))
            else:
                name = f"real {names[row_id].name}"
                shutil.copy(names[row_id], folder / name)
            found[name] = score
    return found


def toy_id(content: bytes) -> bytes:
    """Id of a row of a file."""
    import hashlib

    return hashlib.sha256(content).digest()[:16]
