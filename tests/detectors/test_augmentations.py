"""Augmentations against slow loops: order, rounding and draws; what does not depend on batches and threads."""

from __future__ import annotations

import hashlib
import io
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from detector_examples import Killed, maps
from golden_files import Golden
from PIL import Image
from scipy import ndimage

from detectors import augmenting, deep, presets
from detectors.augmentation import AUGMENTATIONS, blur, jpeg, noise, resized_crop
from detectors.augmenting import applied, augmented
from detectors.choosing import detector_config
from detectors.contract import Control, State
from pipeline.stage import MAPS, PICTURE, SPECTRA

IDS = np.arange(24, dtype=">u8").view("V8").astype("V16")


def images(count: int = 24, side: int = 20) -> Any:
    """Smooth pictures with some noise, (count, side, side, 3) uint8."""
    random = np.random.default_rng(3)
    rough = random.normal(128, 60, (count, side, side, 3))
    smooth = ndimage.gaussian_filter(rough, (0, 2, 2, 0)) + rough / 8
    return np.clip(smooth, 0, 255).astype(np.uint8)


def number(seed: int, row: bytes, epoch: int, name: str, place: int = 0) -> float:
    """One draw, as its key says."""
    parts = (str(seed).encode(), str(epoch).encode(), name.encode())
    key = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
    block, place = divmod(place, 4)
    digest = hashlib.sha256(key + row + bytes([block])).digest()
    return (int.from_bytes(digest[8 * place : 8 * place + 8], "little") >> 11) / 2**53


def cnndetection(image: Any, row: bytes, seed: int, epoch: int, settings: dict[str, float]) -> Any:
    """Blur, JPEG, crop, mirror: one image at a time."""

    def drawn(name: str, place: int = 0) -> float:
        return number(seed, row, epoch, name, place)

    share = settings["probability"]
    if drawn("blur/on") < share:
        for channel in range(3):
            ndimage.gaussian_filter(image[:, :, channel], 3 * drawn("blur/sigma"), output=image[:, :, channel])
    if drawn("jpeg/on") < share:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=30 + int(71 * drawn("jpeg/quality")))
        image = np.asarray(Image.open(stream))
    size = int(settings["size"])
    top, left = (int(drawn("crop/corner", axis) * (image.shape[axis] - size + 1)) for axis in (0, 1))
    image = image[top : top + size, left : left + size]
    return image[:, ::-1] if drawn("flip/mirrored") < 0.5 else image


@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_rows_are_those_of_a_slow_loop_whatever_batch_order_and_threads(
    probability: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = presets.PRESETS[f"cnndetection-{probability}"]
    size = 16
    config: Any = detector_config({
        **given,
        "augmentation": [one | ({"size": size} if one["augmentation"] == "crop" else {})
                         for one in given["augmentation"]],
        "preprocessing": {**given["preprocessing"], "crop": {"size": size}},
    })  # fmt: skip
    stored = images()
    expected = [
        cnndetection(one.copy(), bytes(row), 7, 2, {"probability": probability, "size": size})
        for one, row in zip(stored, IDS, strict=True)
    ]
    random = np.random.default_rng(0)
    for cut, threads in ((24, 1), (7, 3), (5, 16)):
        monkeypatch.setattr(augmenting, "MOST_THREADS", threads)
        monkeypatch.setattr("os.cpu_count", lambda: 16)
        order = random.permutation(24)
        batches: Any = [
            (torch.from_numpy(stored[order[start : start + cut]]), order[start : start + cut], IDS[order][start:][:cut])
            for start in range(0, 24, cut)
        ]
        seen: list[int] = []
        for rows, places in augmented(batches, config.augmentation, 7, 2, "cpu"):
            assert rows.dtype == torch.uint8
            for one, place in zip(rows.numpy(), places, strict=True):
                assert np.abs(one.astype(int) - expected[place]).max() == 0
                seen.append(place)
        assert seen == order.tolist()
    assert sum((one != plain[2:-2, 2:-2]).any() for one, plain in zip(expected, stored, strict=True)) > 12


@pytest.mark.golden("patches", "cnndet_blur.npz")
def test_blur_is_that_of_cnndetection_to_the_bit(golden: Golden) -> None:
    image = torch.from_numpy(golden["image"])
    for number, sigma in enumerate(golden["sigmas"].tolist()):
        settings = blur.Blur(probability=1.0, low=sigma, high=sigma)
        found = blur.apply(settings, image[None], lambda name: np.zeros((1, 1)))[0]
        assert np.array_equal(found, golden[f"out_{number}"])
    assert np.array_equal(image, golden["image"])


def test_each_quality_from_low_to_high_is_drawn_and_either_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, str]] = []

    def told(image: Any, quality: int, codec: str) -> Any:
        seen.append((quality, codec))
        return image

    monkeypatch.setattr(jpeg.jpeg_codecs, "jpeg", told)
    ids = np.arange(400, dtype=">u8").view("V8").astype("V16")
    settings = jpeg.Jpeg(low=30, high=33, codecs=("opencv", "pillow"), probability=0.75)
    applied([settings], 0, 0, torch.zeros(400, 1, 1, 3, dtype=torch.uint8), ids)
    assert {one for one, _ in seen} == {30, 31, 32, 33}
    assert {one for _, one in seen} == {"opencv", "pillow"}
    assert 260 < len(seen) < 340


