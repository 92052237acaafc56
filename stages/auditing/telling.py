"""An audit in words, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from stages.auditing.audit import Finding, Result
from stages.auditing.vocabulary import CANNOT_TELL, DIFFERS, EQUAL, NOT_APPLICABLE

SHOWN_ROWS = 3
EXPLAIN = {"H": "content or generator, to explain", "L": "content or generator, to explain", "C": "a bias"}


def lines(result: Result) -> Iterator[str]:
    """The verdict first, then what differs with its rows and its remedy, then the rest in a line each."""
    yield f"verdict: {result.verdict}; bias: {result.bias}"
    yield ""
    for one in result.findings:
        if one.verdict == DIFFERS:
            yield from _different(one)
    for verdict in (CANNOT_TELL, EQUAL, NOT_APPLICABLE):
        named = [one.name for one in result.findings if one.verdict == verdict]
        if named:
            yield f"{verdict}: {', '.join(named)}"


def _different(one: Finding) -> Iterator[str]:
    known = "exact" if one.p is None else f"p {one.p:.4f}"
    yield (
        f"{one.name} ({one.kind}) differs: {one.column}, effect {one.effect:+.3f}, {known}, "
        f"{one.n_real:,} real and {one.n_fake:,} fake: {EXPLAIN.get(one.letter, EXPLAIN['H'])}"
    )
    if one.rows:
        more = f" and {len(one.rows) - SHOWN_ROWS} more" if len(one.rows) > SHOWN_ROWS else ""
        yield f"  look at {', '.join(one.rows[:SHOWN_ROWS])}{more}"
    if one.fix:
        yield f"  {one.fix}"
