"""Mean spectra in three definitions against golden vectors and loops over images."""

from __future__ import annotations

import numpy as np
import pytest

from stages.spectra.spectrum_means import EPSILON, SpectrumSums, definitions

PICTURES = tuple(EPSILON)


def as_images(gray):
    """Gray images whose three channels are equal: every gray conversion returns them."""
    return np.repeat(np.asarray(gray, np.uint8)[..., None], 3, axis=-1)


def noise(rows, height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (rows, height, width, 3), dtype=np.uint8)


def means_of(picture, images, parts=1):
    sums = SpectrumSums(picture, *images.shape[1:3])
    for part in np.array_split(images, parts):
        sums.add(part)
    return sums.means(len(images))


def spectra_of(picture, images):
    """Spectra (N, H, W) of gray images, laid out as pictures are."""
    from scipy.fft import dct
    from scipy.ndimage import median_filter

    gray = images[..., 0].astype(np.float64)
    if picture == "dct2d":
        return dct(dct(gray, axis=1, norm="ortho"), axis=2, norm="ortho")
    if picture == "high_pass":
        gray = gray - np.stack([median_filter(plane, 5, mode="nearest") for plane in gray])
    return np.fft.fftshift(np.fft.fft2(gray), axes=(1, 2))


@pytest.mark.golden("spectrum", "set_highpass.npz")
def test_high_pass_means_equal_the_three_published_definitions(golden):
    found = means_of("high_pass", as_images(golden["gray"]), parts=3)
    for name in ("mean_complex", "mean_mag_log", "mean_logmag"):
        np.testing.assert_allclose(found[name], golden[name], rtol=0, atol=1e-4, err_msg=name)


@pytest.mark.golden("spectrum", "set_highpass.npz")
def test_the_picture_of_wrapped_residuals_is_another_one(golden):
    found = means_of("high_pass", as_images(golden["gray"]))["mean_complex"]
    assert np.abs(found - golden["uint8_wrap_complex"]).max() > 1
    wrapped = np.fft.fft2((golden["gray"] - golden["median5"]).mean(axis=0))  # what not to do: 8-bit subtraction
    logs = np.log(np.abs(np.fft.fftshift(wrapped)) + 1e-6)
    np.testing.assert_allclose(logs, golden["uint8_wrap_complex"], rtol=0, atol=1e-4)


@pytest.mark.golden("spectrum", "set_dct.npz")
def test_mean_logs_of_the_dct_equal_the_published_statistics(golden):
    found = means_of("dct2d", as_images(golden["gray"]))["mean_logmag"]
    np.testing.assert_allclose(found, golden["log_mean"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(16, 16), (17, 17), (12, 19)])
@pytest.mark.parametrize("picture", PICTURES)
def test_means_equal_loops_over_images_at_every_parity(picture, shape):
    images = as_images(noise(7, *shape)[..., 0])
    spectra, epsilon = spectra_of(picture, images), EPSILON[picture]
    first, second, third = (means_of(picture, images)[name] for name in definitions(picture))
    np.testing.assert_allclose(first, np.log(np.abs(spectra.mean(axis=0)) + epsilon), rtol=0, atol=1e-5)
    np.testing.assert_allclose(second, np.log(np.abs(spectra).mean(axis=0) + epsilon), rtol=0, atol=1e-5)
    np.testing.assert_allclose(third, np.log(np.abs(spectra) + epsilon).mean(axis=0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("picture", PICTURES)
def test_means_do_not_depend_on_how_images_are_batched_or_interrupted(picture):
    images = noise(9, 24, 20)
    at_once = means_of(picture, images)
    assert all(np.array_equal(at_once[name], values) for name, values in means_of(picture, images, parts=9).items())
    before, after = SpectrumSums(picture, 24, 20), SpectrumSums(picture, 24, 20)
    before.add(images[:4])
    after.load(before.state())
    before.add(images[:1])  # what goes on elsewhere is not seen
    after.add(images[4:])
    assert all(np.array_equal(at_once[name], values) for name, values in after.means(9).items())


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("level", [0, 255])
def test_constant_images_have_finite_pictures(picture, level):
    found = means_of(picture, np.full((2, 15, 16, 3), level, np.uint8))
    assert all(np.isfinite(values).all() for values in found.values())
    if picture == "high_pass":
        assert all(np.allclose(values, np.log(1e-6)) for values in found.values())


def test_a_pattern_locked_to_the_grid_stands_out_only_if_phases_are_kept():
    """Every second column of noise is raised: the mean of complex spectra shows one dot at the highest frequency."""
    images = noise(200, 16, 16)
    images = as_images(images[..., 0] // 2 + 64 * (np.arange(16) % 2)[None, None, :])
    found = means_of("fft2d", images)
    dot = (8, 0)  # of the shifted plane: no change along rows, change from column to column
    for name, least in (("mean_complex", 3.0), ("mean_mag_log", 1.0)):
        others = np.delete(found[name].ravel(), [8 * 16 + 0, 8 * 16 + 8])
        assert found[name][dot] - np.median(others) > least
    contrast = {name: values[dot] - np.median(values) for name, values in found.items()}
    assert contrast["mean_complex"] > contrast["mean_mag_log"] + 1
