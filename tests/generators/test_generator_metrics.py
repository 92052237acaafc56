"""Figures of a generator's card against double loops, closed forms and other libraries' filters."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage, stats

from stages.generators import generator_metrics as metrics


def noise(side, rows, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (rows, side, side, 3), dtype=np.uint8)


def pictures(side, rows, seed=0):
    """Colored noise with a smooth spectrum."""
    random = np.random.default_rng(seed)
    blurred = ndimage.gaussian_filter(random.standard_normal((rows, side, side, 3)), (0, 2, 2, 0), mode="wrap")
    return np.clip(128 + 400 * blurred, 0, 255).astype(np.uint8)


def disturbed(images, deviation, seed=9):
    random = np.random.default_rng(seed)
    return np.clip(np.round(images + deviation * random.standard_normal(images.shape)), 0, 255).astype(np.uint8)


def slow_similarity(x, y):
    """Mean of contrast times structure and mean of the whole index, window by window, of one pair (H, W, 3)."""
    size = min(11, *x.shape[:2])
    offsets = np.arange(size) - (size - 1) / 2
    line = np.exp(-(offsets**2) / (2 * (1.5 * size / 11) ** 2))
    window = np.outer(line, line) / line.sum() ** 2
    structures, indices = [], []
    for row in range(x.shape[0] - size + 1):
        for column in range(x.shape[1] - size + 1):
            for color in range(3):
                a = x[row : row + size, column : column + size, color]
                b = y[row : row + size, column : column + size, color]
                mean_a, mean_b = (window * a).sum(), (window * b).sum()
                variance_a, variance_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
                covariance = (window * (a - mean_a) * (b - mean_b)).sum()
                luminance = (2 * mean_a * mean_b + 2.55**2) / (mean_a**2 + mean_b**2 + 2.55**2)
                structures.append((2 * covariance + 7.65**2) / (variance_a + variance_b + 7.65**2))
                indices.append(luminance * structures[-1])
    return np.mean(structures), np.mean(indices)


@pytest.mark.parametrize("side", [8, 11, 20])
def test_similarity_at_one_scale_equals_a_double_loop(side):
    a = pictures(side, 3)
    b = disturbed(a, 40)
    expected = [slow_similarity(x.astype(float), y.astype(float))[1] for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(metrics.ms_ssim(a, b), expected, atol=1e-5)


def test_similarity_at_two_scales_weighs_contrast_of_the_finer_and_all_of_the_coarser():
    a = pictures(23, 2)
    b = disturbed(a, 25)
    expected = []
    for x, y in zip(a.astype(float), b.astype(float), strict=True):
        halves = [np.array([[z[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean(axis=(0, 1)) for j in range(11)]
                            for i in range(11)]) for z in (x, y)]  # fmt: skip
        weights = np.array([0.0448, 0.2856]) / (0.0448 + 0.2856)
        expected.append(slow_similarity(x, y)[0] ** weights[0] * slow_similarity(*halves)[1] ** weights[1])
    np.testing.assert_allclose(metrics.ms_ssim(a, b), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("side", "count"), [(8, 1), (11, 1), (21, 1), (22, 2), (43, 2), (44, 3), (64, 3), (128, 4), (176, 5), (1024, 5)]
)
def test_as_many_scales_as_the_window_allows(side, count):
    assert metrics.scales(side) == count


def test_similarity_of_equal_images_is_1_and_of_opposite_ones_0():
    images = pictures(64, 2)
    np.testing.assert_allclose(metrics.ms_ssim(images, images), 1, atol=1e-6)
    np.testing.assert_array_equal(metrics.ms_ssim(images, 255 - images), 0)


def test_similarity_of_gray_images_is_the_closed_form_of_their_levels():
    a, b = (np.full((1, 64, 64, 3), level, np.uint8) for level in (100, 150))
    luminance = (2 * 100 * 150 + 2.55**2) / (100**2 + 150**2 + 2.55**2)
    expected = luminance ** (0.3001 / (0.0448 + 0.2856 + 0.3001))
    assert metrics.ms_ssim(a, b)[0] == pytest.approx(expected, abs=1e-4)


def test_diversity_is_0_for_a_collapsed_generator_and_grows_with_differences():
    one = pictures(32, 1).repeat(6, axis=0)
    found = [metrics.diversity(disturbed(one, deviation), pairs=40) for deviation in (0, 10, 40)]
    assert found[0] == pytest.approx(0, abs=1e-6)
    assert found[0] < found[1] < found[2] < metrics.diversity(pictures(32, 6), pairs=40)


def test_diversity_is_the_mean_over_pairs_of_different_images():
    images = pictures(16, 2)
    expected = 1 - metrics.ms_ssim(images[:1], images[1:])[0]
    assert metrics.diversity(images, pairs=50) == pytest.approx(expected, abs=1e-6)
    assert metrics.diversity(images[:1].repeat(2, axis=0), pairs=50) == pytest.approx(0, abs=1e-6)


def test_diversity_needs_two_images():
    with pytest.raises(ValueError, match="pairs of images, found 1"):
        metrics.diversity(pictures(16, 1))


@pytest.mark.parametrize("dimensions", [2, 147])
def test_sliced_distance_of_a_shift_is_its_mean_projection(dimensions):
    points = np.random.default_rng(0).standard_normal((500, dimensions)).astype(np.float32)
    shift = np.zeros(dimensions, np.float32)
    shift[0] = 3
    projection = math.exp(math.lgamma(dimensions / 2) - math.lgamma((dimensions + 1) / 2)) / math.sqrt(math.pi)
    assert metrics.sliced_distance(points, points + shift) == pytest.approx(3 * projection, rel=0.1)


def test_sliced_distance_of_gaussians_of_two_widths_is_that_of_the_line():
    random = np.random.default_rng(0)
    a, b = (width * random.standard_normal((20000, 5)).astype(np.float32) for width in (1, 2))
    assert metrics.sliced_distance(a, b) == pytest.approx(math.sqrt(2 / math.pi), rel=0.03)


def test_sliced_distance_on_a_line_is_the_wasserstein_distance():
    random = np.random.default_rng(0)
    a, b = random.standard_normal((400, 1)).astype(np.float32), random.exponential(size=(400, 1)).astype(np.float32)
    assert metrics.sliced_distance(a, b) == pytest.approx(stats.wasserstein_distance(a[:, 0], b[:, 0]), rel=1e-4)


def test_pyramid_equals_the_filters_of_another_library():
    images = pictures(64, 2)
    line = np.array([1, 4, 6, 4, 1]) / 16
    kernel = np.outer(line, line)[None, :, :, None]
    current, expected = images.astype(float), []
    for side in (32, 16):
        coarse = ndimage.convolve(current, kernel, mode="mirror")[:, ::2, ::2]
        enlarged = np.zeros_like(current)
        enlarged[:, ::2, ::2] = coarse
        expected.append(current - ndimage.convolve(enlarged, 4 * kernel, mode="mirror"))
        assert coarse.shape[1] == side
        current = coarse
    for level, wanted in zip(metrics._pyramid(images), [*expected, current], strict=True):
        np.testing.assert_allclose(level, wanted, atol=1e-3)


def test_patches_are_windows_scaled_per_color():
    level = np.random.default_rng(0).normal(5, 3, (2, 12, 12, 3)).astype(np.float32)
    corners = np.array([[[0, 5], [2, 1]], [[3, 0], [5, 4]]])  # rows, then columns, of two patches in two images
    loose = np.array(
        [level[i, corners[0, i, k] :][:7, corners[1, i, k] :][:, :7] for i in range(2) for k in range(2)], dtype=float
    )
    scaled = (loose - loose.mean(axis=(0, 1, 2))) / loose.std(axis=(0, 1, 2))
    expected = scaled.transpose(0, 3, 1, 2).reshape(4, -1)
    np.testing.assert_allclose(metrics._patches(level, corners), expected, atol=1e-5)


@pytest.mark.parametrize(("side", "levels"), [(8, [8]), (16, [16]), (48, [48, 24]), (64, [64, 32, 16])])
def test_wasserstein_distance_of_a_set_to_itself_is_0_at_each_level(side, levels):
    images = pictures(side, 4)
    assert metrics.sliced_wasserstein(images, images.copy()) == dict.fromkeys(levels, 0)


def test_wasserstein_distance_grows_with_noise_and_with_blur():
    reals = pictures(16, 16)
    for change in (
        [disturbed(reals, deviation) for deviation in (0, 5, 20, 80)],
        [ndimage.gaussian_filter(noise(16, 16), (0, width, width, 0)) for width in (0, 0.5, 1, 2)],
    ):
        found = [metrics.sliced_wasserstein(change[0], fakes)[16] for fakes in change]
        assert found == sorted(found)
        assert found[-1] > 4 * found[1] > 0


def test_wasserstein_distance_of_two_sets_of_one_kind_is_small():
    reals = pictures(32, 32)
    alike = metrics.sliced_wasserstein(reals, pictures(32, 32, seed=1))
    unlike = metrics.sliced_wasserstein(reals, noise(32, 32))
    assert alike[32] < unlike[32] / 2


def test_wasserstein_distance_does_not_depend_on_the_order_of_the_sets_but_on_the_seed():
    a, b = pictures(16, 8), noise(16, 8)
    assert metrics.sliced_wasserstein(a, b) == metrics.sliced_wasserstein(a, b) == metrics.sliced_wasserstein(b, a)
    assert metrics.sliced_wasserstein(a, b) != metrics.sliced_wasserstein(a, b, seed=1)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_images_without_contrast_give_finite_figures(value):
    flat = np.full((4, 16, 16, 3), value, np.uint8)
    assert np.isfinite(list(metrics.figures(pictures(16, 4), flat).values())).all()


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (noise(16, 3), noise(16, 2), r"found uint8 \(3, 16, 16, 3\) and uint8 \(2, 16, 16, 3\)"),
        (noise(16, 2), noise(16, 2) / 255, r"found uint8 \(2, 16, 16, 3\) and float64"),
        (noise(16, 0), noise(16, 0), "found uint8"),
        (noise(6, 2), noise(6, 2), r"patches of 7 x 7 pixels need square images of that side, found \(6, 6\)"),
        (noise(16, 2)[:, :8], noise(16, 2)[:, :8], r"square images of that side, found \(8, 16\)"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        metrics.sliced_wasserstein(a, b)


class Photographs:
    """Stands for the images of a training."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def pixels(self, chosen):
        return self.rows[chosen]


