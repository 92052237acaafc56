"""Changes of pictures against Pillow and loops written out."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from stages.images.disturbances import BAND, DISTURBANCES

PICTURE = np.random.default_rng(2).integers(0, 256, (12, 20, 3), dtype=np.uint8)


@pytest.mark.parametrize("quality", [96, 75])
def test_jpeg_is_that_of_pillow_with_half_the_chroma(quality: int) -> None:
    stream = io.BytesIO()
    Image.fromarray(PICTURE).save(stream, "JPEG", quality=quality, subsampling=2)
    assert np.array_equal(BAND[f"jpeg_{quality}"](PICTURE), np.array(Image.open(stream)))


@pytest.mark.parametrize(("factor", "sides"), [("0.9", (18, 11)), ("1.1", (22, 13)), ("0.5", (10, 6))])
def test_scaling_goes_there_and_back(factor: str, sides: tuple[int, int]) -> None:
    there = Image.fromarray(PICTURE).resize(sides, Image.Resampling.LANCZOS)
    back = np.array(there.resize((20, 12), Image.Resampling.LANCZOS))
    assert np.array_equal(DISTURBANCES[f"scale_{factor}"](PICTURE), back)


def test_a_shift_reflects_the_border() -> None:
    moved = BAND["shift_4"](PICTURE)
    for row in range(12):
        for column in range(20):
            assert np.array_equal(moved[row, column], PICTURE[abs(row - 4), abs(column - 4)])


def test_noise_depends_on_the_picture_alone() -> None:
    gray = np.full((64, 64, 3), 128, np.uint8)
    once, again = DISTURBANCES["noise_3"](gray), DISTURBANCES["noise_3"](gray.copy())
    assert np.array_equal(once, again)
    assert abs((once.astype(float) - 128).std() - 3) < 0.1
    assert not np.array_equal(DISTURBANCES["noise_3"](gray + 1), once + 1)


@pytest.mark.parametrize("name", DISTURBANCES)
@pytest.mark.parametrize("sides", [(12, 20), (3, 3), (8, 9)])
def test_pictures_keep_their_size_and_are_not_written_to(name: str, sides: tuple[int, int]) -> None:
    picture = np.ascontiguousarray(PICTURE[: sides[0], : sides[1]])
    before = picture.copy()
    changed = DISTURBANCES[name](picture)
    assert (changed.shape, changed.dtype, changed.flags.c_contiguous) == (picture.shape, np.uint8, True)
    assert np.array_equal(picture, before)
