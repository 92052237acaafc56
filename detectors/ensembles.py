"""One answer out of the logits of many cells of a picture (Chai et al. 2020): (N, classes, h, w) -> (N, classes)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def softmax(logits: Floats) -> Floats:
    """Over the second axis."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]


def after_softmax(logits: Floats) -> Floats:
    """The mean over cells of their probabilities (Eq. 2; the published numbers)."""
    return softmax(logits).mean(axis=(2, 3))  # type: ignore[no-any-return]


def before_softmax(logits: Floats) -> Floats:
    """The probabilities of the mean logits."""
    return softmax(logits.mean(axis=(2, 3)))


def vote(logits: Floats) -> Floats:
    """The share of cells in which a class has the largest logit; of equal ones the first counts."""
    classes = logits.shape[1]
    return np.stack([(logits.argmax(axis=1) == one).mean(axis=(1, 2)) for one in range(classes)], axis=1)
