"""A fitted spectrum equalization as a file: `equalization.safetensors`, arrays and a description, plain data.

`fit_equalization` writes it and `equalize_spectrum` reads it. The header's `__metadata__` has one entry, "touchstone",
a JSON text with the size of the images and the settings of the fit, so that planning need not read the arrays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.contents import kept_while_same
from pipeline.stage import Promise
from stages.spectra.spectrum_gain import Array, Equalization, length
from stages.weights import safetensors_file

FILE, CARD = "equalization.safetensors", "card.json"
FORMAT = 1
SETTINGS: dict[str, tuple[Any, ...]] = {
    "shape": ("radial", "2d"),
    "channels": ("separate", "gray"),
    "gain_per": ("set", "image"),
}
LARGEST_SIDE = 1 << 16
LARGEST_LOG = 100.0
"""No logarithm of an amplitude is larger: exp(100) is more than any image has."""


class EqualizationError(ValueError):
    """A file is no spectrum equalization; one sentence, begins with the file's path."""


def describe(equalization: Equalization) -> dict[str, Any]:
    """Plain data of everything but the arrays."""
    return {
        "format": FORMAT,
        "kind": "spectrum equalization",
        **{name: getattr(equalization, name) for name in ("height", "width", *SETTINGS, "pool_below", "largest")},
    }


def pack(equalization: Equalization, **more: Array) -> bytes:
    """The file's bytes. more: further arrays that the file keeps for readers; they change nothing."""
    arrays = {"target": equalization.target, "source": equalization.source, **more}
    arrays = {name: np.ascontiguousarray(array, dtype="<f8") for name, array in arrays.items()}
    return safetensors_file.pack(arrays, describe(equalization))


def read_description(path: Path | Promise) -> Mapping[str, Any]:
    """The description of a file, or what a node promises. Raises EqualizationError."""
    if isinstance(path, Promise):
        if path.facts.get("kind") != "spectrum equalization":
            raise EqualizationError(f"{path} fits no spectrum equalization; name a node of the stage fit_equalization")
        return path.facts
    about, _ = safetensors_file.read_header(path, (), EqualizationError, "fit the equalization again")
    if not isinstance(about, dict) or about.get("kind") != "spectrum equalization":
        raise EqualizationError(f"{path} does not say that it is a spectrum equalization; give a file {FILE}")
    if about.get("format") != FORMAT:
        raise EqualizationError(f"{path} is of format {about.get('format')!r}; this version reads format {FORMAT}")
    numbers = [about.get(name) for name in ("height", "width", "pool_below")]
    naturals = all(type(number) is int and 1 <= number <= LARGEST_SIDE for number in numbers)
    words = all(about.get(name) in known for name, known in SETTINGS.items())
    largest = about.get("largest")
    if not naturals or not words or not (largest is None or (type(largest) in (int, float) and 1 <= largest < np.inf)):
        raise EqualizationError(f"{path} has a description that no fit writes: {json.dumps(about)}; fit it again")
    return about


@kept_while_same(4)
def load(path: Path) -> Equalization:
    """The equalization in a file; kept while the file is the same. Raises EqualizationError."""
    import safetensors.numpy

    about = dict(read_description(path))
    arrays = safetensors.numpy.load_file(path)
    height, width = about["height"], about["width"]
    planes = 1 if about["channels"] == "gray" else 3
    radial = about["shape"] == "radial"
    expected = (planes, length(height, width)) if radial else (planes, height, width // 2 + 1)
    for name in ("target", "source"):
        array = arrays.get(name)
        found = "none" if array is None else f"{array.shape} {array.dtype}"
        if array is None or array.shape != expected or array.dtype != np.float64:
            raise EqualizationError(f"{path}: array {name!r} is {found}, expected {expected} float64")
        if not (np.abs(array) <= LARGEST_LOG).all():  # false for NaN too
            raise EqualizationError(f"{path}: array {name!r} holds values that are no log amplitudes; fit it again")
    settings = {name: about[name] for name in (*SETTINGS, "pool_below", "largest")}
    return Equalization(height, width, **settings, target=arrays["target"], source=arrays["source"])
