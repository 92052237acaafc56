"""Equalizing the spectra of rows: golden levels, files that are no equalization, and what a change recomputes."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors.numpy
from memory_rows import context, rows_of, union
from toy_project import Project

from pipeline.errors import ConfigError
from pipeline.open import open_node
from pipeline.planning.closure import closure
from pipeline.stage import ID, Artifact, Batch, Context, Field, Promise
from stages.equalize_spectrum import EqualizeSpectrum, EqualizeSpectrumConfig
from stages.fit_equalization import FitEqualization, FitEqualizationConfig
from stages.spectra import equalization_file

if TYPE_CHECKING:
    from tests.conftest import Golden

STAGE, CONFIG = EqualizeSpectrum(), EqualizeSpectrumConfig(equalization="gains")
SHAPE = (16, 12, 3)


def fitted(folder: Path, reals: np.ndarray[Any, Any], fakes: np.ndarray[Any, Any], **settings: Any) -> Path:
    ctx = context(folder, "fit_equalization")
    rows = union(
        rows_of("photos", 0, {"image": reals}, split="train"), rows_of("progan", 1, {"image": fakes}, split="train")
    )
    FitEqualization().fit(FitEqualizationConfig.model_validate(settings), {"on": rows}, ctx)
    return ctx.out


def equalized(images: np.ndarray[Any, Any], artifact: Path) -> dict[str, np.ndarray[Any, Any]]:
    ids = np.zeros(len(images), ID)
    ctx = Context(0, "equalize_spectrum", artifacts={"equalization": (Artifact("gains", "0" * 32, artifact),)})
    return dict(STAGE.compute(CONFIG, Batch(ids, (ids,), ({"image": images},)), ctx))


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(0)
    reals = random.integers(0, 256, (4, *SHAPE), dtype=np.uint8)
    return fitted(tmp_path_factory.mktemp("gains"), reals, 100 + reals[::-1] // 8)


@pytest.mark.golden("spectrum", "equalise_E.npz")
def test_levels_equal_the_reference(golden: Golden, tmp_path: Path) -> None:
    result = equalized(golden["fake"], fitted(tmp_path, golden["real"], golden["fake"]))
    difference = np.abs(result["image"].astype(int) - golden["out_uint8"])
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-4  # sums that end within round-off of a half
    assert np.abs(np.clip(golden["float_out0"], 0, 255) - result["image"][0]).max() <= 0.5 + 1e-5
    errors = np.mean((golden["out_uint8"].astype(float) - golden["fake"]) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(result["psnr"], [10 * math.log10(255**2 / one) for one in errors], rtol=0, atol=0.01)


@pytest.mark.golden("spectrum", "equalise_E.npz")
def test_values_before_rounding_equal_the_reference(golden: Golden, tmp_path: Path) -> None:
    from stages.spectra.spectrum_gain import equalized as exact

    learned = equalization_file.load(fitted(tmp_path, golden["real"], golden["fake"]) / equalization_file.FILE)
    np.testing.assert_allclose(exact(golden["fake"][0], learned), golden["float_out0"], rtol=0, atol=1e-5)


def test_a_row_depends_on_itself_only(artifact: Path) -> None:
    images = np.random.default_rng(2).integers(0, 256, (7, *SHAPE), dtype=np.uint8)
    whole = equalized(images, artifact)
    schema = STAGE.schema(
        CONFIG, {"of": {"image": Field("uint8", SHAPE)}, "equalization": artifact / equalization_file.FILE}
    )
    for name, field in schema.items():
        assert whole[name].dtype == field.dtype
        assert whole[name].shape == (7, *field.shape)
    for row in range(7):
        alone = equalized(images[row : row + 1], artifact)
        assert all(alone[name].tobytes() == whole[name][row].tobytes() for name in whole)


def test_psnr_is_that_of_the_stored_levels_and_finite_for_constant_images(artifact: Path) -> None:
    images = np.random.default_rng(2).integers(0, 256, (3, *SHAPE), dtype=np.uint8)
    images[1:] = np.array([0, 200], np.uint8)[:, None, None, None]
    result = equalized(images, artifact)
    error = np.mean((result["image"][0].astype(float) - images[0]) ** 2)
    assert result["psnr"][0] == pytest.approx(10 * math.log10(255**2 / error), rel=1e-6)
    assert np.array_equal(result["image"][1:], images[1:])
    assert result["psnr"][1:].tolist() == pytest.approx([148.13, 148.13], abs=0.01)


# Files


def rewritten(folder: Path, artifact: Path, about: Any = None, **arrays: Any) -> Path:
    """The artifact's file with another description or other arrays (None: left out)."""
    path = folder / "gains.safetensors"
    source = artifact / equalization_file.FILE
    description = dict(equalization_file.read_description(source)) | (about if isinstance(about, dict) else {})
    tensors = {k: v for k, v in (safetensors.numpy.load_file(source) | arrays).items() if v is not None}
    text = about if isinstance(about, str) else json.dumps(description)
    safetensors.numpy.save_file(tensors, path, metadata={"touchstone": text})
    return path


