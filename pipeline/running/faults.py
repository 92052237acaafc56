"""Faults of the machine that a stage meets as plain errors: memory that is used up, a GPU that has failed.

Trying the rows of a block one by one would not help, and would say of good rows that they have failed.
"""

from __future__ import annotations

import re
import sys

from pipeline.errors import StageError

MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory|STATUS_ALLOC_FAILED", re.IGNORECASE)
GPU = re.compile(r"\b(CUDA|cuDNN|cuBLAS|cuFFT) (driver )?error\b|\b(CUDNN|CUBLAS)_STATUS_\w+", re.IGNORECASE)


def fault_of_machine(node: str, error: Exception) -> StageError | None:
    """What ends the task where an error is the machine's; None where it may be a row's or the stage's."""
    if not isinstance(error, RuntimeError):
        return None
    torch, text = sys.modules.get("torch"), str(error)
    said = (text.strip() or type(error).__name__).splitlines()[0]
    short = f"{said[:200]}..." if len(said) > 200 else said
    if (torch is not None and isinstance(error, torch.OutOfMemoryError)) or MEMORY.search(text):
        return StageError(
            f"{node}: not enough memory ({short}); no row has failed: give it a smaller micro_batch or batch, or end "
            "what else fills the memory, and the same command goes on"
        )
    if (torch is not None and isinstance(error, torch.AcceleratorError)) or GPU.search(text):
        return StageError(
            f"{node}: the GPU has failed ({short}); no row has failed: the same command goes on in a new process, or "
            "use --device cpu"
        )
    return None
