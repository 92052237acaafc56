"""Perturbations against OpenCV, Pillow, SciPy and released programs (golden), and in direction and strength."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import ndimage

from detectors.gaussian_filter import gaussian_filter
from detectors.jpeg_codecs import jpeg
from stages.images import perturbations

if TYPE_CHECKING:
    from tests.conftest import Golden

LIBJPEG_SLACK = 1.0
"""Mean absolute difference that another build of libjpeg may cause."""


NUMBER = r"\d+(?:\.\d+)?"
NOISE = rf"noise_(std|var)({NUMBER})_seed(\d+)_(trunc|round)"
CHAIN = rf"chain(He|Yu)_(\d+)_(jpeg|blur|crop|noisevar)({NUMBER})"
"""Keys of the reference, with their numbers."""


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
    for name, key, match in steps(golden, rf"blur_k(\d+)_(?:sigma({NUMBER})|auto)"):
        sigma = float(match[2]) if match[2] else None
        assert levels(perturbations.blur(golden[f"{name}/img"], int(match[1]), sigma), golden[key]) <= 1, key


@pytest.mark.golden("spectrum", "perturb_P.npz")
def test_crop_equals_opencv_cubic_to_one_level(golden: Golden) -> None:
    for name, key, match in steps(golden, rf"crop_({NUMBER})"):
        assert levels(perturbations.crop(golden[f"{name}/img"], float(match[1])), golden[key]) <= 1, key


@pytest.mark.golden("spectrum", "perturb_P.npz")
def test_noise_is_exact_in_both_units_and_roundings(golden: Golden) -> None:
    for name, key, match in steps(golden, NOISE):
        image = golden[f"{name}/img"]
        normal = np.random.RandomState(int(match[3])).randn(*image.shape)
        if f"{name}/gauss_seed{match[3]}" in golden.arrays:
            assert np.array_equal(normal, golden[f"{name}/gauss_seed{match[3]}"])
        std = float(match[2]) if match[1] == "std" else float(match[2]) ** 0.5
        result = perturbations.noise(image, normal, std, "truncate" if match[4] == "trunc" else "nearest")
        assert np.array_equal(result, golden[key]), key


@pytest.mark.golden("spectrum", "perturb_P.npz")
def test_gaussian_filter_equals_released_code_of_wang_to_one_level(golden: Golden) -> None:
    for name, key, match in steps(golden, rf"wang_blur_({NUMBER})"):
        assert levels(gaussian_filter(golden[f"{name}/img"], float(match[1])), golden[key]) <= 1, key


@pytest.mark.golden("patches", "cnndet_blur.npz")
def test_gaussian_filter_truncates_after_each_axis_as_cnndetection_does(golden: Golden) -> None:
    sigmas = golden["sigmas"].tolist()
    assert sigmas
    for number, sigma in enumerate(sigmas):
        result = gaussian_filter(golden["image"], sigma)
        assert np.array_equal(result, golden[f"out_{number}"]), sigma


TESTED = (
    rf"img|gauss_seed\d+|blur_k\d+_(sigma{NUMBER}|auto)|crop_{NUMBER}|jpeg_(pil|cv2)_q\d+|frank_released_jpeg|"
    rf"{NOISE}|wang_blur_{NUMBER}|{CHAIN}"
)


@pytest.mark.golden("spectrum", "perturb_P.npz")
def test_no_key_of_the_golden_file_is_left_untested(golden: Golden) -> None:
    unknown = [key for key in golden.keys() if not re.fullmatch(TESTED, key.partition("/")[2])]  # noqa: SIM118
    assert not unknown


@pytest.mark.golden("spectrum", "perturb_P.npz")
def test_chains_of_he_and_yu_agree_step_by_step(golden: Golden) -> None:
    """Each step from the stored result of the one before; strengths stand in the keys, the seed in those of noise."""
    orders = {"He": ["jpeg", "blur", "crop", "noisevar"], "Yu": ["crop", "blur", "jpeg", "noisevar"]}
    (seed,) = {int(match[3]) for _, _, match in steps(golden, NOISE)}
    chains: dict[tuple[str, str], dict[int, tuple[str, float, str]]] = {}
    for name, key, match in steps(golden, CHAIN):
        chains.setdefault((name, match[1]), {})[int(match[2])] = (match[3], float(match[4]), key)
    assert {chain for _, chain in chains} == set(orders)
    for (name, chain), found in chains.items():
        assert [found[number][0] for number in sorted(found)] == orders[chain]
        before = golden[f"{name}/img"]
        for _, (operation, strength, key) in sorted(found.items()):
            normal = np.random.RandomState(seed).randn(*before.shape)
            result = {
                "jpeg": lambda image, value, _: jpeg(image, int(value)),
                "blur": lambda image, value, _: perturbations.blur(image, int(value)),
                "crop": lambda image, value, _: perturbations.crop(image, value),
                "noisevar": lambda image, value, draw: perturbations.noise(image, draw, value**0.5),
            }[operation](before, strength, normal)
            slack = LIBJPEG_SLACK if operation == "jpeg" else 1 / 255
            assert np.abs(result.astype(int) - golden[key]).mean() < slack, key
            before = golden[key]


@pytest.fixture
def picture() -> np.ndarray:
    """A smooth scene with an edge and fine grain, so that every operation has something to change."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:48, 0:64]
    scene = 120 + 60 * np.sin(x / 7.0) * np.cos(y / 9.0) + 30 * (x > y) + rng.normal(0, 6, (48, 64))
    return np.clip(np.stack([scene, scene * 0.8 + 20, 255 - scene], axis=2), 0, 255).astype(np.uint8)


