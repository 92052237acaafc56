"""Spectrum profiles as a classifier reads them: resampled to a common length, then normalized per row.

Stored profiles are the plain log profiles of native length; each published detector normalizes them in its own way
(Durall et al. 2019 divide by the first element or do nothing, Jung and Keuper 2021 use min-max). None of it needs the
training set, so a change of normalization recomputes no feature.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from detectors.contract import DetectorConfig
from detectors.normalization import LEAST_POINTS, divide_by_first, min_max, resample

Normalization = Literal["none", "divide_by_first", "min_max"]
NORMALIZATIONS = "of each row: none, divide_by_first (by its first element), or min_max (to 0 ... 1)"
"""Description of the setting."""


class ProfileConfig(DetectorConfig):
    """Base of the configs of families that read profiles."""

    feature: str = Field(
        "profile", description="field of one-dimensional features: profile, row_profile, column_profile"
    )
    normalization: Normalization = Field("divide_by_first", description=NORMALIZATIONS)
    length: int | None = Field(None, ge=8, description="resample profiles to this length; null: native length")

    @property
    def resamples(self) -> bool:
        """With a `length`, profiles of images of any size (Durall et al. 2019)."""
        return self.length is not None

    def check(self, shape: tuple[int, ...], axes: tuple[str, ...]) -> None:
        """Rows are profiles."""
        del axes
        check_profile(shape, self.length)


def check_profile(shape: tuple[int, ...], length: int | None) -> None:
    """Raise ValueError unless rows of this shape are profiles that can have the length."""
    if len(shape) != 1:
        found = " x ".join(str(side) for side in shape) or "a single number"
        raise ValueError(f"a profile detector reads vectors, but each row is {found}; choose a one-dimensional feature")
    if length not in (None, shape[0]) and shape[0] < LEAST_POINTS:
        raise ValueError(
            f"profiles of {shape[0]} points cannot be resampled to {length}; expected {LEAST_POINTS} points or more"
        )


def prepared(features: NDArray[Any], normalization: Normalization, length: int | None) -> NDArray[np.float64]:
    """Profiles (n, native) as stored to classifier input (n, length), float64.

    Raises ValueError unless each row is one-dimensional.
    """
    check_profile(features.shape[1:], length)
    rows: NDArray[Any] = np.asarray(features, dtype=np.float64)
    if length is not None and length != rows.shape[1]:
        rows = resample(rows, length)
    if normalization == "divide_by_first":
        rows, _ = divide_by_first(rows)
    elif normalization == "min_max":
        rows, _ = min_max(rows)
    return np.ascontiguousarray(rows, dtype=np.float64)
