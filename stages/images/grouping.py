"""Groups by a regular expression of the user's, matched within a time: `(a+)+$` needs 2^n steps for n letters.

Python's matcher cannot be stopped from outside, so an expression that might take long runs in a process of its own. One
with few repetitions and none of them inside another cannot: it is matched here, at no cost.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence

from pipeline.errors import ConfigError

LONGEST = 1000
TIME_S, TIME_PER_NAME_S = 5.0, 50e-6
"""Seconds that matching may take: an ordinary expression needs a microsecond a name."""

PIECE = r"(?:\\[^0-9]|\[\^?\]?(?:[^\]\\]|\\.)*\]|[^\\\[\](){}*+?|^$])([*+?]|\{[0-9]*,?[0-9]*\})?\??"
QUICK = re.compile(rf"\^?(?:{PIECE}|\((?:\?:|\?P<\w+>)?(?:{PIECE})*\))*\$?", re.DOTALL)
REPETITIONS, LETTERS, PORTION = 2, 255, 1000
"""Of an expression and of a name, at most: then steps grow with the square of the name's length."""

PROGRAM = """
import json, re, sys
expression, names = json.load(sys.stdin)
match, place = re.compile(expression).match, 1 if re.compile(expression).groups else 0
found = [match(name) for name in names]
json.dump([None if one is None else one[place] or "" for one in found], sys.stdout)
"""


def check(expression: str) -> str:
    """The expression itself. Raises ValueError where it is none."""
    try:
        if len(expression) > LONGEST:
            raise ValueError(f"it has {len(expression)} letters, the most is {LONGEST}")
        re.compile(expression)
    except (re.error, ValueError, OverflowError, RecursionError) as error:
        shown = expression if len(expression) <= 60 else f"{expression[:57]}..."
        raise ValueError(f"is {shown!r}, expected none, folder or a regular expression ({error})") from error
    return expression


def matched(expression: str, names: Sequence[str]) -> list[str | None]:
    """For each name what the first group (or the whole expression) matches at its start; None where nothing does.

    Raises ConfigError for an expression that takes too long.
    """
    limit = TIME_S + TIME_PER_NAME_S * len(names)
    quick = is_quick(expression) and max(map(len, names), default=0) <= LETTERS
    found = _here(expression, names, limit) if quick else _elsewhere(expression, names, limit)
    if found is None:
        raise ConfigError(
            f"group_by {expression!r} takes more than {limit:.0f} s for {len(names):,} file names; write it without "
            "repetitions inside repetitions, such as (a+)+"
        )
    return found


def is_quick(expression: str) -> bool:
    """Whether no name can make an expression take long."""
    repetitions = sum(bool(one) for one in re.findall(PIECE, expression, re.DOTALL))
    return repetitions <= REPETITIONS and QUICK.fullmatch(expression) is not None


def _here(expression: str, names: Sequence[str], limit: float) -> list[str | None] | None:
    """What matches; None if time is up."""
    match = re.compile(expression).match
    place = 1 if re.compile(expression).groups else 0
    found: list[str | None] = []
    start = time.monotonic()
    for first in range(0, len(names), PORTION):
        if time.monotonic() - start > limit:
            return None
        found += [None if one is None else one[place] or "" for one in map(match, names[first : first + PORTION])]
    return found


def _elsewhere(expression: str, names: Sequence[str], limit: float) -> list[str | None] | None:
    """The same in a process that can be ended."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", PROGRAM],
            input=json.dumps([expression, list(names)]), capture_output=True, text=True, timeout=limit, check=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None
    found: list[str | None] = json.loads(done.stdout)
    return found
