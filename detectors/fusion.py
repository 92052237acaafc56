"""One probability out of those of several detectors of the same rows (He et al. 2021, Eq. 4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detectors.calibration import logistic


def mean_probability(probabilities: NDArray[np.float64], weights: Sequence[float] | None = None) -> NDArray[np.float64]:
    """Weighted mean (n,) of the members' probabilities of fake (members, n), in the same order of rows; default equal.

    Raises ValueError unless there is a weight for each, none below 0, and they sum to 1.
    """
    return checked_weights(len(probabilities), weights) @ probabilities


def probability_of_mean_logit(
    logits: NDArray[np.float64], weights: Sequence[float] | None = None
) -> NDArray[np.float64]:
    """The same of logits of fake (members, n): the probability (n,) of their mean."""
    return logistic(checked_weights(len(logits), weights) @ logits)


def checked_weights(members: int, weights: Sequence[float] | None) -> NDArray[np.float64]:
    """(members,) weights that sum to 1."""
    found = np.full(members, 1 / members) if weights is None else np.asarray(weights, np.float64)
    if found.shape != (members,) or found.min() < 0 or abs(found.sum() - 1) > 1e-9:
        raise ValueError(f"weights are {found.tolist()}; expected {members} numbers of at least 0 that sum to 1")
    return found
