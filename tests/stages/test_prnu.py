"""The prnu stage and the detector family of the same name: config, stored values, fingerprints, one whole pipeline."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory_rows import MemoryRows, context, rows_of, union
from pydantic import ValidationError
from safetensors.numpy import load_file
from toy_project import Project

from detectors import noise_pattern, prnu
from detectors.contract import State
from detectors.noise_pattern import correlations, pattern
from pipeline.open import open_node
from pipeline.planning.closure import closure
from pipeline.stage import ID, Batch, Context, Field, Kind
from stages.prnu import Prnu, PrnuConfig
from stages.spectra.wavelet_noise import fingerprint_terms, noise_residual
from stages.train import Train, TrainConfig

EVERYTHING = ["residual", "terms", "noise"]


def config(**values: Any) -> PrnuConfig:
    return PrnuConfig.model_validate_json(json.dumps(values))


def image_schema(height: int = 32, width: int = 32, dtype: str = "uint8", channels: int = 3) -> dict[str, Any]:
    return {"of": {"image": Field(dtype, (height, width, channels))}}


def compute(chosen: PrnuConfig, images: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    ids = np.zeros(len(images), ID)
    batch = Batch(ids, (ids,), ({"image": images},))
    return dict(Prnu().compute(chosen, batch, Context(seed=0, stage="prnu")))


def photos(rows: int, height: int, width: int, shared: float = 0.0, seed: int = 1) -> np.ndarray[Any, Any]:
    """Shades with noise; `shared`: standard deviation of a pattern that all of them have, the same for every seed."""
    random = np.random.default_rng(seed)
    down, right = np.mgrid[0:height, 0:width]
    shade = 120 + 60 * np.sin(down / 9 + random.uniform(0, 9, (rows, 1, 1))) * np.cos(right / 7)
    noise = random.normal(0, 5, (rows, height, width, 3))
    stable = np.random.default_rng(0).normal(0, 1, (height, width, 1))
    return np.clip(shade[..., None] + noise + shared * stable, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", [(32, 32), (33, 20), (8, 8)])
@pytest.mark.parametrize("features", [["residual"], ["terms"], ["noise"], EVERYTHING])
def test_computed_arrays_are_what_the_schema_says(features: list[str], shape: tuple[int, int]) -> None:
    chosen = config(features=features)
    fields = Prnu().schema(chosen, image_schema(*shape))
    found = compute(chosen, photos(3, *shape))
    assert list(found) == list(fields)
    for name, field in fields.items():
        assert found[name].shape == (3, *field.shape)
        assert found[name].dtype == np.dtype(field.dtype)
        assert np.isfinite(found[name]).all()
    assert Prnu.kind is Kind.MAP


def test_stored_values_are_those_of_the_kernels_within_half_a_step_of_float16() -> None:
    images = photos(3, 40, 24)
    images[0, :8, :, :2] = 255  # one channel is not saturated
    found = compute(config(features=EVERYTHING, levels=3, sigma=0.8, saturation="released"), images)
    noise = noise_residual(images, 3, 0.8)
    expected = {"prnu": pattern(noise), "prnu_terms": fingerprint_terms(images, noise, "released"), "prnu_noise": noise}
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=2.0**-11, atol=2.0**-25)
    fingerprints = np.random.default_rng(0).normal(0, 1, (4, 40, 24))
    exact, stored = (correlations(values, fingerprints) for values in (expected["prnu"], found["prnu"]))
    assert 0 < np.abs(exact - stored).max() < 1e-4


@pytest.mark.parametrize("side", [16, 127])
@pytest.mark.parametrize("level", [0, 7, 255])
def test_a_constant_image_has_no_noise(side: int, level: int) -> None:
    found = compute(config(features=EVERYTHING), np.full((2, side, side, 3), level, np.uint8))
    assert not found["prnu"].any()
    assert not found["prnu_noise"].any()
    assert not found["prnu_terms"][:, 0].any()


def test_a_row_has_the_same_bytes_alone_and_among_others() -> None:
    images = photos(30, 64, 64)  # more than one block
    together = compute(config(features=EVERYTHING), images)
    for number in (0, 20, 29):
        for name, values in compute(config(features=EVERYTHING), images[number : number + 1]).items():
            assert values.tobytes() == together[name][number : number + 1].tobytes()


def test_a_feature_has_the_same_bytes_whatever_else_is_asked_for() -> None:
    images = photos(3, 33, 20)
    together = compute(config(features=EVERYTHING), images)
    for feature in EVERYTHING:
        for name, values in compute(config(features=[feature]), images).items():
            assert values.tobytes() == together[name].tobytes()


def test_a_large_image_needs_little_more_memory_than_its_planes() -> None:
    images = photos(1, 512, 512)
    tracemalloc.start()
    compute(config(), images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 4 * 3 * 512 * 512  # ten times the float32 planes: 126 MB at 1024 px


def test_a_left_out_default_and_a_written_one_are_the_same_config() -> None:
    assert config() == config(features=["terms", "residual"], saturation="definition", levels=4, sigma=5.0)
    assert config(features=["residual"]).saturation is None
    assert config(**config().model_dump(mode="json")) == config()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"features": ["residual"], "saturation": "released"}, "saturation has no effect without the feature terms"),
        ({"features": []}, "at least 1 item"),
        ({"features": ["noise", "noise"]}, "name one twice"),
        ({"features": ["pce"]}, "Input should be 'residual', 'terms' or 'noise'"),
        ({"features": "terms"}, "valid array"),
        ({"levels": 0}, "greater than or equal to 1"),
        ({"sigma": 0}, "greater than or equal to 0.01"),
        ({"wavelet": "db8"}, "Extra inputs are not permitted"),
    ],
)
def test_a_config_that_makes_no_sense_is_rejected(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**values)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"of": {"score": Field("float32")}}, "prnu needs a field 'image', .* found score; put equalize before it"),
        (image_schema(dtype="float32"), r"found float32 \(32, 32, 3\)"),
        (image_schema(7, 32), "prnu needs images of 8 px per side or more, found 7 x 32"),
    ],
)
def test_an_input_without_usable_images_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Prnu().schema(config(), fields)


def test_without_pywavelets_one_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"prnu needs PyWavelets, .* pip install 'touchstone\[prnu\]'"):
        Prnu().check(config(), {})
    with pytest.raises(ValueError, match="prnu needs PyWavelets"):
        Prnu().environment(config())


def test_the_version_of_pywavelets_is_in_the_recipe() -> None:
    assert list(Prnu().environment(config())) == ["pywavelets"]


def test_the_recipe_holds_the_mathematics_and_no_detector() -> None:
    modules = closure(("stages.prnu", *Prnu().modules(config())))
    assert set(modules) == {
        "stages.prnu",
        "stages.images.image_field",
        "stages.spectra.wavelet_noise",
        "stages.images.planes",
        "detectors.noise_pattern",
    }


def test_planning_imports_nothing_heavy() -> None:
    program = (
        "import sys; from pipeline.stage import Field; from stages.prnu import Prnu, PrnuConfig\n"
        "Prnu().check(PrnuConfig(), {}); Prnu().environment(PrnuConfig())\n"
        "Prnu().schema(PrnuConfig(), {'of': {'image': Field('uint8', (64, 64, 3))}})\n"
        "print([name for name in ('torch', 'scipy', 'zarr', 'pywt') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def features(source: str, label: int, count: int, shared: float) -> MemoryRows:
    return rows_of(source, label, compute(config(), photos(count, 32, 24, shared, seed=label)))


def trained(folder: Path, rows: MemoryRows, detector: Any = "prnu") -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors and card."""
    ctx = context(folder, "train")
    settings = TrainConfig.model_validate_json(json.dumps({"detector": detector}))
    Train().fit(settings, {"on": rows}, ctx)
    return load_file(ctx.out / "model.safetensors"), json.loads((ctx.out / "card.json").read_text())