def test_a_file_gives_the_same_bytes_as_the_node(artifact: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(2).integers(0, 256, (2, *SHAPE), dtype=np.uint8)
    path = rewritten(tmp_path, artifact)
    ids = np.zeros(2, ID)
    ctx = Context(0, "equalize_spectrum", files={"equalization": path})
    found = STAGE.compute(CONFIG, Batch(ids, (ids,), ({"image": images},)), ctx)
    assert np.array_equal(found["image"], equalized(images, artifact)["image"])


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ("", "its description is not JSON"),
        ("[1]", "does not say that it is a spectrum equalization; give a file equalization.safetensors"),
        ("{" * 5000, "its description is not JSON"),
        ({"kind": "weights"}, "does not say that it is"),
        ({"format": 2}, "is of format 2; this version reads format 1"),
        ({"height": -1}, "a description that no fit writes"),
        ({"width": True}, "a description that no fit writes"),
        ({"width": 10**9}, "a description that no fit writes"),
        ({"shape": "round"}, "a description that no fit writes"),
        ({"largest": math.inf}, "a description that no fit writes"),
        ({"largest": "2"}, "a description that no fit writes"),
        ({"pool_below": 0}, "a description that no fit writes"),
    ],
)
def test_a_file_of_something_else_is_one_sentence(about: Any, message: str, artifact: Path, tmp_path: Path) -> None:
    path = rewritten(tmp_path, artifact, about)
    with pytest.raises(equalization_file.EqualizationError, match=message):
        STAGE.check(CONFIG, {"equalization": path})


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"target": None}, r"array 'target' is none, expected \(3, 11\) float64"),
        ({"source": np.zeros((3, 10))}, r"array 'source' is \(3, 10\) float64, expected"),
        ({"source": np.zeros((3, 11), np.float32)}, r"is \(3, 11\) float32"),
        ({"target": np.full((3, 11), np.nan)}, "holds values that are no log amplitudes"),
        ({"target": np.full((3, 11), 1e300)}, "holds values that are no log amplitudes"),
    ],
)
def test_arrays_that_no_fit_writes_are_refused(
    arrays: dict[str, Any], message: str, artifact: Path, tmp_path: Path
) -> None:
    with pytest.raises(equalization_file.EqualizationError, match=message):
        equalization_file.load(rewritten(tmp_path, artifact, **arrays))


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"<html>", b"\xff" * 64])
def test_a_file_of_another_format_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "gains.safetensors"
    path.write_bytes(content)
    with pytest.raises(equalization_file.EqualizationError, match="is no whole safetensors file"):
        STAGE.check(CONFIG, {"equalization": path})


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"image": Field("uint8", (12, 16, 3))}, r"found \(12, 16, 3\) uint8; gains are never resampled"),
        ({"image": Field("uint8", (32, 32, 3))}, r"found \(32, 32, 3\) uint8"),
        ({"profile": Field("float32", (43,))}, "found profile"),
    ],
)
def test_images_of_another_size_are_refused_while_planning(fields: Any, found: str, artifact: Path) -> None:
    about = equalization_file.read_description(artifact / equalization_file.FILE)
    with pytest.raises(ValueError, match=rf"the size that node 'gains' learned from, {found}"):
        STAGE.schema(CONFIG, {"of": fields, "equalization": Promise("gains", about)})


