"""Weights of published detectors as data: the state dict of a file, wherever it lies in it, for exactly one network.

Authors save a state dict alone or under a name (`model`, `netC`, `state_dict`, ...) beside an optimizer and counters,
with or without the `module.` of DataParallel, by old and new versions of torch; Keras networks as HDF5 or .npz. All are
read without running anything of them. A tensor that is missing, unexpected or of another shape is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.networks.keras_tensors import of_keras
from stages.sentences import listed, shown
from stages.weights.arrays import Tensor, read_torch
from stages.weights.checkpoints import other_kind, read_contents, refusal
from stages.weights.keras_files import HDF5_START, read_hdf5, read_npz
from stages.weights.pickle_machine import Budget
from stages.weights.weights_file import WeightsError

Shapes = Mapping[str, tuple[int, ...]]

OPTIMIZERS = ("optimizer", "optim", "scheduler")


@dataclass(frozen=True)
class StateDict:
    """One dictionary of tensors of a file.

    path     its name in the file, "" if the file is nothing else
    prefix   what was taken off each name
    tensors  arrays as stored
    """

    path: str
    prefix: str
    tensors: Mapping[str, NDArray[Any]]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of its tensors."""
        return {name: value.shape for name, value in self.tensors.items()}


def state_dicts(path: Path) -> list[StateDict]:
    """All dictionaries of tensors of a file; those of Keras have the names and axes that torch would give them.

    Raises WeightsError, one sentence that begins with the path.
    """
    start = _start(path)
    try:
        if start.startswith(HDF5_START):
            return [StateDict("", "", of_keras(read_hdf5(path)))]
        if start.startswith(b"PK") and path.suffix == ".npz":
            return [StateDict("", "", of_keras(read_npz(path)))]
    except WeightsError:
        raise
    except ValueError as error:
        raise WeightsError(f"{path} holds other things than weights: {error}") from error
    found = []
    for name, network in read_contents(path).networks.items():
        if name not in OPTIMIZERS:
            found.append(StateDict(name, network.attributes.get("prefix", ""), network.tensors))
    return found


def read_detector(path: Path, expected: Shapes, what: str) -> StateDict:
    """The state dict of a file that has exactly the expected tensors, floats as float32, all finite.

    what  the network in words, for the sentence

    Raises WeightsError where no dictionary of the file fits, or several do.
    """
    found = state_dicts(path)
    fitting = [state for state in found if not misfit(state.shapes, expected)]
    if len(fitting) > 1:
        names = listed([state.path for state in fitting])
        raise WeightsError(f"{path} holds several state dicts that fit {what} ({names}); save the one to use alone")
    if not fitting:
        nearest = max(found, key=lambda state: len(state.tensors.keys() & expected.keys()))
        where = f"its '{nearest.path}'" if nearest.path else "it"
        raise WeightsError(f"{path} does not fit {what}: {where} {misfit(nearest.shapes, expected)}")
    state = fitting[0]
    return StateDict(state.path, state.prefix, {name: _values(path, name, state.tensors[name]) for name in expected})


def misfit(shapes: Shapes, expected: Shapes) -> str:
    """The first difference, as a clause; "" if there is none."""
    if missing := [name for name in expected if name not in shapes]:
        return f"lacks {listed(missing, 3)}"
    if unexpected := [name for name in shapes if name not in expected]:
        return f"has {listed(unexpected, 3)}, which the network has not"
    for name, shape in expected.items():
        if tuple(shapes[name]) != tuple(shape):
            return f"has {shown(name)} of shape {tuple(shapes[name])}, expected {tuple(shape)}"
    return ""


def fitting_detectors(shapes: Shapes) -> list[str]:
    """Published detectors whose networks have exactly these tensors; they do not tell strides and inputs."""
    from detectors.published import PUBLISHED

    if any(0 in shape for shape in shapes.values()):
        return []
    found = []
    for name, published in PUBLISHED.items():
        try:
            wanted = network_shapes(name, shapes) if published.sizes else _fixed_shapes(name)
        except (KeyError, ValueError, IndexError):  # its sizes stand in tensors that are not there
            continue
        if not misfit(shapes, wanted):
            found.append(name)
    return found


def network_shapes(name: str, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Of all tensors of a published detector's network; `shapes` of the file say its sizes, where they can differ."""
    import torch

    from detectors.published import PUBLISHED

    with torch.device("meta"):
        network = PUBLISHED[name].build(shapes)
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


@cache
def _fixed_shapes(name: str) -> dict[str, tuple[int, ...]]:
    return network_shapes(name, {})


def read_tensor(path: Path) -> NDArray[np.float32]:
    """The tensor of a torch file that holds nothing else, such as `dct_mean` of FreDect; raises WeightsError."""
    if kind := other_kind(_start(path)):
        raise WeightsError(f"{path} {kind}")
    data = path.read_bytes()
    try:
        content = read_torch(memoryview(data), Budget(len(data)), 0)
        if not isinstance(content, Tensor):
            raise WeightsError(f"it holds {shown(content)}, expected one tensor")
        return _values(path, "", content.array())
    except WeightsError as error:
        raise refusal(path, error) from error


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4096)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error


def _values(path: Path, name: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind != "f":
        return array
    values = array.astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        raise WeightsError(f"{path} has values in {shown(name)} that are no finite numbers; download it again")
    return values
