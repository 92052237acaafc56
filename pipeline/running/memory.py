"""Keeps freed memory in the process while a run computes, instead of giving it back to the system after each block.

Blocks of a few MiB are allocated and freed thousands of times in a run. With the defaults of glibc each of them comes
as fresh pages, and touching those costs as much as a cheap feature itself (see benchmarks/feature_shards.py). Values do
not depend on it.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
KEPT_BYTES, LARGEST_BYTES = 256 * 2**20, 32 * 2**20


@cache
def keep_freed_memory() -> bool:
    """Tell malloc to keep up to 256 MiB per arena, for blocks of up to 32 MiB; False where there is no glibc."""
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)) and bool(mallopt(M_MMAP_THRESHOLD, LARGEST_BYTES))
