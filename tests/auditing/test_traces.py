"""What is measured of pixels: closed forms, and what Pillow's encoder and filters do to known pictures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from auditing_pictures import decoded, encoded, scene
from PIL import Image
from scipy.fft import dctn

from stages.auditing import look, probes, sampling, traces
from stages.auditing.pixels import FEATURES, STATISTICS, picture, planes
from stages.images.jpeg_quality import table

PHOTO = scene(1, 64)


def luma(pixels: np.ndarray) -> np.ndarray:
    return planes(pixels)[0]


def value(pixels: np.ndarray, name: str, steps: np.ndarray | None = None) -> float:
    return float(picture(pixels, steps).statistics[STATISTICS.index(name)])


def test_blocks_are_transformed_as_by_scipy_from_any_corner() -> None:
    plane = luma(PHOTO)
    found = traces.coefficients(plane, 3, 5).reshape(7, 7, 8, 8)
    for row, column in ((0, 0), (6, 2)):
        block = plane[3 + 8 * row : 11 + 8 * row, 5 + 8 * column : 13 + 8 * column] - 128
        assert found[row, column] == pytest.approx(dctn(block, norm="ortho"), abs=1e-3)


def test_the_comb_is_that_of_a_slow_loop_over_qualities() -> None:
    blocks = traces.coefficients(luma(decoded(encoded(PHOTO, "JPEG", quality=70, subsampling=0))))
    best = 0.0
    for quality in traces.QUALITIES:
        steps = table(quality).tolist()
        waves = [
            math.cos(2 * math.pi * one / step)
            for block in blocks.tolist()
            for one, step in zip(block[1:], steps[1:], strict=True)
            if step >= 2 and abs(one) >= 0.6 * step
        ]
        best = max(best, sum(waves) / (len(waves) + traces.DAMPING))
    assert traces.comb(blocks) == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("quality", [60, 75, 90])
def test_a_jpeg_that_was_stored_as_png_is_seen_on_its_grid(quality: int) -> None:
    coded = decoded(encoded(PHOTO, "JPEG", quality=quality, subsampling=0))
    assert value(coded, "grid8.comb") > value(PHOTO, "grid8.comb") + 0.2


def test_another_position_of_the_grid_is_found() -> None:
    coded = decoded(encoded(scene(2, 80), "JPEG", quality=50, subsampling=0))
    assert picture(coded[3:, 5:]).phase == "5,3"  # the next block begins 5 rows and 3 columns further
    assert value(coded[3:, 5:], "grid8.comb_elsewhere") > value(coded[3:, 5:], "grid8.comb") + 0.2
    assert picture(PHOTO).phase == ""


def test_an_earlier_jpeg_is_seen_under_a_finer_one() -> None:
    steps = table(92).astype(np.uint16)
    once = decoded(encoded(PHOTO, "JPEG", quality=92, subsampling=0))
    twice = decoded(
        encoded(decoded(encoded(PHOTO, "JPEG", quality=60, subsampling=0)), "JPEG", quality=92, subsampling=0)
    )
    found = [value(one, "double_compression.comb", steps) for one in (once, twice)]
    assert found[1] > found[0] + 0.2
    assert value(once, "grid8.comb", steps) == 0  # of JPEG files the grid says nothing


def test_jumps_between_blocks_are_counted_by_position() -> None:
    plane = np.repeat(np.arange(8) * 20.0, 8)[None].repeat(64, 0).astype(np.float32)  # steps between 7 and 8, ...
    found = traces.steps(plane, 1)
    assert np.argmax(found) == 0
    assert np.argmax(traces.steps(np.roll(plane, 3, 1), 1)) == 3
    assert not traces.steps(plane, 0).any()


def test_an_enlargement_is_smooth_and_its_spectrum_ends_early() -> None:
    half = Image.fromarray(scene(3, 32))
    enlarged = np.asarray(half.resize((64, 64), Image.Resampling.BICUBIC))
    assert value(enlarged, "resampling.lag_1") > value(PHOTO, "resampling.lag_1") + 0.3
    assert value(enlarged, "native_scale.bend") < value(PHOTO, "native_scale.bend") - 2


def test_white_noise_has_its_known_deviation() -> None:
    plane = np.random.default_rng(0).normal(128, 5, (256, 256)).astype(np.float32)
    found = sampling.noise(plane, plane)
    assert np.exp(found["noise_level.details"]) == pytest.approx(0.6745 * 5, rel=0.02)  # MAD of a normal variable
    assert np.exp(found["noise_level.immerkaer"]) == pytest.approx(6 * 5 * np.sqrt(2 / np.pi), rel=0.02)


def test_the_energies_of_white_noise_are_flat() -> None:
    plane = np.random.default_rng(1).normal(0, 4, (128, 128)).astype(np.float32)
    bands, ends = sampling.spectrum(plane)
    assert np.ptp(bands[10:]) < 0.2
    assert ends["native_scale.end"] == pytest.approx(0, abs=0.2)
    shares = 1 - np.pi * 0.25**2  # a circle of radius 1/4 in the square of frequencies
    assert np.exp(ends["high_frequency_energy.share"]) == pytest.approx(shares, rel=0.03)


def test_tones_colors_and_bits_by_hand() -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[..., 0] = 200
    pixels[:2, :, 1] = 100
    found = look.colors(pixels)
    assert found["color.saturation"] == 200
    assert found["color.red"] == 150
    assert found["clipping.black"] == pytest.approx(24 / 48)
    assert look.bits(pixels)["bit_depth.zero_bits"] == 1
    assert look.palette(pixels) == 2
    assert not look.is_gray(pixels)
    assert look.is_gray(np.repeat(pixels[:, :, :1], 3, 2))


def test_a_tone_change_leaves_gaps_in_the_histogram() -> None:
    smooth = np.tile(np.arange(256, dtype=np.uint8), (256, 1))[..., None].repeat(3, 2)
    assert look.bits(smooth)["bit_depth.gaps"] == 0
    stretched = np.clip(smooth.astype(float) * 1.25, 0, 255).astype(np.uint8)
    assert look.bits(stretched)["bit_depth.gaps"] == pytest.approx(0.2, abs=0.03)


def test_bars_need_two_sides_and_a_step() -> None:
    pixels = np.full((40, 40, 3), 90, np.uint8) + scene(5, 40) // 4
    assert look.frame(pixels) == 0
    barred = pixels.copy()
    barred[:3] = barred[-2:] = 0
    assert look.frame(barred) == 5
    assert look.frame(barred.transpose(1, 0, 2)) == 5
    barred[-2:] = pixels[-2:]
    assert look.frame(barred) == 0
    assert look.frame(np.full((40, 40, 3), 7, np.uint8)) == 0


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (600, 40), (8, 8), (64, 64), (700, 700)])
def test_pictures_of_any_size_have_finite_statistics(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    found = picture(pixels)
    assert np.isfinite(found.statistics).all()
    assert found.features.shape == (FEATURES,)
    assert np.isfinite(found.features).all()
    flat = picture(np.zeros((*shape, 3), np.uint8))
    assert np.isfinite(flat.statistics).all()


def test_the_discriminant_learns_a_shift_and_nothing_from_noise() -> None:
    random = np.random.default_rng(6)
    rows, labels = random.normal(size=(200, 30)), np.repeat(np.array([0, 1], np.uint8), 100)
    groups = np.arange(200)

    def area(scores: np.ndarray) -> float:
        return float((scores[labels == 1][:, None] > scores[labels == 0]).mean())

    assert area(probes.held_out(rows, labels, groups)) == pytest.approx(0.5, abs=0.12)
    rows[labels == 1, :3] += 1
    assert area(probes.held_out(rows, labels, groups)) > 0.8


def test_a_group_is_never_in_two_folds() -> None:
    labels, groups = np.repeat(np.array([0, 1], np.uint8), 60), np.arange(120) // 4
    folds = probes._folds(labels, groups, 0)
    assert all(len(set(folds[groups == group].tolist())) == 1 for group in range(30))
    assert sorted(np.bincount(folds).tolist()) == [24] * 5