@pytest.fixture(scope="module")
def rows() -> MemoryRows:
    return union(features("photos", 0, 40, 0.0), features("gan", 1, 40, 3.0))


def test_a_fingerprint_is_the_quotient_of_the_sums_over_the_training_rows_of_its_class(
    rows: MemoryRows, tmp_path: Path
) -> None:
    tensors, card = trained(tmp_path, rows)
    train = rows.split("train")
    for label, name in enumerate(("real", "fake")):
        terms = train.array("prnu_terms", np.flatnonzero(train.column("label") == label)).astype(np.float64)
        quotient = terms[:, 0].sum(axis=0) / (terms[:, 1].sum(axis=0) + 1)
        expected = noise_pattern.pattern(quotient[None])[0]
        np.testing.assert_allclose(tensors[name], expected, rtol=0, atol=1e-6 * np.abs(expected).max())
        assert tensors[name].dtype == np.float32
    assert card["state"]["images"] == {"real": 20, "fake": 20}
    assert card["validation"]["auc"] > 0.95
    assert card["detector"] == "fingerprint on prnu"


def test_the_fingerprint_of_marra_is_the_mean_of_the_residuals(rows: MemoryRows, tmp_path: Path) -> None:
    tensors, _ = trained(tmp_path, rows, {"preset": "prnu", "terms": None})
    train = rows.split("train")
    fakes = train.array("prnu", np.flatnonzero(train.column("label") == 1)).astype(np.float64)
    np.testing.assert_allclose(tensors["fake"], fakes.mean(axis=0), rtol=1e-6, atol=1e-9)


