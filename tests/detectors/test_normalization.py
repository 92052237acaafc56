"""Load-time normalizations against golden vectors and closed forms."""

from __future__ import annotations

import io

import numpy as np
import pytest

from detectors import normalization
from stages.images import planes
from stages.spectra import maps as spectra
from stages.spectra import profiles


def durall_norm(images, length):
    resampled = normalization.resample(profiles.profiles(images, "durall19", np.float64), length)
    return resampled, normalization.divide_by_first(resampled)[0]


def as_images(gray):
    """Gray images whose three channels are equal: every gray conversion returns them."""
    return np.repeat(np.asarray(gray, np.uint8)[..., None], 3, axis=-1)


@pytest.mark.golden("spectrum", "case_*.npz", keys=r"durall_(interp|norm)\d+")
def test_resampled_and_divided_profiles_equal_the_published_features(golden):
    for key, kind, length in (match.group(0, 1, 2) for match in golden.matches(r"durall_(interp|norm)(\d+)")):
        resampled, divided = durall_norm(golden["img"][None], int(length))
        found, tolerance = (resampled, 1e-7) if kind == "interp" else (divided, 1e-9)
        np.testing.assert_allclose(found[0], golden[key], rtol=0, atol=tolerance, err_msg=key)


@pytest.mark.golden("spectrum", "case_*.npz", keys="upconv_minmax|jung_minmax|jung_minmax_f32")
def test_min_max_profiles_equal_the_published_features(golden):
    images = golden["img"][None]
    keys = [("upconv_minmax", "durall20", np.float64, 1e-9), ("jung_minmax", "jung21", np.float64, 1e-6)]
    keys += [("jung_minmax_f32", "jung21", np.float32, 2e-4)]
    for key, convention, dtype, tolerance in keys:
        if key in golden:
            found, flat = normalization.min_max(profiles.profiles(images, convention, dtype))
            np.testing.assert_allclose(found[0], golden[key], rtol=0, atol=tolerance, err_msg=key)
            assert not flat.any()


@pytest.mark.golden("spectrum", "case_*.npz", keys="jung_tf_minmax")
def test_rings_of_the_tensorflow_variant_equal_its_features(golden):
    """SpectralGAN-StyleGAN2 takes magnitude where SpectralGAN takes power; the rings are the same."""
    image = golden["img"]
    gray = (image / 255.0) @ [0.299, 0.587, 0.114]
    logs = np.log(np.abs(np.fft.rfft2(gray)) + 1e-8)[None]
    found, _ = normalization.min_max(profiles.ring_means(logs, image.shape[1], "jung21"))
    np.testing.assert_allclose(found[0], golden["jung_tf_minmax"], rtol=0, atol=1e-6)


@pytest.mark.golden("spectrum", "formula*.npz")
def test_large_profiles_normalize_to_the_published_features(golden):
    size = int(golden.path.stem.removeprefix("formula"))
    y, x = np.mgrid[:size, :size].astype(np.int64)
    image = np.stack([7 * x + 13 * y + x * y, 3 * x * x + 5 * y, x * y * y + 11 * x], axis=-1) % 256
    images = image.astype(np.uint8)[None]
    for match in golden.matches(r"durall_norm(\d+)"):
        divided = durall_norm(images, int(match[1]))[1][0]
        np.testing.assert_allclose(divided, golden[match[0]], rtol=0, atol=1e-6)
    found, _ = normalization.min_max(profiles.profiles(images, "durall20", np.float64))
    np.testing.assert_allclose(found[0], golden["upconv_minmax"], rtol=0, atol=1e-6)


@pytest.mark.golden("spectrum", "jpeg_gray.npz")
def test_a_jpeg_read_as_its_luma_plane_gives_the_published_feature_and_gray_of_rgb_another(golden):
    from PIL import Image

    for index in (match[1] for match in golden.matches(r"jpeg(\d+)")):
        (length,) = (int(match[1]) for match in golden.matches(rf"norm(\d+)_{index}"))
        data = golden[f"jpeg{index}"].tobytes()
        with Image.open(io.BytesIO(data)) as file:
            file.draft("L", file.size)
            luma = np.asarray(file.convert("L"))
        assert np.array_equal(luma, golden[f"gray{index}"])
        found = durall_norm(as_images(luma)[None], length)[1][0]
        np.testing.assert_allclose(found, golden[f"norm{length}_{index}"], rtol=0, atol=1e-9)
        with Image.open(io.BytesIO(data)) as file:
            of_rgb = planes.pillow_gray(np.asarray(file.convert("RGB"))[None])
        wrong = durall_norm(as_images(of_rgb), length)[1][0]
        np.testing.assert_allclose(wrong, golden[f"norm{length}_wrongL_{index}"], rtol=0, atol=1e-9)
        assert np.abs(wrong - found).max() > 1e-4


