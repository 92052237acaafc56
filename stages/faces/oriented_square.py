"""The square around a face, turned with it, and its pixels: CelebA-HQ (Karras et al. 2018, appendix C) and FFHQ (2019).

Its side lies along the eyes and is twice their distance or 1.8 times that from the eyes to the mouth, whichever is
more. Where it reaches over the border, the picture is reflected there, blurred and faded to its median color.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LEFT_EYE, RIGHT_EYE, NOSE, LEFT_MOUTH, RIGHT_MOUTH = range(5)
MOST_PIXELS = 2**27
"""Of a picture on its way: a face of a few pixels, or points far outside, would need more."""
BORDER, PAD, BLUR = 0.1, 0.3, 0.02
"""Parts of the side of the square."""


class Form(NamedTuple):
    """How a data set was cut out.

    measured  side in pixels by which borders are measured and small faces enlarged
    work      side that the square is first drawn at, bilinear
    middle    side that it is then reduced or enlarged to by Lanczos
    half      part of a pixel that is added to the middles of eyes and mouth
    eyes      numbers of the points of the left and right eye among 68
    """

    measured: int
    work: int
    middle: int
    half: float
    eyes: tuple[tuple[int, ...], tuple[int, ...]]


CONTOURS = tuple(range(36, 42)), tuple(range(42, 48))
LIDS = (37, 38, 40, 41), (43, 44, 46, 47)
FORMS = {
    "celebahq": Form(1024, 4096, 1024, 0.5, CONTOURS),
    "ffhq": Form(1024, 4096, 1024, 0.0, CONTOURS),
    "chai2020": Form(128, 512, 1024, 0.5, LIDS),
}
"""Data set -> its form; that of Chai et al. 2020 is what their released program does."""


def five_points(points: NDArray[np.floating[Any]], form: Form) -> NDArray[np.float64]:
    """(5, 2) eyes, nose and corners of the mouth from (5, 2), or from (68, 2) in the order of iBUG 300-W."""
    given: NDArray[np.float64] = np.asarray(points, np.float64)
    if given.shape == (5, 2):
        return given
    if given.shape != (68, 2):
        raise ValueError(f"has points {given.shape}, expected (5, 2) or (68, 2)")
    left, right = (given[list(eye)].mean(axis=0) for eye in form.eyes)
    return np.stack([left, right, given[30], given[48], given[54]])


def _turned(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """By a quarter, from the x to the y axis."""
    return np.array([-vector[1], vector[0]])


def square_of(points: NDArray[np.floating[Any]], form: Form) -> NDArray[np.float64]:
    """(4, 2) corners x, y in pixels: upper left, lower left, lower right, upper right, in the direction of the face."""
    five = five_points(points, form)
    eyes = (five[LEFT_EYE] + five[RIGHT_EYE]) / 2 + form.half
    mouth = (five[LEFT_MOUTH] + five[RIGHT_MOUTH]) / 2 + form.half
    across, down = five[RIGHT_EYE] - five[LEFT_EYE], mouth - eyes
    along = across - _turned(down)
    length = np.hypot(*along)
    if not length:
        raise ValueError("has all points of a face in one place")
    along = along / length * max(np.hypot(*across) * 2.0, np.hypot(*down) * 1.8)
    aside, center = _turned(along), eyes + 0.1 * down
    corners = [center - along - aside, center - along + aside, center + along + aside, center + along - aside]
    return np.stack(corners)


def crop(
    pixels: NDArray[np.uint8], square: NDArray[np.float64], form: Form, size: int, pad: bool = True
) -> NDArray[np.uint8]:
    """(size, size, 3) uint8 RGB of the square in a picture (H, W, 3). Raises ValueError where it cannot be cut out.

    pad: reflect, blur and fade what lies outside; else it is black.
    """
    from PIL import Image

    lanczos = Image.Resampling.LANCZOS
    image, square = Image.fromarray(np.ascontiguousarray(pixels)), square.copy()
    zoom = form.measured / np.hypot(*(square[3] - square[0]))
    shrink = int(np.floor(0.5 / zoom))
    if shrink > 1:
        sides = round(image.width / shrink), round(image.height / shrink)
        if min(sides) < 1:
            raise ValueError("has a face that is far larger than the picture")
        image = image.resize(sides, lanczos)
        square, zoom = square / shrink, zoom * shrink
    border = max(round(form.measured * BORDER / zoom), 3)
    left, top, right, bottom = _around(square)
    box = (
        max(left - border, 0),
        max(top - border, 0),
        min(right + border, image.width),
        min(bottom + border, image.height),
    )
    if box[2] <= box[0] or box[3] <= box[1]:
        raise ValueError("has its face outside of the picture")
    image, square = image.crop(box), square - box[:2]
    enlarge = int(np.exp2(np.ceil(np.log2(zoom))))
    if enlarge > 1:
        _check_size(image.width * enlarge, image.height * enlarge)
        image = image.resize((image.width * enlarge, image.height * enlarge), lanczos)
        square, zoom = square * enlarge, zoom / enlarge
    left, top, right, bottom = _around(square)
    lacking = [-left + border, -top + border, right - image.width + border, bottom - image.height + border]
    widths = np.maximum(lacking, 0)
    if pad and widths.max() > border - 4:
        widths = np.maximum(widths, round(form.measured * PAD / zoom))
        _check_size(image.width + int(widths[0] + widths[2]), image.height + int(widths[1] + widths[3]))
        image = Image.fromarray(_faded(np.asarray(image, np.float32), widths, form.measured * BLUR / zoom))
        square = square + widths[:2]
    drawn = image.transform(
        (form.work, form.work), Image.Transform.QUAD, tuple((square + 0.5).flatten()), Image.Resampling.BILINEAR
    )
    middle = drawn.resize((form.middle, form.middle), lanczos)
    return np.array(middle if size == form.middle else middle.resize((size, size), lanczos))


def _check_size(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise ValueError(
            f"has a face that needs {width:,} x {height:,} pixels on the way, expected at most {MOST_PIXELS:,} in all"
        )


def _around(square: NDArray[np.float64]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the upright box around it."""
    low, high = np.floor(square.min(axis=0)), np.ceil(square.max(axis=0))
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _faded(image: NDArray[np.float32], widths: NDArray[np.int64], blur: float) -> NDArray[np.uint8]:
    """The picture (H, W, 3) with reflections of the given widths (left, top, right, bottom), blurred and faded."""
    from scipy.ndimage import gaussian_filter

    left, top, right, bottom = widths.tolist()
    image = np.pad(image, ((top, bottom), (left, right), (0, 0)), "reflect")
    height, width, _ = image.shape
    rows, columns = np.ogrid[:height, :width]
    across = np.minimum(np.float32(columns) / left, np.float32(width - 1 - columns) / right)
    along = np.minimum(np.float32(rows) / top, np.float32(height - 1 - rows) / bottom)
    outside = (1 - np.minimum(across, along))[:, :, None]
    image += (gaussian_filter(image, [blur, blur, 0]) - image) * np.clip(3 * outside + 1, 0, 1)
    image += (np.median(image, axis=(0, 1)) - image) * np.clip(outside, 0, 1)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
