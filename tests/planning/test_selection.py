"""Views on the row table against plain loops over tuples."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_project import Project

from pipeline import ids
from pipeline.declaring.document import Document
from pipeline.declaring.views import parse
from pipeline.digests import digest, encode, hash_rank
from pipeline.errors import ConfigError
from pipeline.planning.recipes import Recipe
from pipeline.planning.rows import Names, Rows
from pipeline.planning.selection import Branch, Evaluator, Selection, Side, _join, split_counts
from pipeline.stage import SPLITS

SEED = 5
NAMES = Names()
DOMAINS = ("cats", "churches", "")

Row = tuple[bytes, int, int, bytes, int]  # id, label, split, group, domain


def row_id(number: int) -> bytes:
    return digest("row", number)


def branch(name: str, numbers: list[int], label: int = 0, groups: int = 3) -> Branch:
    """Rows whose columns are simple functions of their numbers."""
    n = np.array(numbers, dtype=np.int64)
    rows = Rows(
        ids.from_bytes(row_id(number) for number in numbers),
        np.full(len(n), label, np.uint8),
        (n % 3).astype(np.uint8),
        ids.from_bytes(digest("group", f"g{number % groups}") for number in numbers),
        np.array([NAMES.number(DOMAINS[number % 2]) for number in numbers], np.int32),
        np.full(len(n), NAMES.number(name), np.int32),
    )
    zeros = np.zeros(len(n), bool)
    chain, recipe = digest("chain", name), Recipe.of("x", {})
    return Branch(name, None, None, chain, recipe, {}, rows, have=zeros, failed=zeros)  # type: ignore[arg-type]


def evaluate(value: Any, **branches: Branch) -> list[Selection]:
    by_name = {name.replace("_", "["): [one] for name, one in branches.items()}
    evaluator = Evaluator(by_name, NAMES, SEED)
    view = parse(value, (), Document(Path("p.yaml"), value), lambda name, place: (name,))
    return evaluator.evaluate(view, ConfigError)


def numbers_of(found: list[Selection], count: int = 200) -> list[tuple[str, ...]]:
    """(branch, number) or (branch, number, branch, number) of each selected row, in order."""
    known = {row_id(number): number for number in range(count)}
    result = []
    for one in found:
        columns = []
        for side in one.sides:
            columns += [[side.branch.node] * len(one), [known[i] for i in ids.to_bytes(side.ids)]]
        result += list(zip(*columns, strict=True))
    return result


def test_a_union_has_each_row_once_in_the_order_of_the_view() -> None:
    a, b = branch("a", list(range(6))), branch("b", list(range(4, 9)), label=1)
    found = evaluate([{"of": "b", "where": "split = val"}, "a", "b", {"of": "a", "where": "split = test"}], a=a, b=b)
    assert numbers_of(found) == [("b", n) for n in range(4, 9)] + [("a", n) for n in range(6)]


@pytest.mark.parametrize(
    ("text", "keep"),
    [
        ("label = fake", lambda name, n: name == "b"),
        ("label in [real, fake]", lambda name, n: True),
        ("split != test", lambda name, n: SPLITS[n % 3] != "test"),
        ("split not in [train, val]", lambda name, n: SPLITS[n % 3] == "test"),
        ("domain = churches", lambda name, n: n % 2 == 1),
        ("source = b", lambda name, n: name == "b"),
        ("group in [g0, g2]", lambda name, n: n % 3 in (0, 2)),
        ("label = real and split = val and domain = cats", lambda name, n: name == "a" and n % 3 == 1 and n % 2 == 0),
    ],
)
def test_where_keeps_what_a_loop_keeps(text: str, keep: Any) -> None:
    a, b = branch("a", list(range(11))), branch("b", list(range(5, 20)), label=1)
    expected = [("a", n) for n in range(11) if keep("a", n)] + [("b", n) for n in range(5, 20) if keep("b", n)]
    assert numbers_of(evaluate({"of": ["a", "b"], "where": text}, a=a, b=b)) == expected


def test_where_source_takes_all_instances_of_a_matrix() -> None:
    x, y = branch("f[x]", [1, 2]), branch("f[y]", [3])
    found = evaluate({"of": ["x", "y"], "where": "source = f"}, x=x, y=y)
    assert numbers_of(found) == [("f[x]", 1), ("f[x]", 2), ("f[y]", 3)]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 60), unique=True, min_size=1),
    st.lists(st.integers(61, 120), unique=True),
    st.integers(1, 30),
)
def test_take_changes_only_by_better_ranked_new_rows(old: list[int], new: list[int], count: int) -> None:
    count = min(count, len(old))
    before = {n for _, n in numbers_of(evaluate({"of": "a", "take": count}, a=branch("a", old)))}
    after = {n for _, n in numbers_of(evaluate({"of": "a", "take": count}, a=branch("a", old + new)))}
    rank = {n: int(hash_rank(ids.from_bytes([row_id(n)]), "take", SEED)[0]) for n in old + new}
    assert after == set(sorted(old + new, key=lambda n: rank[n])[:count])
    assert after - before <= set(new)
    if after - before and before - after:
        assert max(rank[n] for n in after - before) < min(rank[n] for n in before - after)


def test_take_does_not_depend_on_the_order_of_the_rows_and_counts_over_all_branches() -> None:
    a, b = branch("a", list(range(20))), branch("b", list(range(50, 70)))
    once = numbers_of(evaluate({"of": ["a", "b"], "take": 11}, a=a, b=b))
    back = numbers_of(evaluate({"of": ["b", "a"], "take": 11}, a=branch("a", list(range(19, -1, -1))), b=b))
    assert len(once) == 11
    assert sorted(once) == sorted(back)


def test_take_of_too_many_is_an_error_unless_rows_failed() -> None:
    a = branch("a", list(range(5)))
    with pytest.raises(ConfigError, match="takes 6 rows of a view that has 5"):
        evaluate({"of": "a", "take": 6}, a=a)
    a.failed = np.arange(5) == 2
    assert numbers_of(evaluate({"of": "a", "take": 5}, a=a)) == [("a", n) for n in (0, 1, 3, 4)]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 60), unique=True, min_size=9), st.lists(st.integers(61, 120), unique=True, min_size=9))
def test_balanced_rows_are_those_of_a_plain_loop_in_each_split(reals: list[int], fakes: list[int]) -> None:
    reals, fakes = [*range(200, 203), *reals], [*range(203, 206), *fakes]  # each split has some of both
    found = evaluate({"of": ["a", "b"], "balance": "label"}, a=branch("a", reals), b=branch("b", fakes, label=1))
    rank = {n: int(hash_rank(ids.from_bytes([row_id(n)]), "balance", SEED)[0]) for n in reals + fakes}
    expected = set()
    for split in range(3):
        classes = [sorted((n for n in numbers if n % 3 == split), key=rank.__getitem__) for numbers in (reals, fakes)]
        expected |= {n for numbers in classes for n in numbers[: min(map(len, classes))]}
    assert {n for _, n in numbers_of(found, 300)} == expected


def test_a_split_without_one_of_the_classes_cannot_be_balanced() -> None:
    a, b = branch("a", list(range(9))), branch("b", [10, 12], label=1)
    with pytest.raises(ConfigError, match="balances labels, but its split 'test' holds no fake rows; add some"):
        evaluate({"of": ["a", "b"], "balance": "label"}, a=a, b=b)
    found = evaluate({"of": {"of": ["a", "b"], "where": "split != test"}, "balance": "label", "take": 3}, a=a, b=b)
    assert sum(map(len, found)) == 3


def test_a_source_with_a_star_is_all_that_fit() -> None:
    x, y, z = branch("f[x-raw]", [1, 2]), branch("f[y-raw]", [3]), branch("f[x-R]", [4])
    for text, expected in (("source = f[*-raw]", {1, 2, 3}), ("source in ['f[x*', z]", {1, 2, 4, 5})):
        other = branch("z", [5])
        found = evaluate({"of": ["x", "y", "z", "w"], "where": text}, x=x, y=y, z=z, w=other)
        assert {n for _, n in numbers_of(found)} == expected
    with pytest.raises(ConfigError, match=r"compares source with 'f\[\*-E\]', which no row has"):
        evaluate({"of": ["x", "y"], "where": "source = f[*-E]"}, x=x, y=y)


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.integers(0, 12), max_size=14), st.lists(st.integers(0, 12), max_size=14),
    st.sampled_from(["id", "group"]), st.integers(1, 4), st.randoms(use_true_random=False),
)  # fmt: skip
def test_join_gives_the_pairs_of_two_loops(
    left: list[int], right: list[int], on: str, groups: int, random: Any
) -> None:
    a, b = branch("a", left, groups=groups), branch("b", right, groups=groups)
    some = sorted(random.sample(range(len(left)), len(left) // 2 + len(left) % 2))
    other = random.sample(range(len(right)), len(right))
    one, two = _join(Side(a, np.array(some, dtype=np.int64)), Side(b, np.array(other, dtype=np.int64)), on)
    key = (lambda n: n) if on == "id" else (lambda n: n % groups)
    expected = [(i, j) for i in some for j in other if key(left[i]) == key(right[j])]
    assert list(zip(one.tolist(), two.tolist(), strict=True)) == expected


def test_pairs_of_the_same_branches_are_united() -> None:
    a, b = branch("a", list(range(9))), branch("b", list(range(3, 12)))
    parts = [{"of": {"of": "a", "where": f"split = {name}"}, "pair": "b"} for name in ("val", "test", "val")]
    assert numbers_of(evaluate(parts, a=a, b=b)) == [("a", n, "b", n) for n in range(3, 9) if n % 3]


def test_pairs_across_splits_and_pairs_of_pairs_are_refused() -> None:
    a, b = branch("a", list(range(6)), groups=2), branch("b", list(range(6)), groups=2)
    with pytest.raises(
        ConfigError, match=r"pairs rows of different splits; add 'where: split = \.\.\.' or pair on group"
    ):
        evaluate({"of": "a", "pair": "b", "on": "group"}, a=a, b=b)
    with pytest.raises(ConfigError, match="pairs a view that is a pair already; pair two plain views"):
        evaluate({"of": {"of": "a", "pair": "b"}, "pair": "a"}, a=a, b=b)
    with pytest.raises(ConfigError, match="pairs two views that share no id"):
        evaluate({"of": "a", "pair": "c"}, a=a, c=branch("c", [90]))


def test_rows_are_counted_by_split_and_label_over_all_branches() -> None:
    found = evaluate(["one", "two"], one=branch("one", [0, 1, 3, 4, 6]), two=branch("two", [2, 5, 8, 10], label=1))
    by_hand = {(split, label): 0 for split in SPLITS for label in (0, 1)}
    for number, label in [(0, 0), (1, 0), (3, 0), (4, 0), (6, 0), (2, 1), (5, 1), (8, 1), (10, 1)]:
        by_hand[SPLITS[number % 3], label] += 1
    assert split_counts(found) == by_hand


def test_rows_within_splits_and_their_digests_are_made_once_and_hold_what_a_loop_says() -> None:
    rows = Selection((Side(branch("one", list(range(20))), np.array([7, 3, 12, 5, 0, 10])),))
    inside = rows.within(("train", "test"))
    assert numbers_of([inside]) == [("one", number) for number in (3, 12, 5, 0)]  # 7 and 10 are for validation
    assert rows.within(("train", "test")) is inside
    assert numbers_of([rows.within(("val",))]) == [("one", 7), ("one", 10)]

    def by_hand(numbers: list[int], *columns: str) -> bytes:
        ranked = sorted(numbers, key=row_id)
        cells = {"domain": [digest("word", DOMAINS[n % 2]) for n in ranked], "split": [bytes([n % 3]) for n in ranked]}
        named = (encode(name) + b"".join(cells[name]) for name in columns)
        return hashlib.sha256(b"".join([*map(row_id, ranked), *named])).digest()[:16]

    for columns in (("split",), ("domain", "split"), ("split",)):
        assert inside.digest(columns, NAMES) == by_hand([0, 3, 5, 12], *columns)
    assert rows.digest(("split",), NAMES) == by_hand([0, 3, 5, 7, 10, 12], "split")


def test_a_row_that_failed_far_above_is_not_missed_by_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(
        tmp_path,
        monkeypatch,
        """
        max_failed_rows: 1
        nodes:
          a: {stage: "toy:Numbers", count: 12}
          first: {stage: "toy:Scale", of: a}
          second: {stage: "toy:Scale", of: first}
          few: {stage: "toy:Scale", of: {of: second, take: 12}}
        """,
    )
    project.break_numbers(3.0)
    assert project.run("few").computed["few"] == 11
    assert project.run("few").computed.get("few", 0) == 0
