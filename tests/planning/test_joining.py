"""Joined rows against a loop over rows: which node each field comes from, and what is refused."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from pipeline.declaring.stage_names import load_stage
from pipeline.planning.joining import joined
from pipeline.planning.recipes import Recipe
from pipeline.planning.rows import Rows
from pipeline.planning.selection import Branch, Selection, Side
from pipeline.planning.sides import stored
from pipeline.stage import ID, Field

FIELDS = ("a", "b", "c")
Key = tuple[int, tuple[str, ...], bytes]
"""Source, variants and id of a row."""


def branch(number: int, source: int, recipe: str, variants: tuple[str, ...], fields: str, rows: list[int]) -> Branch:
    """Rows of one source."""
    count = len(rows)
    ids = np.array([row.to_bytes(16, "big") for row in rows], "V16")
    numbers = np.zeros(count, np.uint8)
    table = Rows(ids, numbers, numbers, ids, np.zeros(count, np.int32), np.full(count, source, np.int32))
    made: list[dict[str, Any]] = [{"stage": "made", "config": {}, "files": {}, "variant": False, "recipe": recipe}]
    made += [{"stage": one, "config": {}, "files": {}, "variant": True, "recipe": one} for one in variants]
    schema = {name: Field("float32", ()) for name in fields}
    chain = number.to_bytes(16, "big")
    stage = load_stage("spectrum")
    return Branch(f"node {number}", stage, None, chain, Recipe("made", {}, chain), schema, table, steps=tuple(made))


def keys(one: Selection) -> list[Key]:
    side = one.sides[0]
    (source, *_) = side.branch.rows.source.tolist()
    variants = tuple(step["stage"] for step in side.branch.steps if step["variant"])
    return [(source, variants, bytes(row)) for row in side.ids]


def by_loop(found: list[Selection], known: dict[str, frozenset[str]]) -> dict[Key, dict[str, str]] | None:
    """Key -> field -> node; None where a row lacks a field or has one twice."""
    result: dict[Key, dict[str, str]] = {key: {} for one in found for key in keys(one)}
    for name in FIELDS:
        having = [one for one in found if name in one.sides[0].branch.schema]
        alike = [one for one in having if one.sides[0].branch.steps[0]["recipe"] in known[name]]
        there = {(source, row) for one in alike for source, _, row in keys(one)}
        if all((source, row) in there for one in having for source, _, row in keys(one)) and alike:
            having = alike
        times = Counter(key for one in having for key in keys(one))
        if any(times[key] != 1 for key in result):
            return None
        for one in having:
            for key in keys(one):
                result[key][name] = one.sides[0].branch.node
    return result


def drawn(random: np.random.Generator) -> tuple[list[Selection], dict[str, frozenset[str]]]:
    """Nodes that hold some fields of rows of two sources and variants, most of them whole."""
    found, number = [], 0
    for source in (1, 2):
        for variants in [(), ("blur",)][: random.integers(1, 3)]:
            held = [["abc"], ["a", "bc"], ["ab", "c"], ["a", "b", "c"], ["ab", "ac"]]
            for fields in held[random.integers(len(held))]:
                number += 1
                rows = list(range(10, 14)) if random.random() < 0.95 else list(range(10, 12))
                one = branch(number, source, str(random.integers(1, 3)), variants, fields, rows)
                order = random.permutation(len(rows)) if random.random() < 0.5 else np.arange(len(rows))
                found.append(Selection((Side(one, order),)))
    known = {name: frozenset(random.choice(["1", "2"], random.integers(0, 2)).tolist()) for name in FIELDS}
    return [found[place] for place in random.permutation(len(found))], known


@pytest.mark.parametrize("seed", range(3))
def test_each_row_has_the_fields_that_a_loop_over_rows_finds(seed: int) -> None:
    random, results = np.random.default_rng(seed), Counter[bool]()
    for _ in range(60):
        found, known = drawn(random)
        expected = by_loop(found, known)
        whole, problem = joined(found, FIELDS, known, dict.fromkeys(FIELDS, np.zeros(0, ID)))
        results[expected is None] += 1
        assert (not whole) == (expected is None), problem
        if expected is None:
            continue
        told: dict[Key, dict[str, str]] = {}
        for one in whole:
            sides, joins = stored(one.sides[0]), one.sides[0].branch.joins or dict.fromkeys(FIELDS, 0)
            for name, number in joins.items():
                for key in keys(Selection((sides[number],))):
                    told.setdefault(key, {})[name] = sides[number].branch.node
            assert all((side.ids == one.sides[0].ids).all() for side in sides)
        assert told == expected
    assert min(results.values()) > 5, results