def test_split_mix_gives_its_published_numbers() -> None:
    """The first outputs from the states 1234567 and 0."""
    steps = torch.arange(1, 4) * noise._signed(noise.STEP)
    found = noise.split_mix(1234567 + steps).numpy().view(np.uint64).tolist()
    assert found == [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert noise.split_mix(steps)[:1].numpy().view(np.uint64)[0] == 0xE220A8397B1DCDAF


def test_noise_has_the_drawn_variance_and_belongs_to_the_row() -> None:
    gray = torch.full((24, 40, 40, 3), 128, dtype=torch.uint8)
    settings = noise.Noise(low=5.0, high=20.0)
    whole = applied([settings], 1, 0, gray, IDS).numpy().astype(int)
    for row in (0, 5, 23):
        alone = applied([settings], 1, 0, gray[row : row + 1], IDS[row : row + 1]).numpy()[0]
        assert np.array_equal(alone, whole[row])
        variance = 5 + 15 * number(1, bytes(IDS[row]), 0, "noise/variance")
        on = number(1, bytes(IDS[row]), 0, "noise/on") < 0.5
        found = (whole[row] - 128).astype(float)
        assert found.var() == pytest.approx(on * (variance + 1 / 12), rel=0.1)  # rounding adds a twelfth
        assert abs(found.mean()) < 0.2
    assert 4 < sum((one != 128).any() for one in whole) < 20
    half = applied([settings], 1, 0, torch.zeros(24, 3, 8, 8, dtype=torch.float16), IDS)
    assert half.dtype == torch.float16
    flat = applied([noise.Noise(probability=1.0, low=0.0, high=0.0)], 1, 0, gray[:, :4], IDS)
    assert torch.equal(flat, gray[:, :4])


def test_noise_values_are_quantiles_of_the_words_bits() -> None:
    key = torch.tensor([-5])
    word = (-5 + noise.STEP) % 2**64
    for shift, factor in ((30, noise.FIRST), (27, noise.SECOND)):
        word = (word ^ word >> shift) * factor % 2**64
    word ^= word >> 31
    wanted = [NormalDist().inv_cdf(((word >> shift & 0xFFFF) + 0.5) / 65536) for shift in (0, 16, 32)]
    np.testing.assert_allclose(noise.normals(key, 3)[0], wanted, rtol=1e-5)


def test_bright_and_dark_values_stay_in_range() -> None:
    rows = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 30, 30, 3)
    found = applied([noise.Noise(probability=1.0, low=400.0, high=400.0)], 0, 0, rows, IDS[:2])
    assert (int(found[0].max()) > 20, int(found[0].min())) == (True, 0)
    assert (int(found[1].min()) < 235, int(found[1].max())) == (True, 255)


