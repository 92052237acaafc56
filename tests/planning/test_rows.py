"""The row table: splits by hash, given splits, groups, duplicates and leaks."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import ids
from pipeline.digests import digest, hash_rank
from pipeline.errors import SourceError
from pipeline.planning.rows import Names, Source, check_leaks, split_by_hash, tabulate
from pipeline.stage import SPLITS, SourceRows

SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}


def row_id(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()[:16]


def source(numbers: list[int], name: str = "photos", seed: int = 0, names: Names | None = None, **more: Any) -> Source:
    """Entry k has the content `numbers[k]` and lies at the place `name/k.png`."""
    locations = np.array([f"{name}/{k}.png" for k in range(len(numbers))])
    columns = {"group": None, **more}
    rows = SourceRows(ids.from_bytes(row_id(n) for n in numbers), 0, payload={"location": locations}, **columns)
    return tabulate(rows, name, seed, SHARES, names or Names())


def splits(found: Source) -> dict[bytes, str]:
    return {row: SPLITS[code] for row, code in zip(ids.to_bytes(found.rows.id), found.rows.split, strict=True)}


def test_splits_by_hash_are_stable_when_rows_come_or_go() -> None:
    few, many = splits(source(list(range(0, 500, 7)))), splits(source(list(range(500))))
    assert few.items() <= many.items()
    assert splits(source(list(reversed(range(500))))) == many


def test_splits_by_hash_follow_the_shares_and_the_seed() -> None:
    counts = np.bincount(source(list(range(10_000))).rows.split, minlength=3) / 10_000
    assert np.abs(counts - [0.6, 0.2, 0.2]).max() < 4 * np.sqrt(0.24 / 10_000)
    assert splits(source(list(range(500)))) != splits(source(list(range(500)), seed=1))
    own = source(list(range(300)), splits={"test": 1.0})
    assert set(splits(own).values()) == {"test"}


def test_a_share_of_zero_gives_no_row_and_the_rank_decides() -> None:
    group = ids.from_bytes(row_id(n) for n in range(2000))
    found = split_by_hash(group, 3, {"train": 0.5, "val": 0.0, "test": 0.5})
    ranks = hash_rank(group, "split", 3) / 2.0**64
    assert (found == np.where(ranks < 0.5, 0, 2)).all()


def test_ranks_of_two_purposes_are_independent() -> None:
    group = ids.from_bytes(row_id(n) for n in range(4000))
    one, two = (hash_rank(group, purpose, 0) / 2.0**64 for purpose in ("split", "take"))
    assert abs(np.corrcoef(one, two)[0, 1]) < 4 / np.sqrt(4000)
    assert abs(one.mean() - 0.5) < 4 * np.sqrt(1 / 12 / 4000)


def test_a_rank_depends_on_no_neighbor(monkeypatch: pytest.MonkeyPatch) -> None:
    group = ids.from_bytes(row_id(n) for n in range(11))
    whole = hash_rank(group, "split", 0)
    monkeypatch.setattr("pipeline.digests.BLOCK", 3)
    assert hash_rank(group, "split", 0).tolist() == whole.tolist()


def test_columns_are_shared_where_all_rows_are_meant_in_their_order() -> None:
    rows = source([3, 1, 2]).rows
    assert rows.take(np.arange(3)) is rows
    for positions in ([0, 1], [0, 2, 1], [0, 1, 1]):
        assert ids.to_bytes(rows.take(np.array(positions)).id) == [ids.to_bytes(rows.id)[n] for n in positions]


def test_groups_that_are_given_as_ids_stay_as_they_were() -> None:
    group = ids.from_bytes(row_id(n) for n in (7, 8, 9))
    found = source([1, 1, 2], group=group)
    assert ids.to_bytes(group) == [row_id(n) for n in (7, 8, 9)]
    assert set(ids.to_bytes(found.rows.group)) == {min(row_id(7), row_id(8)), row_id(9)}


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.integers(1, 5))
def test_ids_are_unique_and_every_group_lives_in_one_split(numbers: list[int], groups: int) -> None:
    found = source(numbers, group=[f"g{n % groups}" for n in numbers])
    assert ids.to_bytes(found.rows.id) == sorted({row_id(n) for n in numbers})
    by_group: dict[bytes, set[int]] = {}
    for group, split in zip(ids.to_bytes(found.rows.group), found.rows.split, strict=True):
        by_group.setdefault(group, set()).add(int(split))
    assert all(len(one) == 1 for one in by_group.values())
    assert [row_id(numbers[entry]) for entry in found.positions] == ids.to_bytes(found.rows.id)


def test_given_splits_win_and_their_group_follows() -> None:
    found = source([1, 2, 3, 4], group=["a", "a", "b", "c"], split=["", "test", "val", ""])
    by_number = {n: splits(found)[row_id(n)] for n in (1, 2, 3, 4)}
    assert (by_number[1], by_number[2], by_number[3]) == ("test", "test", "val")
    assert by_number[4] == splits(source([4], group=["c"]))[row_id(4)]


def test_one_group_with_two_given_splits_is_refused() -> None:
    sentence = (
        r"photos: one group stands in two splits, photos/\d\.png in (test|train) and photos/\d\.png in (test|train); "
        "give all rows of a group the same split"
    )
    with pytest.raises(SourceError, match=sentence):
        source([1, 2], group=["a", "a"], split=["train", "test"])


def test_duplicates_become_one_row_and_are_noted() -> None:
    found = source([5, 6, 5, 7, 5])
    assert len(found.rows) == 3
    assert len(found.notes) == 1
    assert found.notes[0].startswith("photos: 2 entries have the content of another one and count once (e.g. photos/")


def test_duplicates_join_their_groups_into_one_split() -> None:
    groups = [f"g{n}" for n in range(40)]
    numbers = list(range(40))
    chained = source([*numbers, *range(39)], group=[*groups, *groups[1:]])  # n lies in g(n) and in g(n+1)
    assert len({bytes(group) for group in chained.rows.group}) == 1
    assert len(set(chained.rows.split.tolist())) == 1


def test_duplicates_in_two_given_splits_are_refused() -> None:
    with pytest.raises(SourceError, match=r"photos: the same content stands in two splits, photos/0\.png in train and "
                                          r"photos/2\.png in test; remove one of them"):  # fmt: skip
        source([1, 2, 1], split=["train", "", "test"])
    with pytest.raises(SourceError, match="photos: the same content stands in two splits"):
        source([1, 1, 1], split=["", "train", "test"])
    assert splits(source([1, 1], split=["", "val"])) == {row_id(1): "val"}


def test_a_duplicate_that_joins_groups_of_two_given_splits_is_refused() -> None:
    with pytest.raises(SourceError, match="one group stands in two splits"):
        source([1, 2, 3, 3], group=["a", "b", "a", "b"], split=["train", "test", "", ""])


def test_entries_with_problems_are_left_out_and_named() -> None:
    found = source([1, 2, 3], problems={1: "is a folder"})
    assert len(found.rows) == 2
    assert found.problems == ("photos/1.png: is a folder",)


def test_domains_and_sources_are_words() -> None:
    names = Names()
    found = source([3, 1, 2], names=names, domain=["cats", "dogs", ""])
    words = {row: names.words[code] for row, code in zip(ids.to_bytes(found.rows.id), found.rows.domain, strict=True)}
    assert words == {row_id(3): "cats", row_id(1): "dogs", row_id(2): ""}
    assert {names.words[code] for code in found.rows.source} == {"photos"}


def test_a_group_in_two_splits_of_two_sources_is_refused() -> None:
    one = source([1, 2], "photos", group=["a", "b"], split=["train", "val"])
    other = source([3], "more", group=["a"], split=["test"])
    with pytest.raises(SourceError, match=r"group [0-9a-f]{12} stands in (train of photos|test of more) and in "
                                          r"(train of photos|test of more); a group lives in one split"):  # fmt: skip
        check_leaks([("photos", one.rows), ("more", other.rows)])


def test_a_content_in_two_splits_of_two_sources_is_refused_whatever_the_groups() -> None:
    one = source([1, 2], "photos", group=["a", "b"], split=["train", "val"])
    other = source([1], "copies", group=["c"], split=["test"])
    with pytest.raises(SourceError, match=r"content [0-9a-f]{12} stands in .* a content lives in one split"):
        check_leaks([("photos", one.rows), ("copies", other.rows)])


def test_sources_without_a_conflict_pass() -> None:
    one = source([1, 2], "photos", group=["a", "b"], split=["train", "val"])
    check_leaks(
        [("photos", one.rows), ("same", source([1, 5], "same", group=["a", "c"], split=["train", "test"]).rows)]
    )
    check_leaks([("photos", one.rows)])
    check_leaks([])


def test_groups_that_a_double_makes_one_are_one_in_every_source() -> None:
    """The same photograph of Ann and of Bob: then Ann's fakes are Bob's, too, and a filter names either."""
    names = Names()
    one = source([1, 2, 1, 3], "photos", names=names, group=["ann", "ann", "bob", "bob"], splits={"train": 1.0})
    assert len(ids.distinct(one.rows.group)) == 1
    (root,) = ids.distinct(one.rows.group)
    alone = next(word for word in ("ann", "bob") if digest("group", word) != bytes(root))
    other = source([4], "fakes", names=names, group=[alone], split=["test"])
    check_leaks([("photos", one.rows), ("fakes", other.rows)])  # by the digests alone nobody stands in two splits
    with pytest.raises(SourceError, match="a group lives in one split"):
        check_leaks([("photos", one.rows), ("fakes", other.rows)], names)
    both = {names.root(digest("group", word)) for word in ("ann", "bob")}
    assert both == {bytes(one.rows.group[0])}
