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
    from torch import Tensor


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


class Fetched:
    """A tensor on its way to the CPU.

    The copy is queued behind what makes the tensor and before anything that is queued later, so that waiting for it is
    not waiting for the next micro-batch too.
    """

    def __init__(self, tensor: Tensor) -> None:
        import torch

        self._held, self._done = tensor, None
        if tensor.is_cuda:
            self._held = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._held.copy_(tensor, non_blocking=True)
            self._done = torch.cuda.Event()
            self._done.record()

    def array(self) -> NDArray[Any]:
        """The values, once they are there."""
        if self._done is not None:
            self._done.synchronize()
        return self._held.numpy()


def in_micro_batches(
    function: Callable[[Mapping[str, NDArray[Any]]], NDArray[Any]], arrays: Mapping[str, NDArray[Any]], size: int
) -> NDArray[Any]:
    """Apply `function` to groups of exactly `size` rows; the last group repeats its last row until it is full.

    All `arrays` have the rows on the first axis, at least one. Returns the rows' results in order.
    """
    counts = {len(array) for array in arrays.values()}
    if len(counts) != 1 or 0 in counts or size < 1:
        raise ValueError(f"micro-batches of {size} need arrays of one length above 0, not {sorted(counts)}")
    (count,) = counts
    results = []
    for start in range(0, count, size):
        rows = np.minimum(np.arange(start, start + size), count - 1)
        result = function({name: array[rows] for name, array in arrays.items()})
        if len(result) != size:
            raise ValueError(f"a function of {size} rows returned {len(result)}")
        results.append(result[: count - start])
    return np.concatenate(results)
