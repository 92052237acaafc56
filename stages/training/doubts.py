"""What a training itself says against its result: sentences for its card, repeated by evaluations and the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def doubts(plain: Mapping[str, Any]) -> list[str]:
    """Of the plain data of a trained state (`detectors.contract.State`)."""
    found = []
    if plain.get("still_improving"):
        found.append(f"the last of {plain['epoch']} epochs was the best one: it was still improving; train longer")
    for name, value, which in _at_edge(plain.get("chosen", {}), plain.get("searched", ())):
        found.append(f"the best {name}, {value:g}, is the {which} that was tried; try more values")
    return found


def _at_edge(chosen: Mapping[str, Any], searched: Any) -> Iterator[tuple[str, float, str]]:
    """Settings of which the least or the greatest of three or more numbers was chosen."""
    for name, value in chosen.items():
        tried = sorted({point[name] for point in searched if type(point[name]) in (int, float)})
        if len(tried) > 2 and value in (tried[0], tried[-1]):
            yield name, value, "least" if value == tried[0] else "greatest"
