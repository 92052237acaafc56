"""The upsampling lab: each method against torch, slow loops or its spectrum; what the rows of the stage are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from toy_photos import expanded, identity
from toy_project import Project

from pipeline.declaring.config import load_pipeline
from pipeline.planning.closure import closure
from pipeline.stage import ID, Batch, Context, Field, Kind
from stages.spectra import upsampling
from stages.upsample import METHODS, Upsample, UpsampleConfig, enlarged, layer_kernels


def config(method: str, **values: Any) -> UpsampleConfig:
    return UpsampleConfig.model_validate_json(json.dumps({"method": method, **values}))


def small(rows: int = 2, height: int = 5, width: int = 7, seed: int = 1) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).uniform(0, 255, (rows, height, width, 3)).astype(np.float32)


def photos(rows: int, height: int, width: int, seed: int = 1) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (rows, height, width, 3), dtype=np.uint8)


def compute(chosen: UpsampleConfig, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    ids = np.zeros(len(images), ID)
    batch = Batch(ids, (ids,), ({"image": images},), np.zeros(len(images), np.int64))
    return np.asarray(Upsample().compute(chosen, batch, Context(seed=0, stage="upsample"))["image"])


def by_loop(image: np.ndarray[Any, Any], factor: int, taps: int, weight: Any) -> np.ndarray[Any, Any]:
    """Interpolation of one plane: pixel by pixel, centers at half pixels, edges repeated, in float64."""
    height, width = image.shape
    result = np.zeros((factor * height, factor * width))
    for row, column in np.ndindex(result.shape):
        y, x = (row + 0.5) / factor - 0.5, (column + 0.5) / factor - 0.5
        top, left = int(np.floor(y)), int(np.floor(x))
        for i in range(top + 1 - taps, top + 1 + taps):
            for j in range(left + 1 - taps, left + 1 + taps):
                pixel = image[min(max(i, 0), height - 1), min(max(j, 0), width - 1)]
                result[row, column] += weight(abs(y - i)) * weight(abs(x - j)) * float(pixel)
    return result


def linear(distance: float) -> float:
    return 1 - distance


def cubic(distance: float) -> float:
    """Keys' kernel with a = -0.75, expanded."""
    if distance <= 1:
        return 1.25 * distance**3 - 2.25 * distance**2 + 1
    return -0.75 * distance**3 + 3.75 * distance**2 - 6 * distance + 3


@pytest.mark.parametrize("factor", [2, 4])
def test_reduction_is_the_exact_mean_of_blocks(factor: int) -> None:
    images = photos(2, 4 * factor, 3 * factor)
    found = upsampling.reduced(images, factor)
    assert found.dtype == np.float32
    for row, y, x, channel in np.ndindex(found.shape):
        block = images[row, factor * y : factor * (y + 1), factor * x : factor * (x + 1), channel]
        assert found[row, y, x, channel] == int(block.sum()) / factor**2  # a quarter or a sixteenth: exact


@pytest.mark.parametrize("factor", [2, 4])
def test_nearest_repeats_each_value(factor: int) -> None:
    images = small()
    found = upsampling.nearest(images, factor)
    assert found.shape == (2, 5 * factor, 7 * factor, 3)
    for y, x in np.ndindex(factor, factor):
        np.testing.assert_array_equal(found[:, y::factor, x::factor], images)


