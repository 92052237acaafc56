"""The spectrum stage: config, schema, stored values."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.stage import ID, Batch, Context, Field, Kind
from stages.spectrum import Spectrum, SpectrumConfig

EVERYTHING = {"features": ["profile", "projections", "dct2d", "fft2d"]}


def config(**values):
    return SpectrumConfig.model_validate_json(json.dumps(values))


def image_schema(height=32, width=32, dtype="uint8", channels=3):
    return {"of": {"image": Field(dtype, (height, width, channels))}}


def compute(chosen, images):
    ids = np.zeros(len(images), ID)
    batch = Batch(ids, (ids,), ({"image": images},))
    return Spectrum().compute(chosen, batch, Context(seed=0, stage="spectrum"))


def noise(height, width, rows=3):
    return np.random.default_rng(5).integers(0, 256, (rows, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(32, 32), (33, 20), (64, 48)])
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"features": ["profile"], "convention": "jung21"},
        {"features": ["projections"]},
        {"features": ["dct2d"], "color": "gray"},
        {"features": ["fft2d"], "color": "rgb"},
        EVERYTHING,
    ],
)
def test_computed_arrays_are_what_the_schema_says(values, shape):
    chosen = config(**values)
    fields = Spectrum().schema(chosen, image_schema(*shape))
    found = compute(chosen, noise(*shape))
    assert set(found) == set(fields)
    for name, field in fields.items():
        assert found[name].shape == (3, *field.shape)
        assert found[name].dtype == np.dtype(field.dtype)


def test_field_names_and_types_are_those_that_detectors_read():
    fields = Spectrum().schema(config(**EVERYTHING), image_schema(64, 48))
    assert {name: (field.dtype, field.shape) for name, field in fields.items()} == {
        "profile": ("float32", (38,)),
        "row_profile": ("float32", (64,)),
        "column_profile": ("float32", (48,)),
        "dct2d": ("float16", (3, 64, 48)),
        "fft2d": ("float16", (3, 64, 48)),
    }
    assert Spectrum.kind is Kind.MAP


def test_stored_maps_are_the_rounded_logs_of_independent_transforms():
    from scipy.fft import dct

    images = noise(32, 24)
    found = compute(config(features=["dct2d", "fft2d"]), images)
    values = np.moveaxis(images, -1, 1).astype(np.float64)
    coefficients = dct(dct(values, axis=2, norm="ortho"), axis=3, norm="ortho")
    half_step = 2.0**-8  # float16 between 8 and 16
    np.testing.assert_allclose(found["dct2d"], np.log(np.abs(coefficients) + 1e-12), rtol=0, atol=half_step + 1e-3)
    logs = np.log(np.abs(np.fft.fft2(values / 255)) + 1e-3)
    np.testing.assert_allclose(found["fft2d"], logs, rtol=0, atol=half_step + 1e-3)


@pytest.mark.parametrize("size", [16, 127])
@pytest.mark.parametrize("level", [0, 7, 255])
def test_a_constant_image_never_gives_nan_or_infinity(size, level):
    images = np.full((2, size, size, 3), level, np.uint8)
    for color in ("gray", "rgb"):
        for convention in ("durall19", "durall20", "jung21"):
            found = compute(config(**EVERYTHING, color=color, convention=convention), images)
            assert all(np.isfinite(values).all() for values in found.values())


def hostile(height, width):
    """Images with as many exact zeros and as large coefficients as there can be."""
    found = np.zeros((6, height, width, 3), np.uint8)
    found[0] = 255
    found[1, ::2, ::2] = 255  # zero insertion
    found[2, (np.indices((height, width)).sum(axis=0) % 2) == 1] = 255  # a checkerboard
    found[3, height // 2, width // 3] = 1  # one pixel
    found[4, :, ::2, 0] = 255  # one channel
    found[5, height // 2 :] = 255  # one edge
    return found


@pytest.mark.parametrize("shape", [(8, 8), (9, 14), (65, 65), (64, 128)])
def test_hostile_images_of_any_shape_give_finite_features(shape):
    for color in ("gray", "rgb"):
        for convention in ("durall19", "durall20", "jung21"):
            found = compute(config(**EVERYTHING, color=color, convention=convention), hostile(*shape))
            assert all(np.isfinite(values).all() for values in found.values())


def test_logarithms_are_far_from_the_limits_of_float16():
    """What is stored lies between ln 1e-12 and the logarithm of a white image's zero frequency: 22 at 65536 pixels."""
    size = 512
    found = compute(config(features=["dct2d", "fft2d"]), hostile(size, size))
    for name, epsilon, largest in (("dct2d", 1e-12, 255 * size), ("fft2d", 1e-3, size * size)):
        assert found[name].min() == np.float16(np.log(epsilon))
        assert found[name].max() == np.float16(np.log(largest))
    assert np.log(255 * 65536) < np.log(65536.0**2) < 23 < -np.log(1e-12) < 28 < np.finfo(np.float16).max


