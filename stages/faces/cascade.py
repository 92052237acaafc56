"""MTCNN's cascade (Zhang et al. 2016): proposals at all sizes, refined twice, each time fewer.

Constants are those of the form that weights are published in: faces of 20 px or more, a pyramid by 0.709, probabilities
above 0.6, 0.7 and 0.7. All pictures are worked on alone, so that no row depends on its neighbors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from detectors.transfers import Fetched, sent
from stages.faces.boxes import squared, suppressed

SMALLEST, FACTOR, CELL, STRIDE = 20, 0.709, 12, 2
THRESHOLDS = 0.6, 0.7, 0.7
WITHIN, OVER = 0.5, 0.7
"""Overlap that is kept within a level of the pyramid, and over levels."""


class Faces(NamedTuple):
    """boxes (n, 4): left, top, right, bottom; points (n, 5, 2): x, y; scores (n,); all float64, pixels, in no order."""

    boxes: NDArray[np.float64]
    points: NDArray[np.float64]
    scores: NDArray[np.float64]


NONE = Faces(np.zeros((0, 4)), np.zeros((0, 5, 2)), np.zeros(0))


def scales(height: int, width: int) -> list[float]:
    """Of the pyramid, from the largest picture down, as long as the shorter side has a cell."""
    found, scale = [], CELL / SMALLEST
    side = min(height, width) * scale
    while side >= CELL:
        found.append(scale)
        scale, side = scale * FACTOR, side * FACTOR
    return found


def normalized(pixels: Tensor) -> Tensor:
    """RGB of 0 to 255 as the networks want it."""
    return (pixels - 127.5) / 128


def cells(regressions: NDArray[Any], probabilities: NDArray[Any], scale: float, least: float) -> NDArray[np.float64]:
    """(n, 9) left, top, right, bottom, score and regressions of the cells of a level that may hold a face.

    regressions: (4, h, w); probabilities: (h, w)
    """
    rows, columns = np.nonzero(probabilities >= least)
    place = np.stack([columns, rows], axis=1)
    low = np.floor((STRIDE * place + 1) / scale)
    high = np.floor((STRIDE * place + CELL) / scale)
    score = probabilities[rows, columns][:, None]
    return np.concatenate([low, high, score, regressions[:, rows, columns].T], axis=1).astype(np.float64)


def moved(boxes: NDArray[np.float64], by: NDArray[np.float64], end: float) -> NDArray[np.float64]:
    """Boxes moved by parts of their sides; `end` is added to sides."""
    sides = boxes[:, 2:4] - boxes[:, :2] + end
    return boxes[:, :4] + by * np.concatenate([sides, sides], axis=1)


def _crops(image: Tensor, boxes: NDArray[np.float64], side: int) -> tuple[Tensor, NDArray[np.int64]]:
    """Pixels of boxes, counted from 1 and cut off at the borders, at (n, 3, side, side); and which boxes have any."""
    _, _, height, width = image.shape
    whole = np.trunc(boxes).astype(np.int64)
    left, top = np.maximum(whole[:, 0], 1) - 1, np.maximum(whole[:, 1], 1) - 1
    right, bottom = np.minimum(whole[:, 2], width), np.minimum(whole[:, 3], height)
    some = np.flatnonzero((right > left) & (bottom > top))
    pieces = [
        interpolate(image[:, :, top[one] : bottom[one], left[one] : right[one]], size=(side, side), mode="area")
        for one in some.tolist()
    ]
    return torch.cat(pieces) if pieces else image.new_zeros((0, 3, side, side)), some


def _proposed(image: Tensor, network: nn.Module) -> NDArray[np.float64]:
    """(n, 5) square boxes and scores."""
    _, _, height, width = image.shape
    told, found = [], []
    for scale in scales(height, width):
        size = int(height * scale + 1), int(width * scale + 1)
        regressions, probabilities = network(normalized(interpolate(image, size=size, mode="area")))
        told.append((scale, Fetched(regressions[0]), Fetched(probabilities[0, 1])))
    for scale, moves, shares in told:
        level = cells(moves.array(), shares.array(), scale, THRESHOLDS[0])
        found.append(level[suppressed(level[:, :4], level[:, 4], WITHIN)])
    boxes = np.concatenate(found) if found else np.zeros((0, 9))
    boxes = boxes[suppressed(boxes[:, :4], boxes[:, 4], OVER)]
    return np.concatenate([squared(moved(boxes[:, :4], boxes[:, 5:], 0.0)), boxes[:, 4:5]], axis=1)


def _arrays(values: Sequence[Tensor]) -> list[NDArray[np.float64]]:
    return [one.array() for one in [Fetched(value.double()) for value in values]]


def detect(pixels: NDArray[np.uint8], networks: Mapping[str, nn.Module], device: str = "cpu") -> Faces:
    """Faces of a picture, (H, W, 3) uint8 RGB."""
    image = sent(pixels, device).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        boxes = _proposed(image, networks["pnet"])[:, :4]
        crops, some = _crops(image, boxes, 24)
        if not len(some):
            return NONE
        regressions, probabilities = _arrays(networks["rnet"](normalized(crops)))
        good = probabilities[:, 1] > THRESHOLDS[1]
        boxes, regressions, scores = boxes[some][good], regressions[good], probabilities[good, 1]
        kept = suppressed(boxes, scores, OVER)
        boxes = squared(moved(boxes[kept], regressions[kept], 1.0))
        crops, some = _crops(image, boxes, 48)
        if not len(some):
            return NONE
        regressions, places, probabilities = _arrays(networks["onet"](normalized(crops)))
    good = probabilities[:, 1] > THRESHOLDS[2]
    boxes, scores = boxes[some][good], probabilities[good, 1]
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    points = np.stack([places[good, :5], places[good, 5:]], axis=2) * sides[:, None] + boxes[:, None, :2] - 1
    boxes = moved(boxes, regressions[good], 1.0)
    kept = suppressed(boxes, scores, OVER, smaller=True)
    return Faces(boxes[kept], points[kept], scores[kept])
