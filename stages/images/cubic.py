"""The cubic kernel of bicubic interpolation, as OpenCV and torch have it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def cubic(distance: ArrayLike, a: float = -0.75) -> NDArray[np.float64]:
    """Cubic convolution kernel (Keys 1981, equation 4) at distances of 0 to 2 pixels."""
    x = np.asarray(distance, dtype=np.float64)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, far)