def test_a_row_has_the_same_bytes_alone_and_among_others():
    images = noise(40, 36, rows=9)
    together = compute(config(**EVERYTHING), images)
    for name, values in compute(config(**EVERYTHING), images[6:7]).items():
        assert values.tobytes() == together[name][6:7].tobytes()


def test_a_feature_has_the_same_bytes_whatever_else_is_asked_for():
    images = noise(40, 36)
    together = compute(config(**EVERYTHING), images)
    for feature in EVERYTHING["features"]:
        for name, values in compute(config(features=[feature]), images).items():
            assert values.tobytes() == together[name].tobytes()


def test_a_left_out_default_and_a_written_one_are_the_same_config():
    assert config() == config(features=["profile"], convention="durall19")
    assert config(features=["fft2d", "dct2d"]) == config(features=["dct2d", "fft2d"], color="rgb")
    assert config(**config(features=["dct2d"]).model_dump(mode="json")) == config(features=["dct2d"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"features": ["dct2d"], "convention": "jung21"}, "convention has no effect without the feature profile"),
        ({"features": ["profile"], "color": "gray"}, "color has no effect without the features dct2d or fft2d"),
        ({"features": []}, "at least 1 item"),
        ({"features": ["profile", "profile"]}, "name one twice"),
        ({"features": ["wavelet"]}, "Input should be 'profile', 'projections', 'dct2d' or 'fft2d'"),
        ({"features": "profile"}, "valid array"),
        ({"features": ["profile"], "convention": "durall21"}, "Input should be 'durall19', 'durall20' or 'jung21'"),
        ({"feature": ["profile"]}, "Extra inputs are not permitted"),
    ],
)
def test_a_config_that_makes_no_sense_is_rejected(values, message):
    with pytest.raises(ValidationError, match=message):
        config(**values)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"of": {"score": Field("float32")}}, "needs a field 'image', uint8 .* found score; put equalize before it"),
        (image_schema(dtype="float32"), r"found float32 \(32, 32, 3\)"),
        (image_schema(channels=1), r"found uint8 \(32, 32, 1\)"),
        (image_schema(4, 32), "spectrum needs images of 8 px per side or more, found 4 x 32"),
        (image_schema(1, 1), "8 px per side or more, found 1 x 1"),
    ],
)
def test_an_input_without_usable_images_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Spectrum().schema(config(), fields)


def test_the_recipe_sees_only_the_modules_of_the_chosen_features():
    assert Spectrum().modules(config()) == ("stages.spectra.profiles",)
    assert Spectrum().modules(config(features=["fft2d"])) == ("stages.spectra.maps",)
    assert Spectrum().modules(config(**EVERYTHING)) == ("stages.spectra.maps", "stages.spectra.profiles")
    closure = importlib.import_module("pipeline.planning.closure").closure
    assert set(closure(("stages.spectrum",))) == {"stages.spectrum", "stages.images.image_field"}
    assert set(closure(("stages.spectra.profiles",))) == {"stages.spectra.profiles", "stages.images.planes"}


def test_planning_imports_nothing_heavy():
    program = (
        "import sys; from pipeline.stage import Field; from stages.spectrum import Spectrum, SpectrumConfig\n"
        "Spectrum().schema(SpectrumConfig(), {'of': {'image': Field('uint8', (64, 64, 3))}})\n"
        "print([name for name in ('torch', 'scipy', 'zarr', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
