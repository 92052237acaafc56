"""Gains on spectra against slow loops over the full plane, closed forms, and the invariant of equalization."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as some

from stages.spectra import spectrum_gain
from stages.spectra.spectrum_gain import Equalization, equalized, psnr, rounded

SHAPES = [(16, 16), (17, 16), (16, 11), (9, 13)]


def noise(height: int, width: int, rows: int = 3, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (rows, height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int, rows: int = 3, seed: int = 1) -> np.ndarray[Any, Any]:
    """Images with less detail than noise at high frequencies, though none is empty; far from 0 and 255."""
    values = noise(height, width, rows, seed).astype(float)
    for axis in (1, 2):
        values = 0.7 * values + 0.3 * np.roll(values, 1, axis=axis)
    return np.rint(64 + values / 2).astype(np.uint8)


def radius(height: int, width: int) -> np.ndarray[Any, Any]:
    """Whole distance to the zero frequency of each cell of the full plane, cell by cell."""
    found = np.zeros((height, width), int)
    for y in range(height):
        for x in range(width):
            found[y, x] = int(math.hypot(min(y, height - y), min(x, width - x)))
    return found


def slow_logs(image: np.ndarray[Any, Any], channels: str) -> np.ndarray[Any, Any]:
    """(C, H, W) log amplitudes of the full plane."""
    planes = np.moveaxis(image.astype(float), 2, 0)
    if channels == "gray":
        planes = (0.299 * planes[0] + 0.587 * planes[1] + 0.114 * planes[2])[None]
    return np.log(np.abs(np.fft.fft2(planes)) + 1e-8)


def slow_profile(image: np.ndarray[Any, Any], channels: str) -> np.ndarray[Any, Any]:
    logs, ring = slow_logs(image, channels), radius(*image.shape[:2])
    return np.array([[plane[ring == r].mean() for r in range(ring.max() + 1)] for plane in logs])


def learned(
    reals: np.ndarray[Any, Any], fakes: np.ndarray[Any, Any], shape: str = "radial", channels: str = "separate",
    gain_per: str = "set", pool_below: int = 1, largest: float | None = None,
) -> Equalization:  # fmt: skip
    """An equalization whose means are taken by slow loops."""
    height, width = reals.shape[1:3]

    def mean(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if shape == "radial":
            return np.mean([slow_profile(image, channels) for image in images], axis=0)
        return np.mean([slow_logs(image, channels)[:, :, : width // 2 + 1] for image in images], axis=0)

    return Equalization(height, width, shape, channels, gain_per, pool_below, largest, mean(reals), mean(fakes))  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [*SHAPES, (8, 9), (30, 1)])
@pytest.mark.parametrize("channels", ["separate", "gray"])
def test_profile_equals_a_loop_over_the_rings_of_the_full_plane(shape: tuple[int, int], channels: str) -> None:
    for image in noise(*shape, rows=2):
        found = spectrum_gain.profile(image, channels)
        np.testing.assert_allclose(found, slow_profile(image, channels), rtol=0, atol=1e-10)
        assert found.shape[1] == spectrum_gain.length(*shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_cell_of_the_full_plane_lies_in_one_ring(shape: tuple[int, int]) -> None:
    ring = radius(*shape)
    found = spectrum_gain.rings(*shape)
    assert np.array_equal(found.ring, ring[:, : shape[1] // 2 + 1])
    assert np.array_equal(found.counts, np.bincount(ring.ravel()))


def slowly_equalized(image: np.ndarray[Any, Any], steps: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Multiply rings by exp(steps), (3, R), on the full plane."""
    ring = radius(*image.shape[:2])
    planes = []
    for plane, gains in zip(np.moveaxis(image.astype(float), 2, 0), np.exp(steps), strict=True):
        factors = np.ones(ring.shape)
        for r in range(1, len(gains)):
            factors[ring == r] = gains[r]
        planes.append(np.real(np.fft.ifft2(np.fft.fft2(plane) * factors)))
    return np.stack(planes, axis=2)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels", ["separate", "gray"])
