"""Keeps freed memory in the process while a run computes, instead of giving it back to the system after each block.

Blocks of a few MiB are allocated and freed thousands of times in a run. With the defaults of glibc each of them comes
as fresh pages, and touching those costs as much as a cheap feature itself (see benchmarks/feature_shards.py). Values do
not depend on it.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # of malloc.h
KEPT_BYTES, LARGEST_BYTES = 256 * 2**20, 32 * 2**20


@cache
def keep_freed_memory(whatever_size: bool = False) -> bool:
    """Tell malloc to keep up to 256 MiB per arena, for blocks of up to 32 MiB; False where there is no glibc.

    whatever_size: also larger blocks, such as a network's activations; for processes that end soon, as gaps between
    blocks that are still used are not given back.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    largest = (M_MMAP_MAX, 0) if whatever_size else (M_MMAP_THRESHOLD, LARGEST_BYTES)
    return bool(mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)) and bool(mallopt(*largest))