def autogan_logs_in_float32(image):
    """Raw logs as NumPy's float32 FFT gives them: what the published code computes today."""
    values = image.astype(np.float32).transpose(2, 0, 1) / np.float32(255)
    return np.log(np.abs(np.fft.fft2(values)) + np.float32(1e-3))


def assert_autogan(image, expected):
    expected = expected.transpose(2, 0, 1)
    found, _ = normalization.percentile_scale(autogan_logs_in_float32(image)[None])
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-5)
    for dtype in (np.float64, np.float32):  # the expected values carry the rounding of a float32 FFT themselves
        found, _ = normalization.percentile_scale(spectra.fft2d_maps(image[None], "rgb", dtype))
        error = np.abs(found[0] - expected)
        assert (error > 1e-5).mean() < 2e-3
        assert error.max() < 5e-5
    stored = spectra.fft2d_maps(image[None], "rgb", np.float32, np.float16)
    np.testing.assert_allclose(normalization.percentile_scale(stored)[0][0], expected, rtol=0, atol=2e-3)


@pytest.mark.golden("spectrum", "case_*.npz")
def test_percentile_scaled_maps_and_bands_equal_autogan(golden):
    crop = golden["img"][16:240, 16:240]
    if "autogan_fft_rgb224" in golden:
        assert_autogan(crop, golden["autogan_fft_rgb224"])
    for mode, band in ((1, "low"), (2, "mid"), (3, "high")):
        key = f"autogan_fft_rgb224_mode{mode}_ch0"
        if key in golden:
            scaled, _ = normalization.percentile_scale(spectra.fft2d_maps(crop[None], "rgb", np.float64))
            kept = normalization.keep_band(scaled, band)
            np.testing.assert_allclose(kept[0, 0], golden[key], rtol=0, atol=1e-5)


@pytest.mark.golden("resynthesis", "fft2d_*.npz")
def test_percentile_scaled_map_of_a_whole_image_equals_autogan(golden):
    assert_autogan(golden["image_u8_hwc"], golden["feature_f32_hwc"])


