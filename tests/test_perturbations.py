"""Perturbations against OpenCV, Pillow, SciPy and released programs (golden), and in direction and strength."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from stages import perturbations

if TYPE_CHECKING:
    from tests.conftest import Golden

LIBJPEG_SLACK = 1.0
"""Mean absolute difference that another build of libjpeg may cause."""


def steps(golden: Golden, pattern: str) -> list[tuple[str, str, re.Match[str]]]:
    """(image name, key, match) of all keys whose operation matches; the set must hold some."""
    found = []
    for key in golden.keys():  # noqa: SIM118
        name, _, operation = key.partition("/")
        match = re.fullmatch(pattern, operation)
        if match and f"{name}/img" in golden:
            found.append((name, key, match))
    assert found, f"no key matches {pattern}"
    return found


def levels(left: np.ndarray, right: np.ndarray) -> int:
    return int(np.abs(left.astype(int) - right.astype(int)).max())


@pytest.mark.golden("spectrum", "perturb_P.npz")
def test_blur_equals_opencv_to_one_level(golden: Golden) -> None:
    for name, key, match in steps(golden, r"blur_k(\d)_(sigma4|auto)"):
        sigma = 4.0 if match[2] == "sigma4" else None
        assert levels(perturbations.blur(golden[f"{name}/img"], int(match[1]), sigma), golden[key]) <= 1, key


@pytest.mark.golden("spectrum", "perturb_P.npz")
def test_crop_equals_opencv_cubic_to_one_level(golden: Golden) -> None:
    for name, key, match in steps(golden, r"crop_([\d.]+)"):
        assert levels(perturbations.crop(golden[f"{name}/img"], float(match[1])), golden[key]) <= 1, key


@pytest.mark.golden("spectrum", "perturb_P.npz")
def test_jpeg_equals_pillow_and_opencv(golden: Golden) -> None:
    for name, key, match in steps(golden, r"jpeg_(?:pil|cv2)_q(\d+)"):
        result = perturbations.jpeg(golden[f"{name}/img"], int(match[1]))
        assert np.abs(result.astype(int) - golden[key]).mean() < LIBJPEG_SLACK, key


@pytest.mark.golden("spectrum", "perturb_P.npz")
def test_released_program_of_frank_encodes_reversed_channels_at_quality_95(golden: Golden) -> None:
    for name, key, _ in steps(golden, "frank_released_jpeg"):
        image = golden[f"{name}/img"]
        wrong = np.abs(perturbations.jpeg(image, 95, "bgr").astype(int) - golden[key]).mean()
        assert wrong < LIBJPEG_SLACK
        assert wrong < np.abs(perturbations.jpeg(image, 95, "rgb").astype(int) - golden[key]).mean()


@pytest.mark.golden("spectrum", "perturb_P.npz")
def test_noise_is_exact_in_both_units_and_roundings(golden: Golden) -> None:
    for name, key, match in steps(golden, r"noise_(std|var)([\d.]+)_seed5_(trunc|round)"):
        image = golden[f"{name}/img"]
        normal = np.random.RandomState(5).randn(*image.shape)
        std = float(match[2]) if match[1] == "std" else float(match[2]) ** 0.5
        result = perturbations.noise(image, normal, std, "truncate" if match[3] == "trunc" else "nearest")
        assert np.array_equal(result, golden[key]), key


@pytest.mark.golden("spectrum", "perturb_P.npz")
def test_gaussian_filter_equals_released_code_of_wang_to_one_level(golden: Golden) -> None:
    for name, key, match in steps(golden, r"wang_blur_([\d.]+)"):
        assert levels(perturbations.gaussian_filter(golden[f"{name}/img"], float(match[1])), golden[key]) <= 1, key


@pytest.mark.golden("spectrum", "perturb_P.npz")
def test_chains_of_he_and_yu_agree_step_by_step(golden: Golden) -> None:
    orders = {
        "chainHe": ("jpeg50", "blur5", "crop0.1", "noisevar10"),
        "chainYu": ("crop0.1", "blur5", "jpeg50", "noisevar10"),
    }
    for name, _, _ in steps(golden, "chainHe_1_jpeg50"):
        for chain, order in orders.items():
            before = golden[f"{name}/img"]
            for number, step in enumerate(order, start=1):
                after = golden[f"{name}/{chain}_{number}_{step}"]
                normal = np.random.RandomState(5).randn(*before.shape)
                result = {
                    "jpeg50": lambda image, _: perturbations.jpeg(image, 50),
                    "blur5": lambda image, _: perturbations.blur(image, 5),
                    "crop0.1": lambda image, _: perturbations.crop(image, 0.1),
                    "noisevar10": lambda image, draw: perturbations.noise(image, draw, 10**0.5),
                }[step](before, normal)
                slack = LIBJPEG_SLACK if step == "jpeg50" else 1 / 255
                assert np.abs(result.astype(int) - after).mean() < slack, (name, chain, step)
                before = after


@pytest.fixture
def picture() -> np.ndarray:
    """A smooth scene with an edge and fine grain, so that every operation has something to change."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:48, 0:64]
    scene = 120 + 60 * np.sin(x / 7.0) * np.cos(y / 9.0) + 30 * (x > y) + rng.normal(0, 6, (48, 64))
    return np.clip(np.stack([scene, scene * 0.8 + 20, 255 - scene], axis=2), 0, 255).astype(np.uint8)


