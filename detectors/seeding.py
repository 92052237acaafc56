"""How a new network gets its weights: from the one generator of torch's layers, so one thread at a time builds any."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_BUILDING = threading.RLock()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Networks that are built inside, on the CPU, have the weights of this seed, whatever other threads build.

    torch's layers draw their weights from one generator per process. Its state is put back at the end, and whoever else
    seeds waits until then: read and load before, so that nobody waits for a disk.
    """
    import torch

    with _BUILDING:
        before = torch.get_rng_state()
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            torch.set_rng_state(before)