def test_order_of_the_list_counts_and_only_what_stands_before_the_codec_leaves_the_device() -> None:
    flip, crop = AUGMENTATIONS["flip"](), AUGMENTATIONS["crop"](size=8)
    compress, soften = jpeg.Jpeg(), blur.Blur()
    assert augmenting.divided([flip, crop]) == ([], [flip, crop])
    assert augmenting.divided([soften, compress, crop]) == ([soften, compress], [crop])
    assert augmenting.divided([crop, compress, flip]) == ([crop, compress], [flip])
    assert [augmenting.place(one, "cuda") for one in ([flip], [flip, compress])] == ["cuda", "cpu"]
    rows = torch.from_numpy(images())
    sure = {"probability": 1.0}
    first, last = blur.Blur(**sure, low=2.0, high=2.0), jpeg.Jpeg(**sure, low=30, high=30)
    assert not torch.equal(applied([first, last], 0, 0, rows, IDS), applied([last, first], 0, 0, rows, IDS))


def test_what_works_on_the_device_leaves_no_tensor_behind() -> None:
    """The device `meta` computes nothing, but refuses to mix its tensors with others."""
    of_device = [AUGMENTATIONS["flip"](), AUGMENTATIONS["crop"](size=8), noise.Noise()]
    batches: Any = [(torch.from_numpy(images()), torch.zeros(24), IDS)]
    for first in ([], [blur.Blur(), jpeg.Jpeg()]):
        ((rows, _),) = augmented(batches, [*first, *of_device], 0, 0, "meta")
        assert (rows.device.type, tuple(rows.shape), rows.dtype) == ("meta", (24, 8, 8, 3), torch.uint8)


def test_an_error_in_a_thread_ends_the_training_with_its_sentence() -> None:
    batches: Any = [(torch.zeros(4, 8, 8, 3), torch.zeros(4), IDS[:4])] * 5
    with pytest.raises(ValueError, match=r"'jpeg' acts on images of 8 bits, but the rows are torch.float32; remove"):
        list(augmented(batches, [jpeg.Jpeg()], 0, 0, "cpu"))


@pytest.mark.parametrize(
    ("augmentation", "shape", "axes", "sentence"),
    [
        ({"augmentation": "jpeg"}, (16, 16), SPECTRA[1:], "'jpeg' acts on image rows, but 'image' is of kind spectrum"),
        ({"augmentation": "blur"}, (3, 16, 16), MAPS, "'blur' acts on image rows, but 'image' is of kind residual"),
        ({"augmentation": "noise"}, (3, 16, 16), SPECTRA, "'noise' acts on image and residual rows, but 'image' is of"),
        ({"augmentation": "jpeg"}, (16, 16, 1), PICTURE, "compresses colors, but the rows have 1 channels, not 3; rem"),
        ({"augmentation": "crop", "size": 8}, (16, 16, 3), PICTURE, "would see rows of 8 x 8, as augmentations cut"),
        ({"augmentation": "crop", "size": 32}, (16, 20, 3), PICTURE, "rows of 16 x 20 are smaller than the random cr"),
    ],
)
def test_planning_refuses_what_cannot_act(
    augmentation: dict[str, Any], shape: tuple[int, ...], axes: tuple[str, ...], sentence: str
) -> None:
    config = detector_config({"preset": "pixel-compact", "augmentation": [augmentation]})
    with pytest.raises(ValueError, match=sentence) as caught:
        config.check(shape, axes)
    assert "\n" not in str(caught.value)


def test_a_crop_before_resizing_is_refused() -> None:
    config = detector_config({
        "preset": "pixel-compact",
        "augmentation": [{"augmentation": "crop", "size": 8}],
        "preprocessing": {"resize": {"size": 16, "sides": "both"}},
    })  # fmt: skip
    with pytest.raises(ValueError, match="cut rows to 8 x 8 before 'resize', so that a training would see them enl"):
        config.check((16, 16, 3), PICTURE)