STRENGTHS = {
    "jpeg": [(lambda image, value=value: perturbations.jpeg(image, value)) for value in (95, 75, 50, 25, 10)],
    "blur": [(lambda image, value=value: perturbations.blur(image, value)) for value in (3, 5, 7, 9)],
    "blur with a sigma": [(lambda image, value=value: perturbations.blur(image, value, 4.0)) for value in (3, 5, 7, 9)],
    "gaussian": [(lambda image, value=value: perturbations.gaussian_filter(image, value)) for value in (0.5, 1, 2, 3)],
    "crop": [(lambda image, value=value: perturbations.crop(image, value)) for value in (0.05, 0.1, 0.15, 0.2)],
    "noise": [
        (
            lambda image, value=value: perturbations.noise(
                image, np.random.RandomState(0).randn(*image.shape), value**0.5
            )
        )
        for value in (5, 10, 15, 20)
    ],
}


@pytest.mark.parametrize("name", STRENGTHS)
def test_bytes_change_and_the_change_grows_with_strength(name: str, picture: np.ndarray) -> None:
    untouched = picture.copy()
    results = [step(picture) for step in STRENGTHS[name]]
    changes = [float(np.mean((result.astype(float) - untouched) ** 2)) for result in results]
    assert changes[0] > 0
    assert changes == sorted(changes)
    assert len(set(changes)) == len(changes)
    assert all(result.shape == picture.shape and result.dtype == np.uint8 for result in results)
    assert np.array_equal(picture, untouched), "the input was written to"


def test_strength_zero_changes_nothing(picture: np.ndarray) -> None:
    normal = np.ones(picture.shape)
    for result in (
        perturbations.blur(picture, 1),
        perturbations.gaussian_filter(picture, 0.0),
        perturbations.crop(picture, 0.0),
        perturbations.noise(picture, normal, 0.0),
    ):
        assert np.array_equal(result, picture)


def test_blur_of_one_bright_pixel_is_the_outer_product_of_the_kernel() -> None:
    image = np.zeros((9, 9, 3), np.uint8)
    image[4, 4] = 255
    kernel = np.array([1, 4, 6, 4, 1]) / 16
    expected = np.floor(255 * np.outer(kernel, kernel) + 0.5)
    assert np.array_equal(perturbations.blur(image, 5)[2:7, 2:7, 1], expected)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 1.7, 2.9])
def test_gaussian_filter_equals_scipy_with_uint8_output(sigma: float, picture: np.ndarray) -> None:
    expected = picture.copy()
    for channel in range(3):
        gaussian_filter(picture[:, :, channel], sigma, output=expected[:, :, channel])
    result = perturbations.gaussian_filter(picture, sigma)
    assert levels(result, expected) <= 1
    assert (result != expected).mean() < 0.001  # sums that end within round-off of an integer


def test_crop_keeps_a_linear_ramp_linear() -> None:
    """Cubic interpolation reproduces straight lines: sample i lies at (i + 1/2) * 32/40 - 1/2 of the cut ramp."""
    image = np.repeat((np.arange(40, dtype=np.uint8) * 6)[None, :, None], 40, axis=0).repeat(3, axis=2)
    expected = 6 * (4 + (np.arange(40) + 0.5) * 32 / 40 - 0.5)
    assert np.abs(perturbations.crop(image, 0.2)[20, 3:-3, 0] - expected[3:-3]).max() <= 0.51
