"""Noise, Wiener filters and correlation against closed forms, slow loops and the published programs' numbers."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from golden_files import Golden
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.noise_pattern import correlations, dft_wiener, gray, pattern, wiener_gain, without_grids
from stages.spectra.wavelet_noise import fingerprint_terms, noise_residual, unsaturated


def photos(rows: int, height: int, width: int, seed: int = 3) -> np.ndarray[Any, Any]:
    """Smooth shades with noise of a few levels, some of them at 0 and 255."""
    random = np.random.default_rng(seed)
    down, right = np.mgrid[0:height, 0:width]
    shade = 128 + 150 * np.sin(down / 9 + np.arange(rows)[:, None, None]) * np.cos(right / 7)
    return np.clip(shade[..., None] + random.normal(0, 6, (rows, height, width, 3)), 0, 255).astype(np.uint8)


def slow_gain(values: np.ndarray[Any, Any], variance: float) -> np.ndarray[Any, Any]:
    """Share of noise, pixel by pixel."""
    height, width = values.shape
    result = np.zeros(values.shape)
    for row in range(height):
        for column in range(width):
            energies = []
            for radius in (1, 2, 3, 4):
                window = values[max(row - radius, 0) : row + radius + 1, max(column - radius, 0) : column + radius + 1]
                energies.append(float((window.astype(np.float64) ** 2).sum()) / (2 * radius + 1) ** 2)
            signal = max(min(energies) - variance, 0)
            result[row, column] = variance / (signal + variance) if signal + variance else 0
    return result


def whole_transform(image: np.ndarray[Any, Any], levels: int, sigma: float) -> np.ndarray[Any, Any]:
    """Noise of one image by PyWavelets' two-dimensional transform and SciPy's box filter, in float64."""
    import pywt
    from scipy.ndimage import uniform_filter

    def kept(band: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        energies = [uniform_filter(band**2, size, mode="constant") for size in (3, 5, 7, 9)]
        signal = np.maximum(np.min(energies, axis=0) - sigma**2, 0)
        return np.asarray(band * sigma**2 / (signal + sigma**2))

    planes = []
    for channel in np.moveaxis(image.astype(np.float64), -1, 0):
        bands: list[Any] = [channel]
        while len(bands) <= levels:
            bands[:1] = pywt.dwt2(bands[0], "db4", "symmetric")
        noise = np.zeros_like(bands[0])
        for index, details in enumerate(bands[1:]):
            noise = pywt.idwt2((noise, tuple(map(kept, details))), "db4", "symmetric")
            shape = bands[index + 2][0].shape if index + 2 < len(bands) else channel.shape
            noise = noise[: shape[0], : shape[1]]
        planes.append(noise)
    return np.stack(planes)


def fingerprint(images: np.ndarray[Any, Any], levels: int, sigma: float) -> np.ndarray[Any, Any]:
    noise = noise_residual(images, levels, sigma)
    products, weights = fingerprint_terms(images, noise, "released").sum(axis=0, dtype=np.float64)
    return pattern((products / (weights + 1))[None])[0]


@pytest.mark.golden("resynthesis", "prnu*.npz")
def test_class_fingerprints_are_those_of_the_published_program(golden: Golden) -> None:
    levels, sigma = int(golden["levels"]), float(golden["sigma"])
    noise = noise_residual(golden["test_u8"], levels, sigma)
    (match,) = golden.matches(r"noise_extract_first\d+_f32")
    first = golden[match[0]]
    np.testing.assert_allclose(np.moveaxis(noise[: len(first)], 1, -1), first, rtol=0, atol=1e-4)
    residuals = pattern(noise)
    np.testing.assert_allclose(residuals, golden["extract_single_f32"], rtol=0, atol=1e-4)
    found = np.stack([fingerprint(golden[name], levels, sigma) for name in ("train_a_u8", "train_b_u8")])
    np.testing.assert_allclose(found, [golden["k_a_f32"], golden["k_b_f32"]], rtol=0, atol=1e-4)
    ncc = correlations(residuals, found).T
    np.testing.assert_allclose(ncc, golden["ncc_f32"], rtol=0, atol=1e-4)
    assert ncc[0][golden["test_is_a"]].min() > ncc[0][~golden["test_is_a"]].max()


@pytest.mark.golden("spectrum", "prnu*.npz")
def test_residuals_are_those_of_the_published_program(golden: Golden) -> None:
    compared = 0
    for key in sorted(golden.keys()):
        named = re.fullmatch(r"(.+)/(residual|noise_extract|fingerprint)_L(\d+)_s([\d.]+)", key)
        if named is None:
            assert key.endswith(("/img", "/imgs")), f"{key} is compared with nothing"
            continue
        levels, sigma = int(named[3]), float(named[4])
        if named[2] == "fingerprint":
            found = fingerprint(golden[f"{named[1]}/imgs"], levels, sigma)
        else:
            noise = noise_residual(golden[f"{named[1]}/img"][None], levels, sigma)
            found = pattern(noise)[0] if named[2] == "residual" else np.moveaxis(noise[0], 0, -1)
        np.testing.assert_allclose(found, golden[key], rtol=0, atol=1e-3, err_msg=key)
        # published grids go down to sigma 0.05, whose residuals are smaller than that tolerance
        assert np.abs(found - golden[key]).max() <= 1e-3 * np.abs(golden[key]).max(), key
        compared += 1
    assert compared, f"{golden.path} holds nothing to compare"


@pytest.mark.parametrize("shape", [(8, 8), (9, 13), (32, 48), (65, 31)])
@pytest.mark.parametrize(("levels", "sigma"), [(1, 0.8), (4, 5.0)])
def test_noise_is_that_of_a_transform_of_whole_images(shape: tuple[int, int], levels: int, sigma: float) -> None:
    images = photos(2, *shape)
    found = noise_residual(images, levels, sigma)
    assert found.dtype == np.float32
    assert found.shape == (2, 3, *shape)
    for one, image in zip(found, images, strict=True):
        np.testing.assert_allclose(one, whole_transform(image, levels, sigma), rtol=0, atol=2e-4)


@pytest.mark.parametrize("variance", [0.5, 30.0, 0.0])
def test_gain_is_that_of_a_loop_over_windows(variance: float) -> None:
    values = np.random.default_rng(2).normal(0, 4, (11, 14)) * np.linspace(0, 3, 14)
    np.testing.assert_allclose(wiener_gain(values, variance), slow_gain(values, variance), rtol=1e-12, atol=1e-15)
    single = wiener_gain(values.astype(np.float32), variance)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, slow_gain(values, variance), rtol=3e-5, atol=1e-7)


def test_the_filter_of_coefficients_is_the_real_part_of_the_filtered_transform() -> None:
    plane = np.random.default_rng(4).normal(0, 2, (10, 13))
    plane += 9 * np.outer(np.arange(10) % 2, np.arange(13) % 3)  # periodic
    spectrum = np.fft.fft2(plane)
    gain = slow_gain(np.abs(spectrum) / np.sqrt(130), float(plane.var(ddof=1)))
    expected = np.fft.ifft2(spectrum * gain).real
    np.testing.assert_allclose(dft_wiener(plane[None])[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(8, 8), (9, 12), (11, 13)])
def test_each_grid_of_every_second_pixel_loses_its_row_and_column_means(shape: tuple[int, int]) -> None:
    planes = np.random.default_rng(6).normal(5, 2, (2, *shape))
    found = without_grids(planes)
    for top in (0, 1):
        for left in (0, 1):
            grid, before = found[:, top::2, left::2], planes[:, top::2, left::2]
            np.testing.assert_allclose(grid.mean(axis=1), 0, atol=1e-12)
            np.testing.assert_allclose(grid.mean(axis=2), 0, atol=1e-12)
            removed = before - grid  # of the form a[row] + b[column], so its mixed differences vanish
            np.testing.assert_allclose(np.diff(np.diff(removed, axis=1), axis=2), 0, atol=1e-12)


def test_gray_has_the_weights_of_the_toolbox() -> None:
    planes = np.array([[[[1.0]], [[10.0]], [[100.0]]]], np.float32)
    assert gray(planes)[0, 0, 0] == pytest.approx(0.29893602 + 5.8704307 + 11.40209)


def test_weights_of_levels_are_exact_beyond_the_range_of_a_byte() -> None:
    """`level - 252` and its square leave the range of uint8."""
    levels = [0, 1, 126, 251, 252, 253, 254, 255]
    images = np.repeat(np.array(levels, np.uint8)[None, None, :, None], 3, axis=3)
    noise = np.full((1, 3, 1, len(levels)), 2.0, np.float32)
    products, weights = fingerprint_terms(images, noise)[0]
    expected = [(level / 252) ** 2 if level < 252 else np.exp(-((level - 252) ** 2) / 6) ** 2 for level in levels]
    # one row of pixels: each is its own neighbor above and below, so the maximum, 255, counts as saturated
    np.testing.assert_allclose(weights, [[[*expected[:-1], 0.0]]] * 3, rtol=1e-6)
    np.testing.assert_allclose(products, [[[2 * level / 255 for level in levels]]] * 3, rtol=1e-6)


def slow_unsaturated(image: np.ndarray[Any, Any], released: bool) -> np.ndarray[Any, Any]:
    height, width, _ = image.shape
    result = np.ones((3, height, width), bool)
    for channel, row, column in np.ndindex(3, height, width):
        plane = image[..., channel].astype(int)
        around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        twin = any(plane[y % height, x % width] == plane[row, column] for y, x in around)
        if plane.max() > 250:
            result[channel, row, column] = not (plane[row, column] == plane.max() and twin)
        elif released and image.max() >= 250:
            result[channel, row, column] = twin
    return result


@pytest.mark.parametrize("saturation", ["definition", "released"])
@pytest.mark.parametrize("peaks", [(255, 255, 255), (251, 250, 249), (250, 9, 9), (249, 249, 249), (0, 0, 255)])
def test_saturated_are_equal_neighbors_at_the_top(peaks: tuple[int, int, int], saturation: Any) -> None:
    random = np.random.default_rng(sum(peaks))
    image = np.stack([random.integers(max(peak - 3, 0), peak + 1, (7, 9)) for peak in peaks], axis=-1)
    image = image.astype(np.uint8)
    np.testing.assert_array_equal(
        unsaturated(image[None], saturation)[0], slow_unsaturated(image, saturation != "definition")
    )


def test_correlation_is_the_cosine_of_aligned_patterns() -> None:
    one = np.array([[3.0, 0.0], [0.0, 4.0]])
    others = np.stack([one, -2 * one, np.array([[0.0, 5.0], [7.0, 0.0]]), np.array([[1.0, 1.0], [1.0, 1.0]]), 0 * one])
    np.testing.assert_allclose(correlations(one[None], others)[0], [1, -1, 0, 0.7, 0], atol=1e-12)
    assert correlations(0 * one[None], others).tolist() == [[0.0] * 5]


def test_patterns_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="residuals of 8 x 8 cannot be compared with fingerprints of 8 x 9 px"):
        correlations(np.zeros((1, 8, 8)), np.zeros((1, 8, 9)))


@settings(max_examples=25, deadline=None)
@given(st.integers(8, 21), st.integers(8, 21), st.integers(1, 6), st.integers(0, 2**32))
def test_any_image_has_finite_noise_that_depends_on_itself_alone(
    height: int, width: int, levels: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    span = random.integers(1, 257, 4)
    images = np.stack([random.integers(0, top, (height, width, 3)) for top in span]).astype(np.uint8)
    images[0] = span[0] - 1  # constant
    noise = noise_residual(images, levels, 5.0)
    found = [noise, pattern(noise), fingerprint_terms(images, noise)]
    assert all(np.isfinite(values).all() for values in found)
    assert not noise[0].any()
    assert not found[1][0].any()
    order = random.permutation(4)
    mixed = noise_residual(images[order], levels, 5.0)
    assert mixed.tobytes() == noise[order].tobytes()
    assert pattern(mixed).tobytes() == found[1][order].tobytes()
    alone = noise_residual(images[2:3], levels, 5.0)
    assert alone.tobytes() == noise[2:3].tobytes()
    assert pattern(alone).tobytes() == found[1][2:3].tobytes()
    assert fingerprint_terms(images[2:3], alone).tobytes() == found[2][2:3].tobytes()


@pytest.mark.parametrize("side", [64, 127, 256])
def test_a_row_has_the_same_bytes_alone_and_among_others(side: int) -> None:
    images = photos(5, side, side)
    noise = noise_residual(images, 4, 5.0)
    together = pattern(noise)
    alone = noise_residual(images[3:4], 4, 5.0)
    assert alone.tobytes() == noise[3:4].tobytes()
    assert pattern(alone).tobytes() == together[3:4].tobytes()


def test_a_shared_pattern_is_found_and_another_is_not() -> None:
    random = np.random.default_rng(8)
    patterns = random.normal(0, 4, (2, 32, 32, 1))
    images = np.clip(photos(24, 32, 32) * 0.5 + 60 + np.repeat(patterns, 12, axis=0), 0, 255).astype(np.uint8)
    found = np.stack([fingerprint(images[part], 3, 5.0) for part in (slice(0, 10), slice(12, 22))])
    ncc = correlations(pattern(noise_residual(images[[10, 11, 22, 23]], 3, 5.0)), found)
    assert ncc[:2, 0].min() > 0.3
    assert ncc[2:, 1].min() > 0.3
    assert np.abs([ncc[:2, 1], ncc[2:, 0]]).max() < 0.1
