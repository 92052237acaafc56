"""Words for sentences to the user: counted things, values as found, and the name that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or the allowed words, or nothing."""
    names = sorted({str(name) for name in known})
    return closest(word, names) or (f"; allowed: {', '.join(names)}" if names else "")


def closest(word: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """`; did you mean 'x'?` where a word is much like another, from 0 to 1 as `difflib` counts it, or nothing."""
    names = sorted(known)
    alike = [name for name in names if name.lower() == word.lower()]
    close = alike or difflib.get_close_matches(word, names, n=1, cutoff=likeness)
    return f"; did you mean '{close[0]}'?" if close else ""


def counted(count: int, word: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """`38 s`, `12 min`, `3.4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def describe(value: Any) -> str:
    """A value as found, short enough for a sentence."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
