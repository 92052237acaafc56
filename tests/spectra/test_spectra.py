"""Kernels of the frequency features against golden vectors, slow loops and closed forms."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from stages.images import planes
from stages.spectra import maps as spectra
from stages.spectra import profiles

WEAK_LOG = -18  # coefficients below are round-off in the reference too
CONVENTIONS = ("durall19", "durall20", "jung21")


def noise(height, width, rows=2, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (rows, height, width, 3), dtype=np.uint8)


def formula_image(size):
    """The image of the formula goldens, which do not store it."""
    y, x = np.mgrid[:size, :size].astype(np.int64)
    channels = (7 * x + 13 * y + x * y, 3 * x * x + 5 * y, x * y * y + 11 * x)
    return (np.stack(channels, axis=-1) % 256).astype(np.uint8)


def slow_profile(image, convention):
    """One mask per ring on the full (Durall) or half (Jung) plane, straight from the published definitions."""
    height, width, _ = image.shape
    pixels = image.astype(np.float64)
    if convention == "durall19":
        gray = planes.opencv_gray(image[None], np.float64)[0]
    elif convention == "durall20":
        gray = (pixels / 127.5 - 1) @ [0.2989, 0.5870, 0.1140]
    else:
        gray = (pixels / 255) @ [0.299, 0.587, 0.114]
    spectrum = np.fft.fft2(gray)
    if convention == "jung21":
        spectrum = spectrum[:, : width // 2 + 1]
        down = np.array([min(row, height - row) for row in range(height)])
        radius = np.floor(np.hypot(down[:, None], np.arange(width // 2 + 1)[None, :]))
        logs = 20 * np.log(np.abs(spectrum) ** 2 + 1e-8)
        rings = range(int(radius.max()) + 1)
    else:
        logs = 20 * np.log(np.abs(np.fft.fftshift(spectrum) + 1e-8))
        y, x = np.indices(logs.shape)
        radius = np.floor(np.hypot(x - (width - 1) / 2, y - (height - 1) / 2))
        rings = range(1, int(radius.max()))
    return np.array([logs[radius == ring].mean() for ring in rings])


@pytest.mark.golden("spectrum", "case_*.npz", keys="gray_(cv2|pil)")
def test_gray_conversions_equal_opencv_and_pillow(golden):
    images = golden["img"][None]
    if "gray_cv2" in golden:
        assert np.array_equal(planes.opencv_gray(images)[0], golden["gray_cv2"])
    if "gray_pil" in golden:
        assert np.array_equal(planes.pillow_gray(images)[0], golden["gray_pil"])


@pytest.mark.golden("spectrum", "case_*.npz", keys="(durall|upconv)_raw")
def test_profiles_equal_the_published_codes_in_float64(golden):
    images = golden["img"][None]
    for key, convention in (("durall_raw", "durall19"), ("upconv_raw", "durall20")):
        if key in golden:
            found = profiles.profiles(images, convention, np.float64)[0]
            np.testing.assert_allclose(found, golden[key], rtol=0, atol=1e-7)


@pytest.mark.golden("spectrum", "case_*.npz", keys="(row|col)_profile")
def test_projections_equal_the_means_of_the_full_shifted_plane(golden):
    found = profiles.line_spectra(golden["img"][None], None, projected=True, dtype=np.float64)
    for key, name in (("row_profile", "row_profile"), ("col_profile", "column_profile")):
        if key in golden:
            np.testing.assert_allclose(found[name][0], golden[key], rtol=0, atol=1e-8)


@pytest.mark.golden("spectrum", "case_*.npz", keys="dct_(gray_log|color_log|color)")
def test_dct_maps_equal_the_published_code(golden):
    images = golden["img"][None]
    for key, color in (("dct_gray_log", "gray"), ("dct_color_log", "rgb")):
        if key in golden:
            expected = golden[key].reshape(*golden["img"].shape[:2], -1).transpose(2, 0, 1)
            tolerance = 1e-9 if expected.dtype == np.float64 else 1e-6
            found = spectra.dct2d_maps(images, color, np.float64)[0]
            strong = expected > WEAK_LOG
            assert strong.mean() > 0.9
            np.testing.assert_allclose(found[strong], expected[strong], rtol=0, atol=tolerance)
    if "dct_color" in golden:
        found = spectra.dct_coefficients(planes.channels_first(images, np.float64))[0]
        np.testing.assert_allclose(found, golden["dct_color"].transpose(2, 0, 1), rtol=0, atol=1e-9)


@pytest.mark.golden("spectrum", "formula*.npz")
def test_large_profiles_equal_the_published_codes(golden):
    image = formula_image(int(golden.path.stem.removeprefix("formula")))
    assert hashlib.sha256(image.tobytes()).hexdigest() == str(golden["img_sha256"])
    gray = planes.opencv_gray(image[None])[0].astype(np.uint8)
    assert hashlib.sha256(gray.tobytes()).hexdigest() == str(golden["gray_sha256"])
    found = profiles.profiles(image[None], "durall19", np.float64)[0]
    np.testing.assert_allclose(found, golden["durall_raw"], rtol=0, atol=1e-6)


@pytest.mark.golden("spectrum", "case_*.npz")
def test_shipped_float32_lines_stay_within_two_thousandths_of_float64(golden):
    images = golden["img"][None]
    for convention in CONVENTIONS:
        exact = profiles.line_spectra(images, convention, projected=True, dtype=np.float64)
        for name, values in profiles.line_spectra(images, convention, projected=True).items():
            np.testing.assert_allclose(values, exact[name], rtol=0, atol=2e-3, err_msg=f"{convention} {name}")


@pytest.mark.parametrize("size", [64, 512, 1024])
def test_shipped_float32_transforms_stay_within_their_bounds(size):
    images = formula_image(size)[None]
    exact = spectra.dct_coefficients(planes.channels_first(images, np.float64))
    found = spectra.dct_coefficients(planes.channels_first(images, np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exact, rtol=0, atol=2.5e-2)
    amplitudes = [np.exp(spectra.fft2d_maps(images, "rgb", dtype)) for dtype in (np.float32, np.float64)]
    np.testing.assert_allclose(*amplitudes, rtol=1e-5, atol=1e-3)
    for convention in CONVENTIONS:
        exact = profiles.line_spectra(images, convention, projected=True, dtype=np.float64)
        for name, values in profiles.line_spectra(images, convention, projected=True).items():
            assert values.dtype == np.float32
            np.testing.assert_allclose(values, exact[name], rtol=0, atol=2e-3, err_msg=f"{convention} {name}")


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("shape", [(8, 8), (17, 17), (16, 23), (31, 20), (127, 127)])
def test_profiles_equal_a_loop_over_rings_at_odd_and_rectangular_sizes(shape, convention):
    images = noise(*shape)
    found = profiles.profiles(images, convention, np.float64)
    expected = np.stack([slow_profile(image, convention) for image in images])
    assert found.shape == expected.shape == (2, profiles.profile_length(*shape, convention))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("shape", [(16, 16), (17, 17), (16, 23), (31, 20)])
def test_projections_are_means_over_either_axis_at_every_parity(shape):
    images = noise(*shape)
    found = profiles.line_spectra(images, "jung21", projected=True, dtype=np.float64)
    gray = planes.opencv_gray(images, np.float64)
    logs = 20 * np.log(np.abs(np.fft.fftshift(np.fft.fft2(gray), axes=(1, 2)) + 1e-8))
    np.testing.assert_allclose(found["row_profile"], logs.mean(axis=2), rtol=0, atol=1e-9)
    np.testing.assert_allclose(found["column_profile"], logs.mean(axis=1), rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", [(16, 16), (17, 17), (16, 23), (31, 20)])
@pytest.mark.parametrize("color", ["gray", "rgb"])
def test_fft_maps_are_the_unshifted_full_plane_at_every_parity(shape, color):
    images = noise(*shape)
    values = planes.pillow_gray(images, np.float64)[:, None] if color == "gray" else np.moveaxis(images, -1, 1)
    expected = np.log(np.abs(np.fft.fft2(values / 255.0)) + 1e-3)
    np.testing.assert_allclose(spectra.fft2d_maps(images, color, np.float64), expected, rtol=0, atol=1e-9)


def test_dct_of_a_cosine_is_one_coefficient():
    size, frequency = 16, 5
    wave = np.cos(np.pi * (np.arange(size) + 0.5) * frequency / size)
    found = spectra.dct_coefficients(np.tile(100 * wave, (size, 1))[None])[0]
    expected = np.zeros((size, size))
    expected[0, frequency] = 100 * np.sqrt(size) * np.sqrt(size / 2)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("size", "durall", "jung"),
    [
        *[((64, 64), 43, 46), ((65, 65), 44, 46), ((127, 127), 88, 90), ((128, 128), 88, 91)],
        *[((256, 256), 179, 182), ((512, 512), 360, 363), ((1024, 1024), 722, 725), ((178, 218), 139, 141)],
    ],
)
def test_profile_lengths_are_the_published_ones(size, durall, jung):
    assert [profiles.profile_length(*size, convention) for convention in CONVENTIONS] == [durall, durall, jung]


@pytest.mark.parametrize("size", [64, 127, 128])
@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_a_constant_image_has_finite_spectra_and_a_flat_profile(size, level):
    images = np.full((1, size, size, 3), level, np.uint8)
    for convention in CONVENTIONS:
        found = profiles.line_spectra(images, convention, projected=True)
        assert all(np.isfinite(values).all() for values in found.values())
    np.testing.assert_allclose(profiles.profiles(images, "durall19")[0, 1:], 20 * np.log(1e-8), rtol=1e-5)
    for found in (spectra.dct2d_maps(images, "rgb"), spectra.fft2d_maps(images, "gray")):
        assert np.isfinite(found).all()


@pytest.mark.parametrize("shape", [(16, 16), (33, 20), (256, 256)])
def test_bytes_of_a_row_do_not_depend_on_its_neighbors(shape):
    images = noise(*shape, rows=11)
    kernels = [
        *(lambda part, name=name: profiles.profiles(part, name) for name in CONVENTIONS),
        *(lambda part, k=k: profiles.line_spectra(part, None, True)[k] for k in ("row_profile", "column_profile")),
        *(lambda part, k=k, color=color: k(part, color, np.float32, np.float16)
          for k in (spectra.dct2d_maps, spectra.fft2d_maps) for color in ("gray", "rgb")),
    ]  # fmt: skip
    for kernel in kernels:
        together = kernel(images)
        for rows in ([4], [10, 4, 0], [3, 4, 5, 6, 7]):
            assert kernel(images[rows]).tobytes() == together[rows].tobytes()


def test_float16_conversion_rounds_to_nearest_even_as_numpy_does():
    every_half = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    finite = np.sort(every_half[np.isfinite(every_half)])
    values = np.concatenate([finite, (finite[:-1] + finite[1:]) / 2]).astype(np.float32)
    converted = spectra.converted(values, np.dtype(np.float16))
    assert converted.tobytes() == values.astype(np.float16).tobytes()