@pytest.mark.parametrize("factor", [2, 4])
def test_the_spectrum_of_a_bed_of_nails_repeats_that_of_the_small_image(factor: int) -> None:
    image = small(1, 6, 8)[0, ..., 0]
    found = upsampling.bed_of_nails(image[None, ..., None], factor)[0, ..., 0]
    spectrum = np.fft.fft2(image.astype(np.float64))
    np.testing.assert_allclose(np.fft.fft2(found.astype(np.float64)), np.tile(spectrum, (factor, factor)), atol=1e-9)


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize(("method", "taps", "weight"), [("bilinear", 1, linear), ("bicubic", 2, cubic)])
def test_interpolation_is_that_of_a_loop_and_of_torch(method: str, taps: int, weight: Any, factor: int) -> None:
    import torch
    from torch.nn.functional import interpolate

    images = small()
    found = enlarged(images, config(method, factor=factor))
    for row, channel in np.ndindex(2, 3):
        slow = by_loop(images[row, ..., channel], factor, taps, weight)
        np.testing.assert_allclose(found[row, ..., channel], slow, rtol=0, atol=2e-4)
    planes = torch.from_numpy(images).permute(0, 3, 1, 2)
    theirs = interpolate(planes, scale_factor=factor, mode=method, align_corners=False).permute(0, 2, 3, 1)
    np.testing.assert_allclose(found, theirs.numpy(), rtol=0, atol=2e-4)


