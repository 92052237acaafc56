"""What the outputs of a published network say: a decision of each row, its probability, a logit of fake."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detectors.calibration import logistic
from detectors.ensembles import after_softmax

Decision = Literal["logit", "logit of real", "fake, real", "cells of fake, real"]
"""What an output says: a logit of fake or real, logits of both, or those of each cell, whose probabilities count.

Of equal probabilities the first class is taken: with one logit it must exceed 0 to be fake.
"""

LEAST = 1e-300
"""Of a probability whose logarithm is taken."""


def fake_probability(output: NDArray[Any], decision: Decision) -> NDArray[np.float64]:
    """(N, outputs) or (N, 2, h, w) to the probability of fake (N,)."""
    if decision == "cells of fake, real":
        return _of_cells(output)[:, 0]
    return logistic(fake_logit(output, decision))


def _of_cells(output: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities (N, 2) of fake and real of rows with cells."""
    import torch

    found: NDArray[np.float64] = after_softmax(torch.from_numpy(output.astype(np.float64))).numpy()
    return found


def is_fake(output: NDArray[Any], decision: Decision) -> NDArray[np.bool_]:
    """The published decision of each row, before any calibration."""
    probability = fake_probability(output, decision)
    return probability >= 0.5 if takes_ties(decision) else probability > 0.5


def takes_ties(decision: Decision) -> bool:
    """Whether a probability of exactly one half means fake."""
    return decision.endswith("fake, real")


def fake_logit(output: NDArray[Any], decision: Decision) -> NDArray[np.float64]:
    """Logit (N,) of `fake_probability`."""
    values: NDArray[np.float64] = output.astype(np.float64)
    if decision == "cells of fake, real":
        fake, real = _of_cells(output).clip(LEAST).T
        found: NDArray[np.float64] = np.log(fake) - np.log(real)
        return found
    if decision == "fake, real":
        return values[:, 0] - values[:, 1]
    return values[:, 0] if decision == "logit" else -values[:, 0]
