"""The steps of a training as one CUDA graph: a GPU is given hundreds of small kernels by one call.

A graph repeats the kernels, and thus the bytes, of the step that was recorded, with the numbers that stood in its
program: it is recorded anew when the learning rate changes. The first steps run as they are, since torch and its
libraries make what they keep when they are first called. On a CPU all steps do.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

WARM_UP = 3
"""Steps before one is recorded."""

Work = Callable[..., Tensor]
Record = Callable[[Work, Sequence[Tensor]], tuple[Callable[[], None], Tensor]]
"""Records, without doing it, what `work` does with tensors; returns how to do it, and what then holds the result."""


class NotRecordable(Exception):
    """A step that must run as it is."""


def recording(device: str, random: torch.Generator | None) -> Record | None:
    """How steps are recorded; None where they are not: off a GPU, and where a network draws numbers on the host."""
    return recorded if torch.device(device).type == "cuda" and random is None else None


def recorded(work: Work, given: Sequence[Tensor]) -> tuple[Callable[[], None], Tensor]:
    """A CUDA graph of `work`. Threads that copy for this one may go on meanwhile.

    Raises NotRecordable where something in it waits for the device, or asks for what a graph cannot repeat.
    """
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            result = work(*given)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        torch.cuda.set_stream(stream)
        torch.cuda.synchronize()  # raises where the device is lost, and then no step can go on
        raise NotRecordable from error
    return graph.replay, result


class Captured:
    """A step that changes weights and returns a number, as tensors in and one tensor () out.

    record   see `recording`
    refused  whether steps run one by one although the device would repeat them
    """

    def __init__(self, work: Work, record: Record | None) -> None:
        self.work, self.record, self.refused = work, record, False
        self.shapes: Any = None  # of the first batch: others, which are rare, run as they are
        self.warm = 0
        self.key: Hashable = None
        self.replay: Callable[[], None] | None = None

    def __call__(self, key: Hashable, *given: Tensor) -> Tensor:
        """The result for some tensors; key: what else the step depends on."""
        if self.record is None:
            return self.work(*given)
        shapes = [(one.shape, one.dtype) for one in given]
        self.shapes = self.shapes or shapes
        if shapes != self.shapes:
            return self.work(*given)
        if self.warm < WARM_UP:
            self.warm += 1
            return self.work(*given)
        if self.replay is None or key != self.key:
            self._record(key, given)
        if self.replay is None:
            return self.work(*given)
        for place, one in zip(self.given, given, strict=True):
            place.copy_(one)
        self.replay()
        return self.result.clone()  # the next step overwrites it

    def _record(self, key: Hashable, given: Sequence[Tensor]) -> None:
        assert self.record is not None
        self.replay, self.key = None, key
        self.given = [one.clone() for one in given]
        try:
            self.replay, self.result = self.record(self.work, self.given)
        except NotRecordable:
            self.record, self.refused = None, True
