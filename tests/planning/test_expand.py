"""Rows that an expand makes: ids by hand, split and group of the parent, and what is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline.errors import ConfigError
from pipeline.ids import expanded as expanded_ids
from pipeline.planning.expand import expanded, parents
from pipeline.planning.rows import Names, Rows
from pipeline.planning.selection import Branch, Selection, Side
from pipeline.stage import Children, Parents

PARENTS = [bytes([number]) * 16 for number in range(4)]


def branch(names: Names, first: int, splits: list[int]) -> Selection:
    """Rows `first`, `first + 1`, ... of one branch, of the source "photos" and the domain "cat"."""
    count = len(splits)
    ids = np.frombuffer(b"".join(PARENTS[first : first + count]), dtype="V16")
    table = Rows(
        ids, np.zeros(count, np.uint8), np.array(splits, np.uint8), ids,
        np.full(count, names.number("cat"), np.int32), np.full(count, names.number("photos"), np.int32),
    )  # fmt: skip
    branch = Branch("photos", None, None, bytes(16), None, {}, table)  # type: ignore[arg-type]
    return Selection((Side(branch, np.arange(count)),))


def made(children: Callable[..., Children], selections: list[Selection], partners: Any, names: Names) -> list[Any]:
    return list(expanded(children, selections, partners, "copies", names, ConfigError))


def by_hand(*above: int, index: int) -> bytes:
    text = b"touchstone/expand" + len(above).to_bytes(8, "little")
    return hashlib.sha256(text + b"".join(PARENTS[one] for one in above) + index.to_bytes(8, "little")).digest()[:16]


def test_ids_are_digests_of_the_parents_and_the_draw() -> None:
    found = expanded_ids([branch(Names(), 0, [0, 0]).sides[0].ids], np.array([0, 3]))
    assert [bytes(one) for one in found] == [by_hand(0, index=0), by_hand(1, index=3)]


def test_a_child_has_the_split_the_group_and_the_label_of_its_parent() -> None:
    names = Names()
    two_each = Children(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    ((selection, table, index),) = made(lambda one, other: two_each, [branch(names, 0, [0, 2])], None, names)
    assert [bytes(one) for one in table.id] == [by_hand(row, index=draw) for row in (0, 1) for draw in (0, 1)]
    assert table.split.tolist() == [0, 0, 2, 2]
    assert table.label.tolist() == [0] * 4
    assert [bytes(one)[0] for one in table.group] == [0, 0, 1, 1]
    assert {names.words[number] for number in table.source} == {"photos"}
    assert selection.sides[0].positions.tolist() == [0, 0, 1, 1]
    assert index.tolist() == [0, 1, 0, 1]


def test_a_child_with_a_label_of_its_own_is_born_in_the_node() -> None:
    names = Names()
    fakes = Children(np.array([0, 1]), np.array([0, 0]), label=1, domain=["dog", "cat"])
    ((_, table, _),) = made(lambda one, other: fakes, [branch(names, 0, [0, 0])], None, names)
    assert table.label.tolist() == [1, 1]
    assert [names.words[number] for number in table.source] == ["copies"] * 2
    assert [names.words[number] for number in table.domain] == ["dog", "cat"]


def test_partners_of_two_branches_make_two_branches() -> None:
    names = Names()
    others = [branch(names, 2, [0]), branch(names, 3, [0])]
    pairs = Children(np.array([0, 1, 0]), np.array([0, 0, 1]), partner=np.array([1, 0, 1]))
    found = made(lambda one, other: pairs, [branch(names, 0, [0, 0])], others, names)
    ids = [[bytes(one) for one in table.id] for _, table, _ in found]
    assert ids == [[by_hand(1, 2, index=0)], [by_hand(0, 3, index=0), by_hand(0, 3, index=1)]]
    assert [selection.sides[1].branch for selection, _, _ in found] == [one.sides[0].branch for one in others]


def test_a_stage_sees_columns_of_all_parents() -> None:
    names = Names()
    seen: Parents = parents([branch(names, 0, [0, 2]), branch(names, 2, [1])], names)
    assert [bytes(one) for one in seen.id] == PARENTS[:3]
    assert seen.split.tolist() == ["train", "test", "val"]
    assert seen.domain.tolist() == ["cat"] * 3
    assert len(parents([], names)) == 0


def test_rows_of_two_splits_and_rows_that_stand_twice_are_refused() -> None:
    names = Names()
    mixed = Children(np.array([0]), np.array([0]), partner=np.array([0]))
    with pytest.raises(ConfigError, match=r"^makes rows of parents in different splits; a row's parents are of one"):
        made(lambda one, other: mixed, [branch(names, 0, [0])], [branch(names, 2, [2])], names)
    twice = Children(np.array([0, 0]), np.array([1, 1]))
    with pytest.raises(ConfigError, match=r"^makes the same row twice$"):
        made(lambda one, other: twice, [branch(names, 0, [0])], None, names)
    both = Selection((*branch(names, 0, [0]).sides, *branch(names, 1, [0]).sides))
    with pytest.raises(ConfigError, match=r"^reads pairs in one of its inputs; two inputs are two plain views$"):
        made(lambda one, other: mixed, [both], [branch(names, 2, [0])], names)

    def fault(one: Parents, other: Parents | None) -> Children:
        raise ValueError("needs a domain")

    with pytest.raises(ConfigError, match=r"^needs a domain$"):
        made(fault, [branch(names, 0, [0])], None, names)


def test_parents_have_their_group_and_the_number_of_the_last_expand_above_them() -> None:
    """Rows 3, 1 and 1 of an expand, seen through a map that holds them in another order; a source has no number."""
    names = Names()
    source = branch(names, 0, [0, 0, 0, 0])
    rows = source.table()
    frames = Branch("frames", None, None, bytes(16), None, {}, rows, source.sides, np.array([7, 5, 0, 2]))  # type: ignore[arg-type]
    order = np.array([2, 3, 1, 0])
    marks = Branch("marks", None, None, bytes(16), None, {}, rows.take(order), (Side(frames, order),))  # type: ignore[arg-type]
    seen = parents([Selection((Side(marks, np.array([1, 2, 2])),)), source], names)
    assert seen.index.tolist() == [2, 5, 5, 0, 0, 0, 0]
    assert [bytes(one)[0] for one in seen.group] == [3, 1, 1, 0, 1, 2, 3]
