"""Steps of published preprocessing against torchvision and slow sums, at many sizes; and the spectra of the inputs."""

from __future__ import annotations

import cmath
import math
import sys

import numpy as np
import pytest
import torch
from torchvision.transforms import functional

from detectors.framing import resized_sides
from detectors.networks.input_filters import GRADIENTS, cosine_transform, gradient, log_fourier, median_around, npr
from detectors.published_preprocessing import (
    Preprocessing,
    center_crop,
    normalized,
    resized,
    scaled_spectrum,
    tiled,
    tiles,
)

SIZES = [(5, 5), (4, 9), (9, 4), (12, 7), (7, 13), (30, 31), (33, 8), (16, 16)]


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 100 + width).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("side", [8, 9])
def test_crops_and_sizes_are_those_of_torchvision(size: tuple[int, int], side: int) -> None:
    from PIL import Image

    image = picture(*size)
    pillow = Image.fromarray(image)
    assert np.array_equal(center_crop(image, side), np.asarray(functional.center_crop(pillow, [side, side])))
    for name in ("bilinear", "bicubic", "lanczos", "nearest"):
        sides = resized_sides(*size, side, "shorter")
        mode = functional.InterpolationMode(name)
        expected = np.asarray(functional.resize(pillow, [side], mode))
        assert np.array_equal(resized(image, sides, name, "pillow"), expected)


def test_scaling_is_that_of_torchvision() -> None:
    image = picture(6, 7)
    rule = Preprocessing()
    statistics = rule.statistics
    assert statistics is not None
    expected = functional.normalize(functional.to_tensor(image), *map(list, statistics))
    np.testing.assert_allclose(rule(image), expected.numpy(), rtol=0, atol=1e-7)
    assert rule(image).dtype == np.float32
    with_level = Preprocessing(levels=255, statistics=None, order="bgr")(image)
    assert np.array_equal(with_level, image[..., ::-1].transpose(2, 0, 1).astype(np.float32))


def test_small_pictures_are_repeated_and_odd_ones_lose_a_row() -> None:
    image = picture(3, 5)
    large = tiled(image, 7)
    assert large.shape == (9, 10, 3)
    assert all(np.array_equal(large[i, j], image[i % 3, j % 5]) for i in range(9) for j in range(10))
    assert tiled(image, 3) is image
    assert Preprocessing(even=True)(image).shape == (3, 2, 4)


def test_tiles_cover_a_large_picture_once() -> None:
    pixels = np.arange(1 * 7 * 9, dtype=np.float32).reshape(1, 7, 9)
    parts = list(tiles(pixels, limit=6, side=4))
    assert [part.shape[1:] for part, _ in parts] == [(4, 4), (4, 4), (4, 1), (3, 4), (3, 4), (3, 1)]
    assert sum(area for _, area in parts) == 63
    assert sorted(value for part, _ in parts for value in part.reshape(-1)) == list(range(63))
    assert len(list(tiles(pixels, limit=7, side=4))) == 1


def test_opencv_is_asked_for_only_where_it_resizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    rule = Preprocessing(resize=8, shape="square", library="opencv", statistics=None)
    assert rule(picture(8, 8)).shape == (3, 8, 8)
    with pytest.raises(ValueError, match=r"resizes with OpenCV, which cannot be imported .* install opencv"):
        rule(picture(9, 8))


def test_normalized_values_are_those_of_the_formula() -> None:
    pixels = np.full((3, 1, 1), 0.5, np.float32)
    found = normalized(pixels, ((0.5, 0.25, 0.0), (1.0, 0.5, 0.25)))
    assert found.reshape(-1).tolist() == [0.0, 0.5, 2.0]


def test_fourier_logarithms_equal_slow_sums() -> None:
    values = np.array([[[0, 255, 10], [40, 30, 200]]], np.uint8)
    found = log_fourier(torch.from_numpy(values)).numpy()[0]
    for u in range(2):
        for v in range(3):
            turns = [(u * y / 2 + v * x / 3, values[0, y, x] / 255) for y in range(2) for x in range(3)]
            total = sum(value * cmath.exp(-2j * math.pi * turn) for turn, value in turns)
            assert found[u, v] == pytest.approx(math.log(abs(total) + 1e-3), abs=1e-6)
    spectrum = scaled_spectrum(picture(24, 24), "low")
    assert spectrum.dtype == np.float32
    assert np.abs(spectrum).max() == 1


def test_cosine_transform_equals_slow_sums() -> None:
    values = np.array([[[0, 255, 10], [40, 30, 200]]], np.uint8)
    found = cosine_transform(torch.from_numpy(values)).numpy()[0]
    for u in range(2):
        for v in range(3):
            total = 0.0
            for y in range(2):
                for x in range(3):
                    turn = math.cos(math.pi * u * (y + 0.5) / 2) * math.cos(math.pi * v * (x + 0.5) / 3)
                    total += float(values[0, y, x]) * turn
            scale = math.sqrt((1 if u == 0 else 2) / 2) * math.sqrt((1 if v == 0 else 2) / 3)
            assert found[u, v] == pytest.approx(scale * total, abs=1e-9)


def test_filters_equal_slow_readings() -> None:
    x = torch.randn(1, 2, 4, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    median, right, pairs = median_around(x), gradient(x, "right_diag"), npr(x)
    for c in range(2):
        for i in range(4):
            for j in range(6):
                around = padded[0, c, i : i + 3, j : j + 3]
                values = [around[a, b].item() for a in range(3) for b in range(3) if (a, b) != (1, 1)]
                assert median[0, c, i, j] == sorted([*values, 0.0])[4]
                kernel = torch.tensor(GRADIENTS["right_diag"], dtype=torch.float64)
                assert right[0, c, i, j].item() == pytest.approx((around * kernel).sum().item(), abs=1e-12)
                difference = (x[0, c, i, j] - x[0, c, i // 2 * 2, j // 2 * 2]).item()
                assert pairs[0, c, i, j].item() == pytest.approx(difference * 2 / 3, abs=1e-12)


def test_pairs_need_even_sides() -> None:
    with pytest.raises(ValueError, match="need even sides, not 4 x 5; drop the last row or column, or resize"):
        npr(torch.zeros(1, 3, 4, 5))
