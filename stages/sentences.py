"""What files and users wrote, in sentences: escaped, cut, listed; and what was expected."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from pipeline.sentences import closest

IN_RECIPES = False


def printable(text: str, longest: int = 100) -> str:
    """Text of a file as sentences and outputs show it: on one line, other than printable characters escaped, cut."""
    short = text if len(text) <= longest else text[:longest] + "..."
    return short if short.isprintable() else repr(short)[1:-1]


def shown(value: Any) -> str:
    """`value` of a file in a sentence: printable text or a number, else its type, as nested values could be endless."""
    if isinstance(value, str):
        short = printable(value)
        return repr(value) if short == value else f"'{short}'"
    return repr(value) if isinstance(value, int | float | type(None)) else f"a {type(value).__name__}"


def listed(names: Collection[str], most: int = 6) -> str:
    """The first `most` names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(shown, list(names)[:most])) + more


def expected(word: str, known: Iterable[str]) -> str:
    """ "expected one of ..." for a word that is none of them."""
    names = list(known)
    return f"expected one of {', '.join(names)}{closest(word, names)}"
