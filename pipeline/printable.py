"""Text that reaches people and programs: names of files may hold anything but a slash and a zero byte.

On the terminal each line stays a line, and nothing in a name can move the cursor or turn the reading direction. JSON is
valid UTF-8 whatever the names are.
"""

from __future__ import annotations

import json
import re
from typing import Any

ODD = re.compile(r"[^\x20-\x7e]")
ODD_IN_LINES = re.compile(r"[^\n\t\x20-\x7e]")


def printable(text: str) -> str:
    r"""One line: characters that are not printable are escaped as in Python, bytes that are no UTF-8 as `\xNN`."""
    return ODD.sub(_escaped, text)


def printable_lines(text: str) -> str:
    """The same, but line ends and tabs stay."""
    return ODD_IN_LINES.sub(_escaped, text)


def json_text(data: Any, ascii_only: bool = False, indent: int | None = 2) -> str:
    r"""Indented JSON that any encoding of UTF-8 takes, or of ASCII with `ascii_only`; on one line without `indent`.

    What is not printable is escaped as JSON does it, `\u202e`. A byte of a file name that is no UTF-8 has no character;
    it stands there as the four characters `\xNN`, since many readers of JSON refuse an escaped half of a pair.
    """
    text = ODD_IN_LINES.sub(_escaped_in_json, json.dumps(data, indent=indent, ensure_ascii=False))
    return ODD_IN_LINES.sub(_escaped_for_json, text) if ascii_only else text


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if character.isprintable():
        return character
    return f"\\x{_byte(character):02x}" if _byte(character) else repr(character)[1:-1]


def _escaped_in_json(found: re.Match[str]) -> str:
    character = found[0]
    if character.isprintable():
        return character
    if "\ud800" <= character <= "\udfff":
        return "\\" + _escaped(found)
    return _escaped_for_json(found)


def _escaped_for_json(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _byte(character: str) -> int:
    """The byte that a character of a file name stands for, where Python could not decode it; 0: it is no such one."""
    return ord(character) & 0xFF if "\udc80" <= character <= "\udcff" else 0
