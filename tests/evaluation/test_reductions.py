"""Factors of reduction along the lineages of evaluated rows, from hand-written lineages and factors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from memory_rows import MemoryRows, rows_of, step, union

from stages.evaluation.reductions import Reductions, told

FILE, SAMPLE, TRANSLATE = step("ingest", folder="a"), step("sample", count=4), step("translate", variant="raw")
FIRST, LAST = step("equalize", size=64), step("equalize", size=32)
SPECTRUM = step("spectrum", convention="durall19")
WAY = {"real": (FILE, FIRST, LAST, SPECTRUM), "fake": (SAMPLE, FIRST, LAST, SPECTRUM)}


def passed(source: str, label: int, steps: tuple[dict[str, Any], ...], factors: list[float]) -> MemoryRows:
    return rows_of(source, label, {"reduction": np.array(factors, np.float32)}, steps)


def evaluation(**ways: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """Real rows of the source 'photos' and fake ones of 'fakes', evaluated at the ends of these lineages."""
    parts = [
        {"chain": kind, "real": int(kind == "real"), "fake": int(kind == "fake"), "sources": [source]}
        for kind, source in (("real", "photos"), ("fake", "fakes"))
    ]
    return {"steps": dict(ways), "variants": {"": {"reals_from": "", "parts": parts}}}


FIRST_ROWS = (passed("photos", 0, (FILE, FIRST), [2.0, 2.0]), passed("fakes", 1, (SAMPLE, FIRST), [1.0, 1.0]))
LAST_ROWS = (passed("photos", 0, (FILE, FIRST, LAST), [2.0, 2.0]), passed("fakes", 1, (SAMPLE, FIRST, LAST), [2.0] * 2))


def test_a_reduction_before_the_last_one_is_found() -> None:
    found = Reductions(union(*FIRST_ROWS, *LAST_ROWS))
    assert found.unseen(evaluation(**WAY)) == []
    (one,) = found.differences(evaluation(**WAY))
    assert (one.topic, one.real, one.fake) == ("reduction", "reduced by 2, then by 2", "reduced by 2")
    assert one.sources == ("fakes",)


@pytest.mark.parametrize("rows", [LAST_ROWS, FIRST_ROWS, (*FIRST_ROWS, LAST_ROWS[0])])
def test_a_step_that_nobody_showed_is_not_taken_for_equal(rows: tuple[MemoryRows, ...]) -> None:
    found = Reductions(union(*rows))
    assert (1, "fakes") in found.unseen(evaluation(**WAY))
    assert found.differences(evaluation(**WAY)) == []


def test_rows_beside_the_way_of_the_evaluated_ones_tell_nothing() -> None:
    other = step("equalize", size=32, resample="box")
    beside = (passed("photos", 0, (FILE, other), [3.0]), passed("fakes", 1, (SAMPLE, other), [3.0]))
    assert Reductions(union(*beside)).unseen(evaluation(**WAY)) == [(0, "photos"), (1, "fakes")]
    assert Reductions(None).unseen(evaluation(**WAY)) == [(0, "photos"), (1, "fakes")]


def test_what_a_generator_was_given_is_its_own_affair() -> None:
    """A translated photograph is reduced before the generator sees it; only what comes after is processing."""
    translated = (FILE, FIRST, TRANSLATE, LAST)
    rows = (passed("photos", 0, (FILE, LAST), [1.0]), passed("fakes", 1, translated, [1.0]))
    found = Reductions(union(*rows))
    given = evaluation(real=(FILE, LAST, SPECTRUM), fake=(*translated, SPECTRUM))
    assert found.unseen(given) == []
    assert found.differences(given) == []


def test_a_lineage_of_two_inputs_is_followed_on_both_sides() -> None:
    pair = (FILE, FIRST, SPECTRUM, FILE, LAST, SPECTRUM, step("fuse", how="mean"))
    rows = union(passed("photos", 0, (FILE, FIRST), [2.0]), passed("photos", 0, (FILE, LAST), [4.0]))
    assert Reductions(rows).along(pair, 0, "photos") == [(4.0, 4.0)]  # processing begins behind the last origin


def test_rows_of_unequal_factors_have_a_range() -> None:
    mixed = union(passed("photos", 0, (FILE, LAST), [1.5, 3.0]), passed("fakes", 1, (SAMPLE, LAST), [1.0, 1.0]))
    (one,) = Reductions(mixed).differences(evaluation(real=(FILE, LAST), fake=(SAMPLE, LAST)))
    assert (one.real, one.fake) == ("reduced by 1.5 to 3", "native size")


@pytest.mark.parametrize(
    ("ranges", "words"),
    [
        ([], "native size"),
        ([(1.0, 1.0)], "native size"),
        ([(2.0, 2.0), (1.0, 1.0)], "reduced by 2"),
        ([(1.0, 2.0), (1.53125, 1.53125)], "reduced by 1 to 2, then by 1.53"),
    ],
)
def test_factors_are_told_step_by_step(ranges: list[tuple[float, float]], words: str) -> None:
    assert told(ranges) == words
