"""Stats of many entries of one folder at once: what Python makes of one answer takes longer than the system to give it.

Linux alone has the call (`statx`). Where it is missing, or an entry cannot be asked about, the caller asks by itself.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS = 0x100, 0x7FF
AT_ONCE = 1024
"""Entries whose answers stand in memory together."""

ANSWER = np.dtype({
    "names": ["mode", "ino", "size", "ctime", "ctime_ns", "mtime", "mtime_ns"],
    "formats": ["=u2", "=u8", "=u8", "=i8", "=u4", "=i8", "=u4"],
    "offsets": [28, 32, 40, 96, 104, 112, 120],
    "itemsize": 256,
})  # fmt: skip
"""`struct statx` of linux/stat.h."""

SECOND_NS = 1_000_000_000


def regular_files(folder: int, names: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which of some entries are regular files, (n,), and their stats as `walk.four` has them, (n, 4), zeros elsewhere.

    folder: descriptor of an open folder. Links are not followed.
    """
    known, stats = np.zeros(len(names), dtype=bool), np.zeros((len(names), 4), dtype=np.int64)
    ask = _statx()
    if ask is None:
        return known, stats
    answers = np.zeros(min(AT_ONCE, len(names)), dtype=ANSWER)
    first = answers.ctypes.data
    places = [ctypes.c_void_p(first + number * ANSWER.itemsize) for number in range(len(answers))]
    for start in range(0, len(names), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        answers["mode"] = 0  # of those that are not answered
        coded = os.fsencode("\0".join(names[part])).split(b"\0")
        for name, place in zip(coded, places, strict=False):
            ask(folder, name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, place)
        told = answers[: len(names[part])]
        known[part] = (told["mode"] & 0o170000) == stat.S_IFREG
        stats[part, 0] = told["size"]
        stats[part, 1] = told["mtime"] * SECOND_NS + told["mtime_ns"]
        stats[part, 2] = told["ctime"] * SECOND_NS + told["ctime_ns"]
        stats[part, 3] = told["ino"] & 0x7FFF_FFFF_FFFF_FFFF
    stats[~known] = 0
    return known, stats


@cache
def _statx() -> Any:
    """The function of the C library, or None.

    It knows no types of its arguments, which ctypes would check for longer than the system takes to answer: int, bytes
    and c_void_p go through as they are.
    """
    try:
        return ctypes.CDLL(None).statx
    except (AttributeError, OSError, TypeError):
        return None