STRENGTHS = {
    "jpeg": [(lambda image, value=value: jpeg(image, value)) for value in (95, 75, 50, 25, 10)],
    "blur": [(lambda image, value=value: perturbations.blur(image, value)) for value in (3, 5, 7, 9)],
    "blur with a sigma": [(lambda image, value=value: perturbations.blur(image, value, 4.0)) for value in (3, 5, 7, 9)],
    "gaussian": [(lambda image, value=value: gaussian_filter(image, value)) for value in (0.5, 1, 2, 3)],
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
        gaussian_filter(picture, 0.0),
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
        ndimage.gaussian_filter(picture[:, :, channel], sigma, output=expected[:, :, channel])
    result = gaussian_filter(picture, sigma)
    assert levels(result, expected) <= 1
    assert (result != expected).mean() < 0.001  # sums that end within round-off of an integer


def test_crop_keeps_a_linear_ramp_linear() -> None:
    """Cubic interpolation reproduces straight lines: sample i lies at (i + 1/2) * 32/40 - 1/2 of the cut ramp."""
    image = np.repeat((np.arange(40, dtype=np.uint8) * 6)[None, :, None], 40, axis=0).repeat(3, axis=2)
    expected = 6 * (4 + (np.arange(40) + 0.5) * 32 / 40 - 0.5)
    assert np.abs(perturbations.crop(image, 0.2)[20, 3:-3, 0] - expected[3:-3]).max() <= 0.51


# Images with almost no pixels, odd sides, or one value

SHAPES = [(1, 1), (1, 2), (2, 1), (3, 3), (1, 17), (5, 4), (7, 31)]
OPERATIONS = {
    "blur": lambda image: perturbations.blur(image, 9),
    "widest blur": lambda image: perturbations.blur(image, 31, 4.0),
    "gaussian": lambda image: gaussian_filter(image, 10.0),
    "crop": lambda image: perturbations.crop(image, 0.9),
    "noise": lambda image: perturbations.noise(image, np.full(image.shape, 1e6), 20.0),
    "jpeg": lambda image: jpeg(image, 1),
}


def grain(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 100 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_tiny_and_odd_images_keep_their_shape(name: str, shape: tuple[int, int]) -> None:
    image = grain(*shape)
    result = OPERATIONS[name](image)
    assert result.shape == image.shape
    assert result.dtype == np.uint8


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in ("noise", "jpeg")])
@pytest.mark.parametrize("level", [0, 1, 127, 255])
def test_constant_images_stay_as_they_are(name: str, level: int) -> None:
    image = np.full((9, 6, 3), level, np.uint8)
    assert levels(OPERATIONS[name](image), image) <= (1 if name == "gaussian" else 0)  # weights may sum to 1 - 1e-16


def mirrored(place: int, length: int) -> int:
    """Where OpenCV reads for a pixel outside: mirrored at the outermost pixel, again and again."""
    while length > 1 and not 0 <= place < length:
        place = -place if place < 0 else 2 * (length - 1) - place
    return place if length > 1 else 0


@pytest.mark.parametrize("shape", SHAPES)
def test_blur_of_tiny_images_mirrors_as_often_as_needed(shape: tuple[int, int]) -> None:
    image, kernel = grain(*shape), np.array([4, 13, 30, 51, 60, 51, 30, 13, 4]) / 256
    height, width = shape
    expected = np.zeros(image.shape)
    for y in range(height):
        for x in range(width):
            for dy in range(-4, 5):
                for dx in range(-4, 5):
                    pixel = image[mirrored(y + dy, height), mirrored(x + dx, width)]
                    expected[y, x] += kernel[dy + 4] * kernel[dx + 4] * pixel
    assert np.abs(perturbations.blur(image, 9) - expected).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("shape", SHAPES)
def test_gaussian_filter_of_tiny_images_equals_scipy(shape: tuple[int, int]) -> None:
    image = grain(*shape)
    expected = image.copy()
    for channel in range(3):
        ndimage.gaussian_filter(image[:, :, channel], 2.9, output=expected[:, :, channel])
    assert levels(gaussian_filter(image, 2.9), expected) <= 1


@pytest.mark.parametrize(("shape", "fraction"), [((5, 4), 0.6), ((7, 31), 0.5), ((1, 17), 0.9), ((33, 20), 0.13)])
def test_crop_of_odd_images_equals_torch_bicubic(shape: tuple[int, int], fraction: float) -> None:
    import torch

    image = grain(*shape)
    height, width = shape
    rows, columns = int(height * fraction / 2), int(width * fraction / 2)
    inner = image[rows : height - rows, columns : width - columns].astype(np.float64)
    planes = torch.from_numpy(np.moveaxis(inner, 2, 0)[None].copy())
    expected = torch.nn.functional.interpolate(planes, shape, mode="bicubic", align_corners=False)[0]
    result = perturbations.crop(image, fraction)
    assert np.abs(result - np.moveaxis(expected.numpy(), 0, 2).clip(0, 255)).max() <= 0.5 + 1e-9
