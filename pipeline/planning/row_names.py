"""Rows by what people call them: the beginning of an id, a file, a seed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pipeline import ids
from pipeline.errors import ConfigError
from pipeline.planning.selection import Branch, origin


def rows_named(branches: Iterable[Branch], text: str) -> list[tuple[Branch, int]]:
    """Rows called `text`, as branch and position: those of a file or a seed of that name (`photo.png`, the end of a
    path, `12`), or those whose id begins so. Where both fit, a whole number is a name, and all else an id.
    """
    known = list(branches)
    ways = (_of_name, _of_id) if text.isdecimal() else (_of_id, _of_name)
    return next((found for way in ways if (found := list(way(known, text)))), [])


def _of_id(branches: Sequence[Branch], text: str) -> Iterator[tuple[Branch, int]]:
    for branch in branches:
        for position, row_id in enumerate(ids.to_bytes(branch.rows.id)):
            if row_id.hex().startswith(text.lower()):
                yield branch, position


def _of_name(branches: Sequence[Branch], text: str) -> Iterator[tuple[Branch, int]]:
    for branch in branches:
        for position in range(len(branch.rows)):
            if f" {origin(branch, position)}".endswith((f"/{text}", f" {text}")):
                yield branch, position


def row_named(branches: Iterable[Branch], node: str, text: str) -> tuple[Branch, int]:
    """The row called `text` of a node with these branches. Raises ConfigError unless there is exactly one."""
    found = rows_named(branches, text)
    if not found:
        raise ConfigError(no_row(node, text))
    if len(found) > 1:
        nodes = sorted({one.node for one, _ in found})
        where = f" in {', '.join(nodes)}" if len(nodes) > 1 else ""
        raise ConfigError(
            f"{len(found)} rows of {node} are called '{text}'{where}; give more of the id or of the path, or one node"
        )
    return found[0]


def no_row(node: str, row: str) -> str:
    """The sentence for a row that there is not."""
    return (
        f"{node} has no row whose id begins with '{row}', and none of a file or seed of that name; `touchstone show "
        f"{node}` lists rows"
    )
