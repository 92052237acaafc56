"""How solvers of scikit-learn and LAPACK are called: on one thread, and not silent about an end before the goal."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ALONE = threading.Lock()
"""The number of threads belongs to the process: whoever sets it puts it back before the next one reads it."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, sums are added in one order whatever the number of cores: more threads would add in another one."""
    from threadpoolctl import threadpool_limits

    with _ALONE, threadpool_limits(1):
        yield


def converges(model: Any, rows: NDArray[np.float64], labels: NDArray[np.uint8]) -> bool:
    """Fit `model` to rows (n, length) and labels (n,); whether its solver ended before its last iteration."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(rows, labels)
    return not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