class Copier:
    """Stands for a game whose generator makes picture k for seed k."""

    def __init__(self, rows):
        self.rows, self.batches = rows, []

    def sample(self, seeds):
        self.batches.append(len(seeds))
        return self.rows[seeds]


def test_card_compares_equally_many_samples_and_photographs_in_batches(monkeypatch):
    monkeypatch.setattr(metrics, "SAMPLES", 40)
    images = pictures(16, 80)
    game = Copier(images[::2])
    found = metrics.card_figures(game, Photographs(images))
    assert game.batches == [32, 8]
    assert found["images"] == 40
    assert (found["swd"], found["swd_16"], found["profile_distance"]) == (0, 0, 0)
    assert found["diversity"] == found["diversity_real"] == metrics.diversity(images[::2], metrics.PAIRS)
    assert (found["pairs"], found["scales"]) == (metrics.PAIRS, 1)


def test_profile_distance_of_a_card_is_the_sum_over_rings_of_the_mean_profiles():
    reals, fakes = noise(16, 70), pictures(16, 70)
    means = []
    for images in (reals, fakes):
        gray = images @ np.array([0.299, 0.587, 0.114]) / 255
        logs = 20 * np.log(np.abs(np.fft.rfft2(gray)) ** 2 + 1e-8)
        y, x = np.abs(np.fft.fftfreq(16, 1 / 16))[:, None], np.arange(9)[None, :]
        ring = np.floor(np.hypot(y, x)).astype(int)
        raw = np.stack([logs[:, ring == k].mean(axis=1) for k in range(12)], axis=1)
        low, high = raw.min(axis=1, keepdims=True), raw.max(axis=1, keepdims=True)
        means.append(((raw - low) / (high - low)).mean(axis=0))
    expected = np.abs(means[0] - means[1]).sum()
    assert metrics.mean_profile_distance(reals, fakes) == pytest.approx(expected, abs=1e-4)
    assert metrics.profile_distance_of(Copier(fakes), Photographs(reals)) == pytest.approx(expected, abs=1e-4)


def test_profile_distance_sees_an_enlarged_image():
    reals = noise(32, 16)
    enlarged = noise(16, 16, seed=1).repeat(2, axis=1).repeat(2, axis=2)
    assert metrics.mean_profile_distance(reals, enlarged) > 3 * metrics.mean_profile_distance(
        reals, noise(32, 16, seed=2)
    )
