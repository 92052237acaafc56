"""How a network is run so that its bytes depend on nothing around it.

Kernels are chosen by the shape of a batch, and different kernels add in different orders. So every batch has the
same number of rows: the last one is filled up, and the filling is dropped again. How one is built:
`detectors.seeding`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from detectors.transfers import Fetched


def prepare(device: str, threads: int) -> None:
    """Fix what else the numbers depend on: CPU threads, deterministic kernels, full float32, no autotuning.

    These are settings of the process; calling it again with the same arguments changes nothing.
    """
    import torch

    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    # not `use_deterministic_algorithms`, which imports torch's compiler, seconds in each process; nothing is compiled
    torch.set_deterministic_debug_mode("error")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a fill of each tensor
    if torch.device(device).type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = False


def imitates_half(device: str) -> bool:
    """Whether bfloat16 would be computed in software there, which is slow."""
    import torch

    return torch.device(device).type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def in_micro_batches(
    function: Callable[[Mapping[str, NDArray[Any]]], NDArray[Any] | Fetched],
    arrays: Mapping[str, NDArray[Any]],
    size: int,
) -> NDArray[Any]:
    """Apply `function` to groups of exactly `size` rows; the last group repeats its last row until it is full.

    All `arrays` have the rows on the first axis, at least one. Returns the rows' results in order. What a function
    gives as fetched is read after the next group has been queued, so that a GPU never waits.
    """
    counts = {len(array) for array in arrays.values()}
    if len(counts) != 1 or 0 in counts or size < 1:
        raise ValueError(f"micro-batches of {size} need arrays of one length above 0, not {sorted(counts)}")
    (count,) = counts
    results: list[NDArray[Any]] = []
    waiting: list[NDArray[Any] | Fetched] = []

    def read() -> None:
        one = waiting.pop(0)
        result = one if isinstance(one, np.ndarray) else one.array()
        if len(result) != size:
            raise ValueError(f"a function of {size} rows returned {len(result)}")
        results.append(result[: count - size * len(results)])

    for start in range(0, count, size):
        rows = np.minimum(np.arange(start, start + size), count - 1)
        waiting.append(function({name: array[rows] for name, array in arrays.items()}))
        if len(waiting) > 1:
            read()
    read()
    return np.concatenate(results)
