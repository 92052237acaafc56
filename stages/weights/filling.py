"""Tensors of a file into a network: names, shapes and values are those that the network needs, or it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stages.sentences import printable, shown
from stages.weights.weights_file import WeightsError

if TYPE_CHECKING:
    from torch import nn

Network = TypeVar("Network", bound="nn.Module")


def check_tensors(where: str, found: Mapping[str, NDArray[Any]], network: nn.Module) -> dict[str, NDArray[np.float32]]:
    """`found` as float32, if names and shapes are those of the network and all values are finite numbers.

    network  with values or without ("meta"); where: who holds the tensors, the beginning of a sentence
    Raises WeightsError.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    missing, leftover = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or leftover:
        parts = [f"lacks {_some(missing)}"] * bool(missing) + [f"has the unknown {_some(leftover)}"] * bool(leftover)
        raise WeightsError(f"{where} does not fit its network: it {' and '.join(parts)}")
    for name, array in found.items():
        tensor = f"{where}: tensor {shown(name)} has"
        if tuple(array.shape) != expected[name]:
            raise WeightsError(f"{tensor} shape {tuple(array.shape)}, its network needs {expected[name]}")
        if array.dtype.kind != "f":
            raise WeightsError(f"{tensor} values of {array.dtype}; expected floating-point numbers")
        if not np.isfinite(array).all():
            count = int(np.size(array) - np.isfinite(array).sum())
            raise WeightsError(f"{tensor} {count} values that are not finite (NaN or infinity)")
    return {name: np.ascontiguousarray(array, dtype=np.float32).reshape(array.shape) for name, array in found.items()}


def _some(names: list[str]) -> str:
    return ", ".join(map(printable, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def fill(where: str, network: Network, tensors: Mapping[str, NDArray[Any]]) -> Network:
    """Put checked tensors into a network (built on the "meta" device or not); returns it in evaluation mode, frozen."""
    import torch

    checked = check_tensors(where, tensors, network)
    network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in checked.items()}, assign=True)
    return network.eval().requires_grad_(False)