def test_libjpeg_stands_in_the_recipe_of_what_compresses_and_nowhere_else() -> None:
    assert "libjpeg" in detector_config("cnndetection-0.5").environment()
    assert detector_config("pixel-compact").environment() == {}
    assert "detectors.augmentation.jpeg" in detector_config("cnndetection-0.1").modules


def test_a_killed_training_with_threads_goes_on_with_the_same_trajectory() -> None:
    config: Any = detector_config({
        "preset": "cnndetection-small",
        "network": {"architecture": "compact", "widths": [4, 8]},
        "head": {"kind": "classes"},
        "augmentation": [
            {"augmentation": "blur"}, {"augmentation": "jpeg"}, {"augmentation": "noise"},
            {"augmentation": "crop", "size": 12}, {"augmentation": "flip"},
        ],
        "preprocessing": {"scaling": "unit", "crop": {"size": 12}},
        "training": {"epochs": 3, "batch": 16},
    })  # fmt: skip
    train, val = maps(40, 1, "uint8", (16, 16, 3)), maps(24, 2, "uint8", (16, 16, 3))
    kept: list[State] = []

    def save(state: State) -> None:
        kept.append(state)
        raise Killed

    control = Control(seed=5, restore=lambda: kept[-1] if kept else None, save=save)
    for _ in range(3):
        with pytest.raises(Killed):
            deep.fit(config, train, val, control)
    found, whole = deep.fit(config, train, val, control), deep.fit(config, train, val, Control(seed=5))
    assert found.plain == whole.plain
    assert all(value.tobytes() == whole.tensors[name].tobytes() for name, value in found.tensors.items())


def resized_part(image: Any, row: bytes, least: float, stretch: float, size: int) -> Any:
    """One image, as RandomResizedCrop of torchvision draws it: ten areas and logarithms of ratios, and a corner."""
    height, width = image.shape[:2]
    for place in range(10):
        area = height * width * (least + (1 - least) * number(5, row, 2, "resized_crop/area", place))
        ratio = stretch ** (2 * number(5, row, 2, "resized_crop/shape", place) - 1)
        wide, high = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if wide <= width and high <= height:
            top = int(number(5, row, 2, "resized_crop/corner", 0) * (height - high + 1))
            left = int(number(5, row, 2, "resized_crop/corner", 1) * (width - wide + 1))
            break
    else:
        wide, high = min(width, round(height * stretch)), min(height, round(width * stretch))
        top, left = (height - high) // 2, (width - wide) // 2
    part = Image.fromarray(image[top : top + high, left : left + wide].copy())
    return np.asarray(part.resize((size, size), Image.Resampling.LANCZOS))


@pytest.mark.parametrize(("least", "stretch", "width"), [(0.08, 4 / 3, 30), (0.9, 4.0, 20), (1.0, 1.0, 40)])
def test_resized_parts_are_those_of_a_slow_loop(least: float, stretch: float, width: int) -> None:
    pictures = np.random.default_rng(1).integers(0, 256, (24, 20, width, 3), np.uint8)
    one = resized_crop.ResizedCrop(size=12, least=least, stretch=stretch)
    found = applied([one], 5, 2, torch.from_numpy(pictures), IDS).numpy()
    expected = [resized_part(image, bytes(row), least, stretch, 12) for image, row in zip(pictures, IDS, strict=True)]
    assert np.array_equal(found, np.stack(expected))
    if width == 40:  # no square has the area of the image: its middle is taken
        middle = Image.fromarray(pictures[0][:, 10:30].copy()).resize((12, 12), Image.Resampling.LANCZOS)
        assert np.array_equal(found[0], np.asarray(middle))


def test_resized_parts_of_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="resizes colors, but rows have 1 channels"):
        resized_crop.ResizedCrop(size=8).sides(1, 20, 20)
    with pytest.raises(ValueError, match=r"least is 0.5 and most is 0.2"):
        resized_crop.ResizedCrop(size=8, least=0.5, most=0.2)
