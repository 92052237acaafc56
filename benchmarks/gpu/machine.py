"""What the machine gives: copies, products and launches, beside which the other numbers are read."""

from __future__ import annotations

import os
import platform
import subprocess
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.results import Acceptance


def machine(run: Acceptance) -> dict[str, Any]:
    """Versions, GB/s of copies, TFLOP/s of matrix products, launches of small kernels per second."""
    found = _versions(run) | _copies(run)
    side = 256 if run.quick else 8192
    for dtype in (torch.bfloat16, torch.float32):
        square = torch.randn(side, side, device=run.device, dtype=dtype)
        seconds = run.time(lambda square=square: square @ square)  # type: ignore[misc]
        found[f"product_{str(dtype).removeprefix('torch.')}_tflops"] = 2 * side**3 / seconds / 1e12
    few = torch.ones(8, device=run.device)
    found["launches_per_s"] = 2000 / run.time(lambda: [few.add_(1) for _ in range(2000)])
    return found


def _versions(run: Acceptance) -> dict[str, Any]:
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "cpus": os.cpu_count(),
    }
    if run.on_gpu:
        query = ["nvidia-smi", "--query-gpu=driver_version,clocks.sm,memory.used", "--format=csv,noheader"]
        told = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
        found |= {"gpu": torch.cuda.get_device_name(), "cudnn": torch.backends.cudnn.version(), "nvidia_smi": told}
    return found


def _copies(run: Acceptance) -> dict[str, float]:
    size = 1 << (24 if run.quick else 31)
    there = torch.randint(0, 255, (size,), dtype=torch.uint8, device=run.device)
    other = torch.empty_like(there)
    found = {"device_copy_gb_s": 2 * size / run.time(lambda: other.copy_(there)) / 1e9}
    here = torch.randint(0, 255, (size // 4,), dtype=torch.uint8)
    part = other[: len(here)]
    found["to_device_gb_s"] = len(here) / run.time(lambda: part.copy_(here)) / 1e9
    found["to_host_gb_s"] = len(here) / run.time(lambda: here.copy_(part)) / 1e9
    if run.on_gpu:
        pinned = here.pin_memory()
        found["to_device_pinned_gb_s"] = len(here) / run.time(lambda: part.copy_(pinned, non_blocking=True)) / 1e9
        found["to_host_pinned_gb_s"] = len(here) / run.time(lambda: pinned.copy_(part, non_blocking=True)) / 1e9
    return found
