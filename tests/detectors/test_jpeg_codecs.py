"""JPEG by Pillow and by OpenCV: golden pixels, the order of channels, and what is said where OpenCV is missing."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, features

from detectors import jpeg_codecs
from pipeline.stage import Context
from stages.perturb import Perturb, PerturbConfig, perturb_row

if TYPE_CHECKING:
    from tests.conftest import Golden

LIBJPEG_SLACK = 1.0
"""Mean absolute difference that another build of libjpeg may cause."""


def pairs(golden: Golden, kind: str) -> list[tuple[str, np.ndarray, int, np.ndarray]]:
    """(key, image, quality, expected) of all keys of one kind; the set must hold some."""
    found = []
    for key in golden.keys():  # noqa: SIM118
        name, _, operation = key.partition("/")
        if operation.startswith(f"{kind}_q"):
            found.append((key, golden[f"{name}/img"], int(operation.removeprefix(f"{kind}_q")), golden[key]))
    assert found, f"no key holds {kind}"
    return found


def difference(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.abs(left.astype(int) - right.astype(int)).mean())


@pytest.mark.golden("spectrum", "perturb_P.npz")
@pytest.mark.parametrize("kind", ["jpeg_pil", "jpeg_cv2"])
def test_pillow_gives_the_pixels_of_either_codec(golden: Golden, kind: str) -> None:
    for key, image, quality, expected in pairs(golden, kind):
        assert difference(jpeg_codecs.jpeg(image, quality), expected) < LIBJPEG_SLACK, key


@pytest.mark.golden("spectrum", "perturb_P.npz")
def test_both_codecs_of_the_reference_agree_wherever_both_were_run(golden: Golden) -> None:
    """Equal libraries give equal pixels: so says the reference itself."""
    compared = 0
    for key, _, _, expected in pairs(golden, "jpeg_cv2"):
        other = key.replace("cv2", "pil")
        if other in golden:
            compared += 1
            assert np.array_equal(expected, golden[other]), key
    assert compared


@pytest.mark.golden("spectrum", "perturb_P.npz")
def test_released_program_of_frank_encodes_reversed_channels_at_quality_95(golden: Golden) -> None:
    keys = [key for key in golden.keys() if key.endswith("/frank_released_jpeg")]  # noqa: SIM118
    assert keys
    for key in keys:
        image = golden[f"{key.partition('/')[0]}/img"]
        wrong = difference(jpeg_codecs.jpeg(image, 95, channel_order="bgr"), golden[key])
        assert wrong < LIBJPEG_SLACK
        assert wrong < difference(jpeg_codecs.jpeg(image, 95, channel_order="rgb"), golden[key])


def picture(height: int = 24, width: int = 40) -> np.ndarray[Any, Any]:
    """Red, green and blue waves of their own, so that an exchange of channels shows."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [128 + 90 * np.sin(x / 5), 60 + 50 * np.cos(y / 4), 200 - 40 * np.sin((x + y) / 7)]
    return np.rint(np.stack(planes, axis=2)).astype(np.uint8)


def stand_in() -> SimpleNamespace:
    """What the stage uses of OpenCV, with blue first as there, on top of Pillow."""

    def imencode(extension: str, bgr: np.ndarray, settings: list[int]) -> tuple[bool, np.ndarray]:
        assert extension == ".jpg"
        assert settings[0] == 1
        stream = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(bgr[:, :, ::-1])).save(
            stream, "JPEG", quality=settings[1], subsampling="4:2:0"
        )
        return True, np.frombuffer(stream.getvalue(), np.uint8)

    def imdecode(data: np.ndarray, flags: int) -> np.ndarray:
        assert flags == 7
        return np.asarray(Image.open(io.BytesIO(data.tobytes())))[:, :, ::-1]

    return SimpleNamespace(
        imencode=imencode, imdecode=imdecode, IMWRITE_JPEG_QUALITY=1, IMREAD_COLOR=7, __version__="9.9.9",
        getBuildInformation=lambda: "  Media I/O:\n    ZLib: x\n    JPEG:   build-libjpeg-turbo (ver 3.0.3-70)\n",
    )  # fmt: skip


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_opencv_gets_its_channels_blue_first(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", stand_in())
    by_opencv = jpeg_codecs.jpeg(picture(), 60, "opencv", order)
    assert np.array_equal(by_opencv, jpeg_codecs.jpeg(picture(), 60, "pillow", order))
    assert by_opencv.flags["C_CONTIGUOUS"]
    assert difference(by_opencv, picture()) < 8  # and not the channels reversed


def test_versions_name_the_libjpeg_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", stand_in())
    assert jpeg_codecs.versions("opencv") == {
        "opencv": "9.9.9",
        "opencv libjpeg": "build-libjpeg-turbo (ver 3.0.3-70)",
    }
    assert features.version("libjpeg_turbo") in jpeg_codecs.versions("pillow")["libjpeg"]
    config = PerturbConfig.model_validate({"protocol": "wang2020", "codecs": ["opencv", "pillow"]})
    assert set(Perturb().environment(config)) == {"libjpeg", "opencv", "opencv libjpeg"}


def test_a_missing_opencv_is_one_sentence_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)  # an import of it fails
    config = PerturbConfig.model_validate({"protocol": "wang2020", "codecs": ["opencv", "pillow"]})
    sentence = r"codecs name opencv, and OpenCV cannot be imported \(.*cv2.*\); install opencv-python-headless"
    with pytest.raises(ValueError, match=sentence):
        Perturb().check(config, {})
    Perturb().check(PerturbConfig.model_validate({"protocol": "wang2020"}), {})


def test_one_codec_is_drawn_per_row_and_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", stand_in())
    both = PerturbConfig.model_validate({"protocol": "wang2020", "codecs": ["opencv", "pillow"]})
    alone = PerturbConfig.model_validate({"protocol": "wang2020"})
    assert alone.codecs == ["pillow"]
    ctx, seen, halves = Context(0, "perturb"), [], set()
    for number in range(80):
        row_id = np.void(number.to_bytes(16, "big"))
        _, values = perturb_row(picture(8, 8), both, row_id, ctx)
        _, usual = perturb_row(picture(8, 8), alone, row_id, ctx)
        seen.append(values.pop("jpeg_codec", None))
        assert values == usual  # the choice of a codec moves no other draw
        assert (seen[-1] is None) == ("jpeg_quality" not in values)
        halves.add((seen[-1], values.get("jpeg_quality", 0) > 65))
    counts = {value: seen.count(value) for value in (None, 0.0, 1.0)}
    assert sum(counts.values()) == 80
    assert min(counts.values()) >= 8
    assert len(halves) == 5  # either codec at low and at high quality, and none
