"""Rows of any shape as vectors, for learners that know nothing of places: what each value becomes, and its statistics.

The value v of an element becomes (v - shift) * factor, as for eigenfaces and nearest neighbors in Frank et al. 2020
(images in -1 ... 1, standardized log DCT coefficients).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detectors.contract import Control, Examples
from detectors.normalization import Moments, inverse_deviation

BLOCK_BYTES = 1 << 25
"""Of the float64 values of one block of rows."""

Scaling = Literal["none", "pixels", "standardize"]
SCALINGS = (
    "none: as stored; pixels: x / 127.5 - 1; standardize: each element by mean and deviation of all training rows"
)
"""Description of the setting."""


def linear(scaling: Scaling, train: Examples, control: Control) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shift and factor of each element, two arrays of the shape of a row."""
    if scaling == "standardize":
        mean, variance = control.moments or _moments(train)
        return mean.astype(np.float64), inverse_deviation(variance).astype(np.float64)
    shift, factor = (127.5, 1 / 127.5) if scaling == "pixels" else (0.0, 1.0)
    return np.full(train.shape, shift), np.full(train.shape, factor)


def _moments(train: Examples) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    moments = Moments()
    for block in train.blocks(block_rows(train.shape)):
        moments.update(block)
    return moments.mean, moments.variance


def block_rows(shape: tuple[int, ...]) -> int:
    """Rows to handle at a time."""
    return max(1, BLOCK_BYTES // (8 * size(shape)))


def size(shape: tuple[int, ...]) -> int:
    """Values of a row."""
    return int(np.prod(shape))


def check_rows(feature: str, shape: tuple[int, ...]) -> None:
    """Raise ValueError where a row is a single number, so that there is nothing to flatten."""
    if not shape:
        raise ValueError(
            f"'{feature}' is one number per row, but this detector reads images, maps or profiles; choose another "
            "feature, or the family 'threshold'"
        )


def check_shape(feature: str, learned: tuple[int, ...], found: tuple[int, ...]) -> None:
    """Raise ValueError where rows have another shape than those of the training."""
    if found != learned:
        raise ValueError(
            f"this detector was trained on '{feature}' of shape {learned}, but got {found}; equalize the images to one "
            "size"
        )


def check_learned(feature: tuple[int, ...] | None) -> tuple[int, ...]:
    """The shape that a card names. Raises ValueError where it names none."""
    if not feature:
        raise ValueError("its 'feature_shape' is not given, expected the sides of a row")
    return feature