def test_rows_of_other_splits_do_not_touch_a_fingerprint(rows: MemoryRows, tmp_path: Path) -> None:
    spoiled = rows.take(np.arange(len(rows)))
    others = np.flatnonzero(rows.column("split") != "train")
    spoiled.values = {name: values.copy() for name, values in rows.values.items()}
    for values in spoiled.values.values():
        values[others] = values[others][::-1] + 1
    one, two = trained(tmp_path / "one", rows)[0], trained(tmp_path / "two", spoiled)[0]
    assert {name: values.tobytes() for name, values in one.items()} == {n: v.tobytes() for n, v in two.items()}


def test_the_difference_decides_as_the_argmax_of_the_correlations(rows: MemoryRows, tmp_path: Path) -> None:
    tensors, _ = trained(tmp_path, rows, "prnu-argmax")
    test = rows.split("test").array("prnu")
    both = correlations(test, np.stack([tensors["real"], tensors["fake"]]))
    decided = prnu.decision(prnu.Config(rule="difference"), State(tensors), test)
    np.testing.assert_array_equal(decided > 0, both.argmax(axis=1) == 1)
    np.testing.assert_array_equal(prnu.decision(prnu.Config(), State(tensors), test), both[:, 1])


def test_rows_without_the_terms_are_refused_at_planning() -> None:
    settings = TrainConfig.model_validate_json(json.dumps({"detector": "prnu"}))
    schema = Prnu().schema(config(features=["residual"]), image_schema())
    with pytest.raises(ValueError, match="have no field 'prnu_terms', which the detector's 'terms' names"):
        Train().schema(settings, {"on": schema})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"feature": "prnu_noise"}, "a fingerprint wants residuals H x W, and 'prnu_noise' has 3 x 16 x 16"),
        ({"terms": "prnu_noise"}, "are 2 x 3 x H x W, and 'prnu_noise' has 3 x 16 x 16"),
    ],
)
def test_fields_of_another_shape_are_refused(settings: dict[str, str], message: str, tmp_path: Path) -> None:
    values = compute(config(features=EVERYTHING), photos(8, 16, 16))
    rows = union(rows_of("photos", 0, values), rows_of("gan", 1, values))
    with pytest.raises(ValueError, match=message):
        trained(tmp_path, rows, {"preset": "prnu", **settings})


def test_constant_images_give_an_empty_fingerprint_and_equal_scores(tmp_path: Path) -> None:
    values = compute(config(), np.full((8, 16, 16, 3), 9, np.uint8))
    tensors, card = trained(tmp_path, union(rows_of("photos", 0, values), rows_of("gan", 1, values)))
    assert not tensors["fake"].any()
    assert card["threshold"] == 0.5
    assert np.isfinite(card["state"]["slope"])


PIPELINE = """
nodes:
  photos: {stage: "toy_photos:Photos", count: 48, splits: [train, val, test]}
  fakes: {stage: upsample, of: photos, method: bilinear}
  residuals: {stage: prnu, of: [photos, fakes], levels: 2}
  fingerprints: {stage: train, on: residuals, detector: prnu}
  table: {stage: evaluate, model: fingerprints, test: residuals}
"""


def test_a_pipeline_runs_from_photographs_to_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path, monkeypatch, PIPELINE)
    assert project.run().computed["residuals"] == 96
    (place,) = (project.folder / "store" / "evaluate").rglob("results.json")
    results = json.loads(place.read_text())
    assert [(row["source"], row["n_real"], row["n_fake"]) for row in results["rows"]] == [
        ("fakes", 16, 16),
        ("all", 16, 16),
    ]
    project.replace("detector: prnu", "detector: prnu-argmax")
    assert project.run().computed.get("residuals", 0) == 0
    assert open_node(project.file, "residuals").array("prnu").shape == (96, 32, 32)