# In a pipeline

PIPELINE = """
nodes:
  photos: {stage: "toy_photos:Photos", count: 8}
  fakes: {stage: "toy_photos:Photos", count: 8, first: 100, label: 1}
  gains: {stage: fit_equalization, on: [photos, fakes]}
  equalized: {stage: equalize_spectrum, of: fakes, equalization: gains}
  both: {stage: equalize_spectrum, of: [photos, fakes], equalization: gains}
  perturbed: {stage: perturb, of: [photos, fakes], protocol: he2021}
  spectra: {stage: spectrum, of: [fakes, equalized]}
"""


def test_a_change_of_the_equalization_recomputes_its_own_rows_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path, monkeypatch, PIPELINE)
    made = {"photos": 8, "fakes": 8, "gains": 1, "equalized": 8, "both": 8, "perturbed": 16, "spectra": 16}
    assert project.run().computed == made  # the fakes of `both` are rows of `equalized`
    assert project.facts("gains")["counts"] == {"real": {"photos": 4}, "fake": {"fakes": 4}}
    fakes, equalized_rows = (open_node(project.file, name) for name in ("fakes", "equalized"))
    assert set(fakes.ids.tolist()) == set(equalized_rows.ids.tolist())
    assert (equalized_rows.array("image") != fakes.array("image")).any()
    assert (equalized_rows.array("psnr") < 100).all()

    project.replace("on: [photos, fakes]}", "on: [photos, fakes], pool_below: 4}")
    assert project.run().computed == {"gains": 1, "equalized": 8, "both": 8, "spectra": 8}
    project.replace("protocol: he2021", "protocol: yu2019")
    assert project.run().computed == {"perturbed": 16}


def test_the_file_of_an_artifact_makes_the_same_rows_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path, monkeypatch, PIPELINE)
    project.run("equalized")
    expected = open_node(project.file, "equalized")
    artifact = project.plan().artifacts["gains"].found
    assert artifact is not None
    shutil.copyfile(artifact.path / equalization_file.FILE, tmp_path / "mine.safetensors")
    project.replace("of: fakes, equalization: gains", "of: fakes, equalization: mine.safetensors")
    assert project.run("equalized").computed == {"equalized": 8}
    found = open_node(project.file, "equalized")
    assert found.ids.tolist() == expected.ids.tolist()
    assert np.array_equal(found.array("image"), expected.array("image"))
    assert found.parts[0].chain != expected.parts[0].chain


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("of: fakes, equalization: gains", "of: fakes, equalization: missing.safetensors", "missing.safetensors"),
        ("of: fakes, equalization: gains", "of: fakes", "equalization"),
        ("fit_equalization, on: [photos, fakes]", "train, on: spectra, detector: profile-svm", "'?gains'?"),
        (
            '"toy_photos:Photos", count: 8, first',
            '"toy_photos:LargePhotos", count: 8, first',
            r"'image' is \(64, 64, 3\) in fakes and \(32, 32, 3\) in photos; equalize all to one size",
        ),
        ("of: [photos, fakes], equalization: gains", "of: perturbed, equalization: perturbed", "perturbed"),
    ],
)
def test_mistakes_in_the_pipeline_have_a_line(
    old: str, new: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path, monkeypatch, PIPELINE)
    project.replace(old, new)
    with pytest.raises(ConfigError, match=rf"pipeline\.yaml:\d+.*{message}"):
        project.plan()


def test_perturbing_and_equalizing_share_no_code() -> None:
    """An edit of the one makes no row of the other stale."""
    perturb, equalize = closure(("stages.perturb",)), closure(("stages.equalize_spectrum",))
    assert set(perturb) == {
        "stages.perturb",
        "stages.images.perturbations",
        "detectors.gaussian_filter",
        "detectors.jpeg_codecs",
        "stages.images.cubic",
        "stages.images.image_field",
    }
    assert set(equalize) == {
        "stages.equalize_spectrum",
        "stages.spectra.equalization_file",
        "stages.spectra.spectrum_gain",
        "stages.images.planes",
        "stages.weights.safetensors_file",
        "stages.weights.weights_file",
    }
