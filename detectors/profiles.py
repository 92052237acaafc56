"""Spectrum profiles as a classifier reads them: resampled to a common length, then normalized per row.

Stored profiles are the plain log profiles of native length; each published detector normalizes them in its own way
(Durall et al. 2019 divide by the first element or do nothing, Jung and Keuper 2021 use min-max). None of it needs the
training set, so a change of normalization recomputes no feature.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detectors.normalization import divide_by_first, min_max, resample

Normalization = Literal["none", "divide_by_first", "min_max"]
NORMALIZATIONS = "of each row: none, divide_by_first (by its first element), or min_max (to 0 ... 1)"
"""Description of the setting."""


def prepared(features: NDArray[Any], normalization: Normalization, length: int | None) -> NDArray[np.float64]:
    """Profiles (n, native) as stored to classifier input (n, length), float64.

    Raises ValueError unless each row is one-dimensional.
    """
    if features.ndim != 2:
        found = " x ".join(str(side) for side in features.shape[1:]) or "a single number"
        raise ValueError(f"a profile detector reads vectors, but each row is {found}; choose a one-dimensional feature")
    rows: NDArray[Any] = np.asarray(features, dtype=np.float64)
    if length is not None and length != rows.shape[1]:
        rows = resample(rows, length)
    if normalization == "divide_by_first":
        rows, _ = divide_by_first(rows)
    elif normalization == "min_max":
        rows, _ = min_max(rows)
    return np.ascontiguousarray(rows, dtype=np.float64)
