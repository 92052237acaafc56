"""Mean and variance of a feature's coefficients as a file: `statistics.safetensors`, arrays and a description.

`standardize` writes it, `train` reads it. The description ties the numbers to what they are numbers of: the field, its
shape and its units, which say whether logarithms were taken and of what. The header's `__metadata__` holds it as JSON
text under "touchstone", so that planning need not read the arrays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.stage import Field, Promise
from stages.weights import safetensors_file

FILE, CARD = "statistics.safetensors", "card.json"
KIND, FORMAT = "standardization statistics", 1
Array = NDArray[np.float64]


class StatisticsError(ValueError):
    """A file holds no statistics, or those of something else; one sentence."""


def describe(feature: str, field: Field) -> dict[str, Any]:
    """Plain data of everything but the arrays."""
    return {
        "format": FORMAT, "kind": KIND, "feature": feature, "shape": list(field.shape), "units": field.units
    }  # fmt: skip


def pack(feature: str, field: Field, mean: Array, variance: Array) -> bytes:
    """The file's bytes."""
    arrays = {"mean": np.ascontiguousarray(mean, "<f8"), "variance": np.ascontiguousarray(variance, "<f8")}
    return safetensors_file.pack(arrays, describe(feature, field))


def read_description(path: Path | Promise) -> Mapping[str, Any]:
    """The description of a file, or what a node promises. Raises StatisticsError."""
    if isinstance(path, Promise):
        about: Any = path.facts
    else:
        about, _ = safetensors_file.read_header(path, (), StatisticsError, "run `standardize` again")
    if not isinstance(about, Mapping) or about.get("kind") != KIND:
        raise StatisticsError(f"{path} holds no {KIND}; name a node of the stage standardize or its file {FILE}")
    if about.get("format") != FORMAT:
        raise StatisticsError(f"{path} is of format {about.get('format')!r}; this version reads format {FORMAT}")
    return about


def check(path: Path | Promise, feature: str, field: Field) -> None:
    """Raise StatisticsError unless the statistics are of this feature, in these units, at this size."""
    about, expected = read_description(path), describe(feature, field)
    for name in ("feature", "units", "shape"):
        if about.get(name) != expected[name]:
            found, wanted = (json.dumps(one[name], ensure_ascii=False) for one in ({name: None, **about}, expected))
            raise StatisticsError(
                f"{path} has statistics of {name} {found}, expected {wanted}; standardize the rows that are trained on"
            )


def load(path: Path) -> tuple[Array, Array]:
    """Mean and population variance, float64, of the described shape. Raises StatisticsError."""
    import safetensors.numpy

    shape = tuple(read_description(path)["shape"])
    arrays = safetensors.numpy.load_file(path)
    for name in ("mean", "variance"):
        array = arrays.get(name)
        if array is None or array.shape != shape or array.dtype != np.float64 or not np.isfinite(array).all():
            raise StatisticsError(f"{path}: '{name}' is no finite float64 array of shape {shape}; fit it again")
    if arrays["variance"].min() < 0:
        raise StatisticsError(f"{path}: 'variance' has negative numbers; fit it again")
    return arrays["mean"], arrays["variance"]
