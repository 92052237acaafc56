"""What `equalize` does with pictures on a canvas and with turned ones, and what a window of qualities refuses."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from test_equalize import STAGE, config, encoded, run, scene

from pipeline.stage import ID, Batch, Context, Field
from stages.images.containers import FACTS
from stages.images.image_field import CANVAS, image_size


def blocky(height: int, width: int) -> np.ndarray:
    """Squares of 8 pixels of one gray each, which JPEG of blocks that lie alike keeps."""
    grays = np.random.default_rng(3).integers(0, 256, (-(-height // 8), -(-width // 8)), dtype=np.uint8)
    return np.repeat(np.kron(grays, np.ones((8, 8), np.uint8))[:height, :width, None], 3, axis=2)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_native_crop_begins_at_a_block_of_the_stored_picture(orientation: int) -> None:
    """Sides are no multiples of 8, so a grid that is counted from the other end has another place."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    arrays, failures = run(config(32, crop="native"), encoded(blocky(61, 77), exif=exif))
    assert not failures
    cut = arrays["image"][0, :, :, 0]
    assert all((cut[y : y + 8, x : x + 8] == cut[y, x]).all() for y in range(0, 32, 8) for x in range(0, 32, 8))


def test_a_native_crop_fits_where_hardly_more_than_the_crop_is_there() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    for side in range(32, 41):
        arrays, failures = run(config(32, crop="native"), encoded(scene(side, side), exif=exif))
        assert not failures
        assert arrays["image"][0].tobytes() == scene(side, side)[::-1, ::-1][side % 8 :, side % 8 :][:32, :32].tobytes()


def on_canvas(*sides: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    images = np.zeros((len(sides), 60, 80, 3), np.uint8)
    for row, (height, width) in enumerate(sides):
        images[row, :height, :width] = scene(height, width)
    return images, np.array([(width, height) for height, width in sides], np.int32)


def test_of_a_canvas_the_picture_alone_is_taken() -> None:
    images, sizes = on_canvas((60, 80), (40, 30), (9, 30))
    context, ids = Context(0, "equalize"), np.zeros(3, ID)
    batch = Batch(ids, (ids,), ({"image": images, "native_size": sizes},))
    found = STAGE.compute(config(16), batch, context)
    for row, (height, width) in enumerate(((60, 80), (40, 30))):
        alone, _ = run(config(16), encoded(scene(height, width)))
        assert np.array_equal(found["image"][row], alone["image"][0])
    assert list(context.failures) == [2]
    assert "a square of 9 pixels, expected at least 16" in context.failures[2]


def test_what_else_has_a_size_is_no_canvas() -> None:
    image = Field("uint8", (60, 80, 3))
    STAGE.schema(config(128), {"of": {"image": image, "native_size": CANVAS}})  # each row has a size of its own
    with pytest.raises(ValueError, match="it is the size of a file; leave the node of the files out of the view"):
        STAGE.schema(config(16), {"of": {"image": image, "native_size": FACTS["native_size"]}})
    with pytest.raises(ValueError, match="would take the empty part of a canvas for a picture; put equalize"):
        image_size({"image": image, "native_size": CANVAS}, "measure")


@pytest.mark.parametrize("field", ["reduction", "square", "native_size"])
def test_qualities_are_refused_where_the_files_are_no_longer_there(field: str) -> None:
    """A photograph that another stage has read would be coded once more, and a fake once."""
    image = Field("uint8", (64, 64, 3))
    window = config(16, protocol="window", sides=[30, 99], qualities=[90])
    STAGE.schema(window, {"of": {"image": image}})
    with pytest.raises(ValueError, match="give them to the first `equalize`, which reads the files"):
        STAGE.schema(window, {"of": {"image": image, field: CANVAS if field == "native_size" else Field("<f4")}})
