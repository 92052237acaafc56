"""Rows that an expand makes: one or two parents each, an id of their own, the parent's split and group.

A stage says which rows there are (`Stage.children`); here they get their place in the row table, branch by branch,
since a chain has one chain above it for each parent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline import ids
from pipeline.errors import ConfigError
from pipeline.planning.rows import Names, Rows
from pipeline.planning.selection import Selection, Side
from pipeline.spelling import normalized
from pipeline.stage import ID, SPLITS, Children, Parents

Made = tuple[Selection, Rows, NDArray[np.int64]]
"""Parents, row table and draw numbers of the rows of one branch."""


def expanded(
    children: Callable[[Parents, Parents | None], Children],
    selections: list[Selection],
    partners: list[Selection] | None,
    node: str,
    names: Names,
    problem: Callable[[str], ConfigError],
) -> Iterator[Made]:
    """Rows of the expand `node`, for each branch of the parents and of the partners (rows of its second input).

    Raises ConfigError where `children` finds fault (a ValueError), a row has parents of two splits or stands twice.
    """
    others = None if partners is None else parents(partners, names)
    if others is not None and any(len(one.sides) > 1 for one in (*selections, *(partners or []))):
        raise problem("reads pairs in one of its inputs; two inputs are two plain views")
    ends = np.cumsum([len(one) for one in partners or []])
    for selection in selections:
        try:
            made = children(parents([selection], names), others)
        except ValueError as error:
            raise problem(str(error)) from None
        if made.partner is None:
            if len(made.parent):
                yield _born(selection.take(made.parent), made, slice(None), node, names, problem)
            continue
        of_branch = np.searchsorted(ends, made.partner, side="right")
        for number in ids.distinct(of_branch).tolist():
            which = np.flatnonzero(of_branch == number)
            side = partners[number].sides[0]  # type: ignore[index]
            chosen = side.positions[made.partner[which] - (ends[number] - len(side.positions))]
            first = selection.take(made.parent[which]).sides
            yield _born(Selection((*first, Side(side.branch, chosen))), made, which, node, names, problem)


def parents(selections: list[Selection], names: Names) -> Parents:
    """Columns of the row table that an expand stage sees."""
    tables = [one.table() for one in selections]
    words, splits = np.array([*names.words, ""], dtype=str), np.array(SPLITS)
    return Parents(
        np.concatenate([t.id for t in tables]) if tables else np.zeros(0, ID),
        np.concatenate([t.label for t in tables]) if tables else np.zeros(0, np.uint8),
        splits[np.concatenate([t.split for t in tables])] if tables else splits[:0],
        words[np.concatenate([t.domain for t in tables])] if tables else words[:0],
        np.concatenate([t.group for t in tables]) if tables else np.zeros(0, ID),
        np.concatenate([_drawn(one) for one in selections]) if tables else np.zeros(0, np.int64),
    )


def _drawn(selection: Selection) -> NDArray[np.int64]:
    """Draw numbers of the last expand above some rows, 0 where there is none."""
    branch, positions = selection.sides[0].branch, selection.sides[0].positions
    while branch.index is None and branch.sides:
        side = branch.sides[0]
        branch, positions = side.branch, side.positions[positions]
    return np.zeros(len(positions), np.int64) if branch.index is None else branch.index[positions]


def _born(
    selection: Selection,
    made: Children,
    which: NDArray[np.int64] | slice,
    node: str,
    names: Names,
    problem: Callable[[str], ConfigError],
) -> Made:
    """Row table of `which` children, whose parents are the `selection`."""
    index, table = made.index[which], selection.table()
    if any((side.branch.rows.split[side.positions] != table.split).any() for side in selection.sides):
        raise problem("makes rows of parents in different splits; a row's parents are of one split")
    table = replace(table, id=ids.expanded([side.ids for side in selection.sides], index))
    if len(ids.unique(table.id)) < len(table):
        raise problem("makes the same row twice")
    if made.label is not None:
        born = np.full(len(table), names.number(node), dtype=np.int32)
        table = replace(table, label=np.full(len(table), made.label, dtype=np.uint8), source=born)
    if made.domain is not None:
        words, places = np.unique(np.asarray(made.domain, dtype=str)[which], return_inverse=True)
        numbers = np.array([names.number(normalized(str(word))) for word in words], dtype=np.int32)
        table = replace(table, domain=numbers[places])
    return selection, table, index