def padded(images: np.ndarray[Any, Any]) -> Any:
    """Channels first, one pixel of border, as a torch tensor of float64."""
    import torch

    border = np.pad(images.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    return torch.from_numpy(border).permute(0, 3, 1, 2)


def test_pixel_shuffle_is_a_convolution_to_four_times_the_channels_and_torchs_shuffle() -> None:
    import torch
    from torch.nn.functional import conv2d, pixel_shuffle

    images, kernels = small(), layer_kernels(config("pixel_shuffle", spread=0.2, seed=3), 0)
    weight = torch.from_numpy(kernels.astype(np.float64)).permute(4, 0, 1, 2, 3).reshape(12, 1, 3, 3)
    expected = pixel_shuffle(conv2d(padded(images), weight, groups=3), 2).permute(0, 2, 3, 1)
    np.testing.assert_allclose(upsampling.doubled(images, kernels), expected.numpy(), rtol=0, atol=2e-4)


@pytest.mark.parametrize("size", [3, 4])
def test_transposed_convolution_is_that_of_torch(size: int) -> None:
    import torch
    from torch.nn.functional import conv_transpose2d

    normal = np.random.default_rng(5).normal(0, 1, (size, size, 3))
    images, kernels = small(), upsampling.transposed_kernels(normal, 0.2)
    places = np.arange(size) - (size - 1) / 2
    gauss = np.exp(-0.5 * (places / (size / 4)) ** 2)
    weights = np.outer(gauss, gauss)[..., None] * (1 + 0.2 * normal)
    weights *= 4 / weights.sum(axis=(0, 1))  # four output pixels per input pixel: the mean level stays
    tensor = torch.from_numpy(weights).permute(2, 0, 1)[:, None]
    whole = conv_transpose2d(padded(images), tensor, stride=2, padding=1, output_padding=size % 2, groups=3)
    expected = whole[:, :, 2:-2, 2:-2].permute(0, 2, 3, 1)  # without the border
    np.testing.assert_allclose(upsampling.doubled(images, kernels), expected.numpy(), rtol=0, atol=2e-4)


def axis_peak(image: np.ndarray[Any, Any]) -> float:
    """Magnitude at (0, N/2) and (N/2, 0) over the mean level."""
    spectrum = np.abs(np.fft.fft2(image.astype(np.float64)))
    height, width = image.shape
    return float(max(spectrum[0, width // 2], spectrum[height // 2, 0]) / spectrum[0, 0])


def test_checkerboards_appear_where_they_must() -> None:
    """Uneven overlap (kernel 3) and unequal weights give peaks at N/2 on the axes; even overlap and equal ones none."""
    flat = np.full((1, 8, 8, 3), 100, np.float32)

    def peak(method: str, **values: Any) -> float:
        return axis_peak(enlarged(flat, config(method, **values))[0, ..., 0])

    gauss = np.exp(-0.5 * np.array([1 / 0.75, 0]) ** 2)
    shares = np.array([gauss[1], 2 * gauss[0]])  # of even and odd pixels
    expected = abs(shares[0] - shares[1]) / shares.sum()
    assert peak("transposed_convolution", kernel=3, spread=0.0) == pytest.approx(expected, rel=1e-5)
    assert peak("transposed_convolution", kernel=4, spread=0.0) < 1e-6
    assert peak("pixel_shuffle", spread=0.0) < 1e-6
    for method in ("pixel_shuffle", "transposed_convolution"):
        more = {"kernel": 4} if method == "transposed_convolution" else {}
        assert 0.005 < peak(method, spread=0.1, **more) < 0.2
    for method in ("nearest", "bilinear", "bicubic"):
        assert peak(method) < 1e-6


def test_pixel_shuffle_without_spread_is_bilinear() -> None:
    images = small()
    found = enlarged(images, config("pixel_shuffle", spread=0.0))
    np.testing.assert_allclose(found, enlarged(images, config("bilinear")), rtol=0, atol=2e-4)


@pytest.mark.parametrize("method", ["pixel_shuffle", "transposed_convolution"])
@pytest.mark.parametrize("factor", [2, 4])
def test_methods_with_weights_keep_the_level_of_each_color(method: str, factor: int) -> None:
    flat = np.tile(np.array([20, 100, 200], np.float32), (1, 4, 4, 1))
    found = enlarged(flat, config(method, factor=factor, seed=9))
    # the second of two layers meets the pattern of the first
    np.testing.assert_allclose(found.mean(axis=(0, 1, 2)), [20, 100, 200], rtol=1e-5 if factor == 2 else 0.02)


def test_weights_depend_on_their_seed_method_and_layer_only() -> None:
    one = config("pixel_shuffle", factor=4)
    first, second = layer_kernels(one, 0), layer_kernels(one, 1)
    assert (first != second).any()
    assert (first != layer_kernels(config("pixel_shuffle", seed=1), 0)).any()
    np.testing.assert_array_equal(first, layer_kernels(config("pixel_shuffle", factor=2, seed=0), 0))


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("method", METHODS)
def test_images_keep_size_and_type_and_do_not_depend_on_neighbors(method: str, factor: int) -> None:
    images = photos(5, 4 * factor, 6 * factor)
    images[1] = 255
    chosen = config(method, factor=factor)
    found = compute(chosen, images)
    assert found.shape == images.shape
    assert found.dtype == np.uint8
    exact = enlarged(upsampling.reduced(images, factor), chosen)
    assert np.abs(found - np.clip(exact, 0, 255)).max() <= 0.5 + 1e-5
    order = np.array([3, 1, 4, 0, 2])
    assert compute(chosen, images[order]).tobytes() == found[order].tobytes()
    assert compute(chosen, images[2:3]).tobytes() == found[2:3].tobytes()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(METHODS), st.integers(1, 5), st.integers(1, 5), st.sampled_from([2, 4]), st.integers(0, 255))
def test_a_constant_image_of_any_size_stays_constant_unless_the_method_has_a_pattern(
    method: str, height: int, width: int, factor: int, level: int
) -> None:
    images = np.full((1, factor * height, factor * width, 3), level, np.uint8)
    found = compute(config(method, factor=factor), images)
    if method in ("nearest", "bilinear", "bicubic"):
        np.testing.assert_array_equal(found, images)
    elif method == "bed_of_nails":
        assert int(found.sum()) * factor**2 == int(images.sum())
    else:
        assert abs(float(found.mean()) - level) < 0.5 + 0.2 * level


def test_a_left_out_default_and_a_written_one_are_the_same_config() -> None:
    assert config("transposed_convolution") == config("transposed_convolution", kernel=3, spread=0.1, seed=0, factor=2)
    assert config("pixel_shuffle") == config("pixel_shuffle", spread=0.1, seed=0)
    assert config("nearest").seed is None
    assert config("pixel_shuffle", spread=0.0).spread == 0


@pytest.mark.parametrize(
    ("method", "values", "message"),
    [
        ("lanczos", {}, "Input should be 'nearest', 'bed_of_nails'"),
        ("nearest", {"seed": 1}, "seed has no effect with method nearest, only with pixel_shuffle and transposed_conv"),
        ("pixel_shuffle", {"kernel": 4}, "kernel has no effect with method pixel_shuffle, only with transposed_conv"),
        ("bilinear", {"factor": 3}, "Input should be 2 or 4"),
        ("transposed_convolution", {"kernel": 5}, "Input should be 3 or 4"),
        ("pixel_shuffle", {"spread": 0.9}, "less than or equal to 0.3"),
        ("nearest", {"scale": 2}, "Extra inputs are not permitted"),
    ],
)
def test_a_config_that_makes_no_sense_is_rejected(method: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(method, **values)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (Field("float32", (8, 8, 3)), r"uint8 \(H, W, 3\), .* found float32 \(8, 8, 3\); put equalize before it"),
        (Field("uint8", (10, 8, 3)), "images of 10 x 8 px cannot be reduced 4 times in blocks; .* a multiple of 4"),
    ],
)
def test_unusable_images_are_named_at_planning(field: Field, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Upsample().schema(config("nearest", factor=4), {"of": {"image": field}})
    with pytest.raises(ValueError, match="found nothing"):
        Upsample().schema(config("nearest"), {"of": {}})


def test_the_recipe_is_that_of_few_modules_and_of_no_seed() -> None:
    assert set(closure(("stages.upsample",))) == {
        "stages.upsample",
        "stages.spectra.upsampling",
        "stages.images.cubic",
        "stages.images.image_field",
    }
    assert Upsample.kind is Kind.EXPAND
    assert not Upsample.random


def test_the_experiment_trains_on_every_method() -> None:
    nodes = load_pipeline(Path(__file__).parents[2] / "experiments" / "upsampling.yaml").nodes
    for entry in ("up", "radial", "projected"):
        assert [name for name in nodes if nodes[name].entry == entry] == [f"{entry}[{method}]" for method in METHODS]


PIPELINE = """
nodes:
  photos: {stage: "toy_photos:Photos", count: 12}
  up: {stage: upsample, matrix: {method: [nearest, bilinear]}, of: photos, method: "{method}"}
  spectra: {stage: spectrum, of: [photos, up]}
  one: {stage: spectrum, of: {of: [photos, up], where: "source = up[bilinear] and split = test"}}
"""


def test_rows_are_fakes_of_their_method_with_the_group_split_and_domain_of_their_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path, monkeypatch, PIPELINE)
    done = project.run()
    assert done.computed["up[nearest]"] == 12
    assert done.computed["spectra"] == 36
    plan = project.plan()
    (photos_branch,) = plan.branches["photos"]
    tables = {name: plan.branches[f"up[{name}]"][0].rows for name in ("nearest", "bilinear")}
    for name, rows in tables.items():
        assert (rows.label == 1).all()
        assert {plan.names.words[number] for number in rows.source} == {f"up[{name}]"}
        for column in ("group", "split", "domain"):
            np.testing.assert_array_equal(getattr(rows, column), getattr(photos_branch.rows, column))
    number = METHODS.index("bilinear")
    assert tables["bilinear"].id[0].tobytes() == expanded(photos_branch.rows.id[0].tobytes(), index=number)
    assert photos_branch.rows.id[0].tobytes() in {identity(one) for one in range(12)}
    assert not set(tables["bilinear"].id.tolist()) & set(tables["nearest"].id.tolist())
    (chosen,) = plan.branches["one"]
    tests = tables["bilinear"].split == 2
    np.testing.assert_array_equal(np.sort(chosen.rows.id), np.sort(tables["bilinear"].id[tests]))
    assert 0 < len(chosen.rows) < 12
    project.replace("count: 12", "count: 15")
    assert project.run().computed["up[bilinear]"] == 3
