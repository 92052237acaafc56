"""A project like the demonstration's, of files of noise: equalize, spectrum and residual, detectors and tables."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy_project import Project

COUNT = 28
"""Photographs, and as many fakes."""

PIPELINE = """
nodes:
  photos: {stage: ingest, folder: photos, splits: {train: 0.5, val: 0.25, test: 0.25}}
  fakes:
    stage: "toy_photos:Photos"
    count: 28
    first: 100
    label: 1
    domains: [cat]
    splits: [train, train, val, test]
  images: {stage: equalize, of: [photos, fakes], size: 16}
  perturbed: {stage: perturb, of: images, protocol: wang2020}
  gains: {stage: fit_equalization, on: images}
  equalized: {stage: equalize_spectrum, of: {of: images, where: label = fake}, equalization: gains}
  gray: {stage: equalize, of: photos, size: 16, color: gray}
  inverted: {stage: "toy_photos:Invert", of: images}
  spectra:
    stage: spectrum
    matrix: {of: [images, perturbed, equalized, gray, inverted]}
    of: "{of}"
    features: [profile, dct2d]
  resynthesizer:
    stage: train_resynthesizer
    on: {of: images, where: label = real}
    size: tiny
    kimg: 0.002
    batch: 2
    patch: 16
    validations: 1
    pictures: 1
  own_residuals: {stage: residual, of: images, model: resynthesizer, micro_batch: 4}
  residuals: {stage: residual, of: images, model: "manifests/networks.yaml#rdn-small-SR", levels: [pixel, stage1]}

  svm: {stage: train, on: "spectra[images]", detector: profile-svm}
  cnn:
    stage: train
    on: residuals
    detector: {preset: residual-pixel, widths: [4], epochs: 1, batch_size: 8, micro_batch: 8}
  mean: {stage: train, on: own_residuals, detector: residual-mean}
  several: {stage: train, on: ["spectra[images]", "spectra[perturbed]", "spectra[equalized]"], detector: profile-svm}
  unlike:
    stage: train
    on: [{of: "spectra[images]", where: label = real}, "spectra[equalized]"]
    detector: profile-svm
  own: {stage: train, on: "spectra[inverted]", detector: profile-svm}
  altered: {stage: train, on: "spectra[perturbed]", detector: profile-svm}
  two_ways: {stage: train, on: ["spectra[gray]", {of: "spectra[images]", where: label = fake}], detector: profile-svm}

  svm_table: {stage: evaluate, model: svm, test: "spectra[images]"}
  cnn_table: {stage: evaluate, model: cnn, test: residuals}
  mean_table: {stage: evaluate, model: mean, test: own_residuals}
"""


def photo(number: int) -> bytes:
    """A file of noise: PNG and JPEG, upright and lying, of several sizes."""
    random = np.random.default_rng(number)
    pixels = random.integers(0, 256, (20 + number % 5, 24 + number % 3, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG" if number % 2 else "JPEG")
    return buffer.getvalue()


def chained_project(folder: Path, patch: pytest.MonkeyPatch) -> Project:
    """The project, with its files."""
    (folder / "photos").mkdir(parents=True)
    for number in range(COUNT):
        (folder / "photos" / f"{number}.{'png' if number % 2 else 'jpg'}").write_bytes(photo(number))
    return Project(folder, patch, PIPELINE)
