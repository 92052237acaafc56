"""Copies between the memory of the host and that of a device, for which neither waits for the other.

A copy from ordinary memory makes the host wait, one from page-locked memory does not. On a CPU nothing is copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Numbers = dict[str, Any]
"""Numbers of a step by name: of the host, or tensors () that still lie on a device."""

ALIGNED = 512
"""Bytes at whose multiples the memory of a device is given out."""


PAGE_LOCKED = {"cuda"}
"""Kinds of devices to and from which copies of page-locked memory do not wait."""


def locked(device: torch.device | str) -> bool:
    """Whether copies go through page-locked memory."""
    return torch.device(device).type in PAGE_LOCKED


def elsewhere(device: torch.device | str) -> bool:
    """Whether a device has a memory of its own."""
    return torch.device(device).type != "cpu"


@cache
def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers (n,) on a device, copied once."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype).to(device)


def sent(values: NDArray[Any] | Tensor, device: torch.device | str) -> Tensor:
    """An array on its way to the device; a tensor of the device as it is."""
    if isinstance(values, Tensor) and elsewhere(values.device):
        return values.to(device)
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(np.ascontiguousarray(values))
    return tensor.pin_memory().to(device, non_blocking=True) if locked(device) else tensor.to(device)


def stacked(rows: Sequence[Mapping[str, NDArray[Any]]], device: torch.device | str) -> dict[str, Tensor]:
    """Arrays of several rows, by name, one row behind the other on the device: all in one copy."""
    places: dict[str, slice] = {}
    end = 0
    for name, one in rows[0].items():
        start = -(-end // ALIGNED) * ALIGNED
        end = start + len(rows) * one.nbytes
        places[name] = slice(start, end)
    pinned = locked(device)
    host = torch.empty(end, dtype=torch.uint8, pin_memory=pinned)
    for name, place in places.items():
        target = host.numpy()[place].view(rows[0][name].dtype).reshape(len(rows), *rows[0][name].shape)
        np.stack([row[name] for row in rows], out=target)
    there = host.to(device, non_blocking=pinned)
    return {
        name: there[place].view(_dtype(rows[0][name])).view(len(rows), *rows[0][name].shape)
        for name, place in places.items()
    }


def _dtype(array: NDArray[Any]) -> torch.dtype:
    return torch.from_numpy(np.empty(0, array.dtype)).dtype


def padded(rows: NDArray[Any], size: int, device: torch.device | str) -> Iterator[Tensor]:
    """Groups of exactly `size` rows on the device, the last one filled up with zeros.

    A GPU gets all of them in one copy.
    """
    together = max(-(-len(rows) // size) * size, size) if elsewhere(device) else size
    for start in range(0, len(rows), together):
        some = rows[start : start + together]
        filled = np.zeros((together, *rows.shape[1:]), dtype=rows.dtype)
        filled[: len(some)] = some
        yield from sent(filled, device).split(size)


class Fetched:
    """A tensor on its way to the CPU.

    The copy is queued behind what makes the tensor and before anything that is queued later, so that waiting for it is
    not waiting for the next micro-batch too.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._held, self._done = tensor, None
        if locked(tensor.device):
            self._held = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._held.copy_(tensor, non_blocking=True)
            self._done = torch.cuda.Event()
            self._done.record()

    def array(self) -> NDArray[Any]:
        """The values, once they are there."""
        if self._done is not None:
            self._done.synchronize()
        return self._held.numpy()


def told(numbers: Numbers) -> dict[str, float]:
    """Numbers of a step, of which those on a device are all fetched at once."""
    waiting = {name: one.detach().double() for name, one in numbers.items() if isinstance(one, Tensor)}
    values = torch.stack([*waiting.values()]).tolist() if waiting else []
    return {**numbers, **dict(zip(waiting, values, strict=True))}  # type: ignore[dict-item]
