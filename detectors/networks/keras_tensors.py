"""Weights of Keras layers as tensors of torch's: names, orders of axes. Needs numpy alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

PARTS = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def of_keras(weights: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """`<layer>/<part>:0` to `<layer>.<part>`: kernels (H, W, in, out) to (out, in, H, W), (in, out) to (out, in).

    Batch normalization gets the counter of batches that torch's has, 0.
    Raises ValueError for a part that is none of a convolution, a dense layer or a batch normalization.
    """
    found = {}
    for name, value in weights.items():
        layer, _, part = name.removesuffix(":0").rpartition("/")
        if part not in PARTS:
            raise ValueError(f"'{name}' is no weight of a Keras layer; expected one of {', '.join(PARTS)}")
        if part == "kernel":
            value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
        found[f"{layer}.{PARTS[part]}"] = np.ascontiguousarray(value)
        if part == "moving_variance":
            found[f"{layer}.num_batches_tracked"] = np.zeros((), np.int64)
    return found
