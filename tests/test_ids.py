"""Set operations on ids, against Python's sets and sorted lists of bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import ids

# Few distinct words: ids that share their first or second word, ids that end in NUL, and repetitions all occur.
word = st.sampled_from([bytes(8), bytes(7) + b"\x01", b"\x01" + bytes(7), b"\xff" * 8])
one_id = st.tuples(word, word).map(b"".join) | st.binary(min_size=16, max_size=16)
some_ids = st.lists(one_id, max_size=30)


@given(some_ids)
def test_sort_and_unique_follow_the_order_of_the_bytes(values: list[bytes]) -> None:
    array = ids.from_bytes(values)
    assert ids.to_bytes(ids.sort(array)) == sorted(values)
    assert ids.to_bytes(ids.unique(array)) == sorted(set(values))


@given(some_ids)
def test_equal_ids_keep_their_order(values: list[bytes]) -> None:
    expected = sorted(range(len(values)), key=lambda row: (values[row], row))
    assert ids.order(ids.from_bytes(values)).tolist() == expected


@given(some_ids, some_ids)
def test_lookup_finds_the_first_of_equal_ids_and_nothing_else(known: list[bytes], wanted: list[bytes]) -> None:
    ranked = sorted(known)
    expected = [ranked.index(one) if one in ranked else -1 for one in wanted]
    assert ids.lookup(ids.from_bytes(ranked), ids.from_bytes(wanted)).tolist() == expected


@given(some_ids, some_ids)
def test_isin_is_membership_in_any_order(values: list[bytes], others: list[bytes]) -> None:
    found = ids.isin(ids.from_bytes(values), ids.from_bytes(others))
    assert found.tolist() == [one in others for one in values]


def test_random_ids_of_a_larger_set_are_found_where_they_lie() -> None:
    values = np.random.default_rng(0).bytes(16 * 5000)
    array = np.frombuffer(values, dtype="V16")
    ranked = ids.sort(array)
    expected = {value: place for place, value in enumerate(sorted(ids.to_bytes(array)))}
    assert ids.lookup(ranked, array).tolist() == [expected[value] for value in ids.to_bytes(array)]


@given(some_ids)
def test_sorted_ids_are_found_in_themselves_at_their_first_place(values: list[bytes]) -> None:
    ranked = sorted(values)
    assert ids.lookup(ids.from_bytes(ranked), ids.from_bytes(ranked)).tolist() == [ranked.index(one) for one in ranked]


@given(st.lists(st.tuples(one_id, one_id)))
def test_same_is_equality_of_all_sixteen_bytes(pairs: list[tuple[bytes, bytes]]) -> None:
    one, other = (ids.from_bytes(part) for part in zip(*pairs, strict=True)) if pairs else (ids.from_bytes([]),) * 2
    assert ids.same(one, other).tolist() == [a == b for a, b in pairs]


@given(st.lists(st.integers(0, 20)))
def test_distinct_numbers_are_a_sorted_set(values: list[int]) -> None:
    assert ids.distinct(np.array(values, dtype=np.int64)).tolist() == sorted(set(values))


def test_hexadecimal_digits_lead_there_and_back() -> None:
    value = bytes(range(15)) + b"\0"
    assert ids.hex(value) == "000102030405060708090a0b0c0d0e00"
    assert ids.hex(ids.from_bytes([value])[0]) == ids.hex(value)
    assert ids.from_hex(ids.hex(value)) == value


def test_a_wrong_text_is_named() -> None:
    with pytest.raises(ValueError, match="'12' is not an id: expected 32 hexadecimal digits, found 2 characters"):
        ids.from_hex("12")
    with pytest.raises(ValueError, match="is not an id: expected 32 hexadecimal digits"):
        ids.from_hex("g" * 32)
    with pytest.raises(ValueError, match="an id has 16 bytes, found 3 bytes"):
        ids.from_bytes([b"abc"])
    with pytest.raises(TypeError, match="ids have dtype V16, found int64"):
        ids.sort(np.arange(3))
