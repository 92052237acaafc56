"""Rows on their way to a device while it computes: threads read them ahead, a stream of the device's own copies them.

The threads read into a few page-locked buffers that are used again and again: fresh memory costs a page fault every few
kilobytes, and a copy out of ordinary memory makes the host wait. A buffer is written anew only after its last copy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

BUFFERS = 3
READERS = 2

Arrays = Mapping[str, NDArray[Any]]
Fill = Callable[[NDArray[np.int64], Arrays], None]
"""Reads rows at some positions into the first places of arrays."""


class Link:
    """Copies to a device on a stream of its own."""

    def __init__(self, device: str) -> None:
        import torch

        self.device = device
        self.stream = torch.cuda.Stream(device)

    def buffer(self, shape: tuple[int, ...], dtype: Any) -> torch.Tensor:
        """Page-locked memory of the host."""
        import torch

        kind = torch.from_numpy(np.empty(0, dtype)).dtype
        return torch.empty(shape, dtype=kind, pin_memory=True)

    def send(self, tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], Any]:
        """The tensors on the device, once the event is reached."""
        import torch

        with torch.cuda.stream(self.stream):
            there = {name: one.to(self.device, non_blocking=True) for name, one in tensors.items()}
            event = torch.cuda.Event()
            event.record(self.stream)
        return there, event

    def receive(self, tensors: Mapping[str, torch.Tensor], event: Any) -> None:
        """Let what is queued from now on come after the copies, and their memory be theirs until then."""
        import torch

        current = torch.cuda.current_stream(self.device)
        current.wait_event(event)
        for one in tensors.values():
            one.record_stream(current)


class Streaming:
    """Batches of up to `size` rows on a device, in order.

    rows   name -> dtype and shape of a row
    """

    def __init__(self, fill: Fill, rows: Mapping[str, tuple[Any, tuple[int, ...]]], size: int, link: Link) -> None:
        self.fill, self.link = fill, link
        self.buffers = [
            {name: link.buffer((size, *shape), dtype) for name, (dtype, shape) in rows.items()} for _ in range(BUFFERS)
        ]
        self.sent: list[Any] = [None] * BUFFERS  # the event of each buffer's last copy

    def batches(self, picks: Sequence[NDArray[np.int64]]) -> Iterator[dict[str, torch.Tensor]]:
        """One for each group of positions; two or three are on their way while one is used."""
        waiting: deque[Future[tuple[dict[str, torch.Tensor], Any]]] = deque()
        pool = ThreadPoolExecutor(READERS, "rows")
        try:
            for number, rows in enumerate(picks[:BUFFERS]):
                waiting.append(pool.submit(self._read, number, rows))
            for number in range(len(picks)):
                there, event = waiting.popleft().result()
                if number + BUFFERS < len(picks):  # into the buffer from which this one was sent
                    waiting.append(pool.submit(self._read, number + BUFFERS, picks[number + BUFFERS]))
                self.link.receive(there, event)
                yield there
        finally:
            pool.shutdown(cancel_futures=True)

    def _read(self, number: int, rows: NDArray[np.int64]) -> tuple[dict[str, torch.Tensor], Any]:
        place = number % BUFFERS
        if self.sent[place] is not None:
            self.sent[place].synchronize()
        tensors = {name: one[: len(rows)] for name, one in self.buffers[place].items()}
        self.fill(rows, {name: one.numpy() for name, one in tensors.items()})
        there, self.sent[place] = self.link.send(tensors)
        return there, self.sent[place]