def test_equalized_image_equals_that_of_the_full_plane(shape: tuple[int, int], channels: str) -> None:
    reals, fakes = noise(*shape), smooth(*shape)
    equalization = learned(reals, fakes, channels=channels)
    steps = np.broadcast_to(equalization.target - equalization.source, (3, equalization.target.shape[1]))
    np.testing.assert_allclose(equalized(fakes[0], equalization), slowly_equalized(fakes[0], steps), rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", [(32, 32), (33, 32), (32, 27), (29, 31)])
@pytest.mark.parametrize("kind", ["radial", "2d"])
@pytest.mark.parametrize("channels", ["separate", "gray"])
@pytest.mark.parametrize("gain_per", ["set", "image"])
def test_mean_log_spectrum_of_the_equalized_set_is_that_of_the_reals(
    shape: tuple[int, int], kind: str, channels: str, gain_per: str
) -> None:
    """Before rounding, to 1e-9, on every ring but the innermost, which keeps the mean color.

    Epsilon stands in the logarithm and not in the gain: where a single amplitude is below 10, it shows at 1e-9.
    """
    reals, fakes = noise(*shape), smooth(*shape)
    equalization = learned(reals, fakes, kind, channels, gain_per)
    results = [equalized(image, equalization) for image in fakes]
    wanted = np.mean([slow_profile(image, channels) for image in reals], axis=0)
    found = np.mean([slow_profile(image, channels) for image in results], axis=0)
    np.testing.assert_allclose(found[:, 1:], wanted[:, 1:], rtol=0, atol=1e-9)
    if kind == "2d":
        maps = [np.mean([slow_logs(image, channels) for image in images], axis=0) for images in (results, reals)]
        for one in maps:
            one[:, 0, 0] = 0
        np.testing.assert_allclose(*maps, rtol=0, atol=1e-8)
    if gain_per == "image":
        own = [slow_profile(image, channels) for image in results]
        assert all(np.abs(profile - wanted)[:, 1:].max() < 1e-8 for profile in own)
    for image, result in zip(fakes, results, strict=True):
        np.testing.assert_allclose(result.mean(axis=(0, 1)), image.mean(axis=(0, 1)), rtol=0, atol=1e-9)


def test_phases_are_kept() -> None:
    reals, fakes = noise(16, 12), smooth(16, 12)
    result = equalized(fakes[0], learned(reals, fakes))
    before, after = (np.fft.fft2(np.moveaxis(image.astype(float), 2, 0)) for image in (fakes[0], result))
    np.testing.assert_allclose(after / np.abs(after), before / np.abs(before), rtol=0, atol=1e-7)


def test_a_2d_gain_removes_the_peak_of_a_grid_and_a_radial_one_cannot() -> None:
    reals = noise(32, 32, 6)
    fakes = smooth(32, 32, 6)
    fakes[:, :, ::2] += 12  # an alternating pattern: one peak at the highest horizontal frequency
    peaks = {}
    for kind in ("radial", "2d"):
        equalization = learned(reals, fakes, kind)
        logs = np.mean([slow_logs(equalized(image, equalization), "separate") for image in fakes], axis=0)
        peaks[kind] = logs[:, 0, 16].mean() - np.mean([slow_logs(image, "separate")[:, 0, 16] for image in reals])
    assert abs(peaks["2d"]) < 1e-8
    assert peaks["radial"] > 1


def test_pooled_rings_share_the_mean_of_their_cells() -> None:
    reals, fakes = noise(16, 16), smooth(16, 16)
    plain, pooled = learned(reals, fakes), learned(reals, fakes, pool_below=4)
    ring = radius(16, 16)
    cells = np.array([np.count_nonzero(ring == r) for r in (1, 2, 3)])
    steps = (plain.target - plain.source).copy()
    steps[:, 1:4] = ((steps[:, 1:4] * cells).sum(axis=1) / cells.sum())[:, None]
    np.testing.assert_allclose(equalized(fakes[0], pooled), slowly_equalized(fakes[0], steps), rtol=0, atol=1e-9)
    map_ = learned(reals, fakes, "2d", pool_below=4)
    gains = np.log(map_.gain)[:, (ring[:, :9] > 0) & (ring[:, :9] < 4)]
    assert np.ptp(gains, axis=1).max() < 1e-12
    means = np.mean([slow_logs(i, "separate") for i in reals], axis=0) - np.mean(
        [slow_logs(i, "separate") for i in fakes], axis=0
    )
    inside = (ring > 0) & (ring < 4)
    np.testing.assert_allclose(gains[:, 0], means[:, inside].mean(axis=1), rtol=0, atol=1e-10)


def test_gains_stay_between_the_limits() -> None:
    reals, fakes = noise(16, 16), smooth(16, 16)
    unlimited, limited = learned(reals, fakes), learned(reals, fakes, largest=1.5)
    assert unlimited.gain.max() > 1.5
    assert limited.gain.max() == pytest.approx(1.5, rel=1e-12)
    expected = np.clip(unlimited.gain, 1 / 1.5, 1.5)
    np.testing.assert_allclose(limited.gain, expected, rtol=1e-12)
    reverse = learned(fakes, reals, largest=1.5)  # all gains below 1
    np.testing.assert_allclose(reverse.gain, 1 / np.clip(unlimited.gain, 1 / 1.5, 1.5), rtol=1e-12)
    assert (learned(reals, fakes, largest=1.0).gain == 1).all()


@limits(max_examples=40, deadline=None)
@given(
    height=some.integers(2, 12),
    width=some.integers(1, 12),
    kinds=some.tuples(*[some.sampled_from(["noise", "constant", "black", "white", "dot", "grid"])] * 4),
    shape=some.sampled_from(["radial", "2d"]),
    channels=some.sampled_from(["separate", "gray"]),
    gain_per=some.sampled_from(["set", "image"]),
    pool_below=some.integers(1, 5),
)
def test_hostile_images_give_finite_levels(
    height: int, width: int, kinds: tuple[str, ...], shape: str, channels: str, gain_per: str, pool_below: int
) -> None:
    """Flat spectra have empty rings, whose gains are of the order of 1e13; the result is defined all the same."""
    images = np.stack([hostile(kind, height, width) for kind in kinds])
    equalization = learned(images[:2], images[2:], shape, channels, gain_per, pool_below)
    for image in images[2:]:
        exact = equalized(image, equalization)
        assert np.isfinite(exact).all()
        levels = rounded(exact)
        assert levels.dtype == np.uint8
        assert 0 <= psnr(image, levels) <= 149


def hostile(kind: str, height: int, width: int) -> np.ndarray[Any, Any]:
    image = np.full((height, width, 3), {"constant": 77, "white": 255}.get(kind, 0), np.uint8)
    if kind == "dot":
        image[0, 0] = 255
    elif kind == "grid":
        image[::2] = 255
    elif kind == "noise":
        image = noise(height, width, 1)[0]
    return image


def test_a_constant_image_stays_as_it_is() -> None:
    reals, fakes = noise(15, 12), smooth(15, 12)
    flat = np.full((15, 12, 3), 131, np.uint8)
    for gain_per in ("set", "image"):
        result = rounded(equalized(flat, learned(reals, fakes, gain_per=gain_per)))
        assert np.array_equal(result, flat)
        assert psnr(flat, result) == pytest.approx(148.13, abs=0.01)


@pytest.mark.parametrize("shape", [(16, 16), (15, 13), (127, 31)])
def test_a_constant_image_has_exact_zeros_at_every_size(shape: tuple[int, int]) -> None:
    """Round-off in their place would be amplified by gains, or counted as a spectrum."""
    found = spectrum_gain.spectra(np.full((*shape, 3), 131, np.uint8))
    assert (found[:, 0, 0] == 131 * shape[0] * shape[1]).all()
    found[:, 0, 0] = 0
    assert (found == 0).all()
    logs = spectrum_gain.log_amplitudes(found, "separate")
    assert spectrum_gain.empty_cells(logs, shape[1]) == 3 * shape[0] * shape[1]
    assert spectrum_gain.empty_cells(np.where(logs < 0, 1e-6, logs), shape[1]) == 0


def test_psnr_is_the_textbook_one() -> None:
    image = noise(8, 8, 1)[0] // 2
    assert psnr(image, image + 5) == pytest.approx(20 * math.log10(255 / 5), abs=1e-12)
    other = image.copy()
    other[0, 0, 0] += 1  # the smallest difference that there is
    assert psnr(image, other) == pytest.approx(10 * math.log10(255**2 * 8 * 8 * 3), abs=1e-9)
    assert psnr(image, image) > psnr(image, other)


def test_rounding_clips_and_takes_halves_to_even() -> None:
    values = np.array([-3.0, 0.5, 1.5, 254.6, 300.0, 1e15])
    assert rounded(values).tolist() == [0, 0, 2, 255, 255, 255]
