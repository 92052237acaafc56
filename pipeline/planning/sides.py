"""Where the rows of a side lie, and what they were made of."""

from __future__ import annotations

from pipeline.planning.selection import Side
from pipeline.stage import Part


def stored(side: Side) -> list[Side]:
    """Where the rows of a side lie: there, or in the sides that their fields are joined of."""
    if not side.branch.joins:
        return [side]
    return [Side(one.branch, one.positions[side.positions]) for one in side.branch.sides]


def part_of(side: Side) -> Part:
    """The rows of a side."""
    return Part(side.branch.stage.name, side.branch.chain, side.branch.schema, side.ids)


def parts_above(side: Side) -> tuple[Part, ...]:
    """The rows that those of a side were made of, nearest first, up to their origin.

    Of joined rows those that all of their fields were made of, or lie in.
    """
    if side.branch.joins:
        first, *others = ([part_of(one), *parts_above(one)] for one in stored(side))
        shared = [{part.chain for part in line} for line in others]
        return tuple(part for part in first if all(part.chain in chains for chains in shared))
    found: list[Part] = []
    while side.branch.sides and not side.branch.stage.origin:
        above = side.branch.sides[0]
        side = Side(above.branch, above.positions[side.positions])
        found.append(part_of(side))
    return tuple(found)