@pytest.mark.golden("spectrum", "set_dct.npz")
def test_moments_and_standardization_equal_welford_over_the_logs(golden):
    gray = golden["gray"]
    logs = spectra.dct2d_maps(as_images(gray), "gray", np.float64)[:, 0]
    moments, raw = normalization.Moments(), normalization.Moments()
    rows, columns = golden["raw_mean"].shape
    for part in (slice(0, 1), slice(1, 3), slice(3, 3), slice(3, None)):
        moments.update(logs[part])
        raw.update(spectra.dct_coefficients(gray[part].astype(np.float64))[:, :rows, :columns])
    np.testing.assert_allclose(moments.mean, golden["log_mean"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(moments.variance, golden["log_var"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(raw.mean, golden["raw_mean"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(raw.variance, golden["raw_var"], rtol=1e-5, atol=1e-5)
    found = normalization.standardize(logs[:1], moments.mean, moments.variance)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], golden["standardised0"], rtol=0, atol=1e-3)


def test_moments_do_not_depend_on_how_the_rows_are_batched():
    rows = np.random.default_rng(1).normal(50, 3, (37, 5))
    at_once, one_by_one = normalization.Moments(), normalization.Moments()
    at_once.update(rows)
    for row in rows:
        one_by_one.update(row[None])
    for moments in (at_once, one_by_one):
        np.testing.assert_allclose(moments.mean, rows.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(moments.variance, rows.var(axis=0), rtol=1e-12)


def test_moments_of_no_rows_are_an_error():
    moments = normalization.Moments()
    moments.update(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="no rows to take statistics of"):
        _ = moments.variance


def test_standardization_of_a_coefficient_that_never_varies_is_zero():
    found = normalization.standardize(np.array([[5.0, 4.0]]), np.array([3.0, 2.0]), np.array([0.0, 4.0]))
    assert found.tolist() == [[0.0, 1.0]]


def test_a_cubic_is_resampled_exactly_and_keeps_its_end_points():
    def cubic(places):
        return 2 * places**3 - places**2 + 0.5 * places - 7

    found = normalization.resample(cubic(np.linspace(0, 1, 43))[None], 80)
    np.testing.assert_allclose(found[0], cubic(np.linspace(0, 1, 80)), rtol=0, atol=1e-12)


def test_resampling_too_few_points_names_both_numbers():
    with pytest.raises(ValueError, match="profiles of 3 points to 80"):
        normalization.resample(np.zeros((1, 3)), 80)


@pytest.mark.parametrize("size", [64, 127])
@pytest.mark.parametrize("convention", ["durall19", "durall20", "jung21"])
def test_the_profile_of_a_constant_image_becomes_zeros_with_a_flag(size, convention):
    images = np.stack([np.full((size, size, 3), 77, np.uint8), as_images(np.eye(size) * 99)])
    kept = profiles.profiles(images, convention)[:, 1:]  # without the ring of DC
    found, flat = normalization.min_max(kept)
    assert flat.tolist() == [True, False]
    assert not found[0].any()
    assert found[1].min() == 0
    assert found[1].max() == 1


def test_min_max_does_not_see_an_affine_change_and_division_by_the_first_does():
    profile = np.array([[300.0, 250.0, 180.0, 120.0]])
    np.testing.assert_allclose(
        normalization.min_max(profile)[0], normalization.min_max(profile - 110)[0], rtol=0, atol=1e-12
    )
    shifted = normalization.divide_by_first(profile - 110)[0]
    assert np.abs(normalization.divide_by_first(profile)[0] - shifted).max() > 0.1


def test_division_by_a_first_element_of_zero_gives_zeros_with_a_flag():
    found, empty = normalization.divide_by_first(np.array([[0.0, 3.0], [2.0, 3.0]]))
    assert found.tolist() == [[0.0, 0.0], [1.0, 1.5]]
    assert empty.tolist() == [True, False]


def test_percentile_scaling_of_a_constant_plane_gives_zeros_with_a_flag():
    maps = np.zeros((1, 2, 5, 5), np.float16)
    maps[0, 1] = np.arange(25).reshape(5, 5)
    found, flat = normalization.percentile_scale(maps)
    assert flat.tolist() == [[True, False]]
    assert not found[0, 0].any()
    ramp = np.clip((np.arange(25) - 1.2) / (22.8 - 1.2) * 2 - 1, -1, 1)
    np.testing.assert_allclose(found[0, 1].ravel(), ramp, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [224, 64, 65])
def test_bands_are_squares_around_the_shifted_middle_and_add_up(size):
    maps = np.ones((1, 1, size, size), np.float32)
    bands = {band: normalization.keep_band(maps, band)[0, 0] for band in ("low", "mid", "high")}
    assert np.array_equal(sum(bands.values()), maps[0, 0])
    first, last = round(57 * size / 224), round(177 * size / 224)
    shifted = np.fft.fftshift(bands["low"])
    assert shifted[first:last, first:last].all()
    assert bands["low"].sum() == (last - first) ** 2
    inside = np.fft.fftshift(bands["high"])[round(21 * size / 224) : round(203 * size / 224)]
    assert not inside[:, round(21 * size / 224) : round(203 * size / 224)].any()
    assert bands["low"][0, 0] == 1
    assert bands["high"][size // 2, size // 2] == 1


def colored_noise(rows, size, seed):
    """Gray images with a 1/f spectrum, all from one distribution."""
    draws = np.random.default_rng(seed).normal(size=(rows, size, size))
    radius = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None, :])
    shaped = np.fft.ifft2(np.fft.fft2(draws) / np.maximum(radius, 1 / size)).real
    return as_images(np.clip(128 + 40 * shaped / shaped.std(), 0, 255))


def cross_validated_accuracy(features, labels):
    """5-fold accuracy of the classifier of Durall et al. 2019 (RBF kernel, C 6.37, gamma 0.86)."""
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.svm import SVC

    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return cross_val_score(SVC(C=6.37, gamma=0.86), features, labels, cv=folds).mean()


def resized(images, width, height):
    from PIL import Image

    bicubic = Image.Resampling.BICUBIC
    return np.stack([np.asarray(Image.fromarray(image).resize((width, height), bicubic)) for image in images])


def as_jpeg(images, quality):
    from PIL import Image

    found = np.empty_like(images)
    for number, image in enumerate(images):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=quality)
        with Image.open(buffer) as file:
            found[number] = np.asarray(file.convert("RGB"))
    return found


def test_resizing_one_class_separates_one_distribution_and_resizing_both_does_not():
    """The classes of Durall's CelebA set differ in size: that alone can give full accuracy, without a generator."""
    images = colored_noise(120, 64, seed=3)
    labels = np.arange(120) % 2
    native, enlarged = durall_norm(images, 80)[1], durall_norm(resized(images, 89, 109), 80)[1]
    assert cross_validated_accuracy(np.where(labels[:, None] == 1, enlarged, native), labels) > 0.99
    for treated_alike in (native, enlarged):
        assert abs(cross_validated_accuracy(treated_alike, labels) - 0.5) < 0.15  # three standard errors


def test_compressing_one_class_separates_one_distribution_and_compressing_both_does_not():
    """Photographs that are JPEG files against generated PNG files: a codec is learned like a generator."""
    images = colored_noise(120, 64, seed=4)
    labels = np.arange(120) % 2
    native, compressed = durall_norm(images, 80)[1], durall_norm(as_jpeg(images, 50), 80)[1]
    assert cross_validated_accuracy(np.where(labels[:, None] == 1, compressed, native), labels) > 0.9
    for treated_alike in (native, compressed):
        assert abs(cross_validated_accuracy(treated_alike, labels) - 0.5) < 0.15
