"""One answer out of the logits of many cells of a picture (Chai et al. 2020): (N, classes, h, w) -> (N, classes).

Of torch's tensors, in their precision and on their device: heads read trainings with them, published rules files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def after_softmax(logits: Tensor) -> Tensor:
    """The mean over cells of their probabilities (Eq. 2; the published numbers)."""
    return logits.softmax(dim=1).mean(dim=(2, 3))


def before_softmax(logits: Tensor) -> Tensor:
    """The probabilities of the mean logits."""
    return logits.mean(dim=(2, 3)).softmax(dim=1)


def vote(logits: Tensor) -> Tensor:
    """The share of cells in which a class has the largest logit, float64; of equal ones the first counts."""
    largest = logits.argmax(dim=1, keepdim=True)
    return logits.new_zeros(logits.shape, dtype=logits.double().dtype).scatter(1, largest, 1).mean(dim=(2, 3))
