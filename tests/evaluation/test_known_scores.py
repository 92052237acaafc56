"""Scores of rows that have been scored before, against a dictionary of all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory_rows import MemoryRows, rows_of, step, union
from numpy.typing import NDArray

from stages.evaluation.known_scores import SCORES, KnownScores

CURVES = np.random.default_rng(0).normal(size=(4, 12, 5)).astype(np.float32)
REALS, FAKES = (rows_of(name, label, {"profile": CURVES[label]}, (step("equalize"),)) for label, name in
                enumerate(("photos", "fakes")))  # fmt: skip
OTHER_CHAIN = rows_of("photos", 0, {"profile": CURVES[0]}, (step("equalize"), step("perturb")))
OTHER_VALUES = rows_of("photos", 0, {"profile": CURVES[2]}, (step("equalize"),))


def key(rows: MemoryRows, place: int) -> tuple[bytes, bytes, bytes]:
    """Chain, id and value of a row."""
    chain = rows.parts[rows.part_numbers[place]].chain
    return chain, bytes(rows.ids[place]), rows.array("profile", np.array([place])).tobytes()


def saved(folder: Path, rows: MemoryRows, scores: NDArray[np.float32]) -> Path:
    """What an evaluation keeps of its rows."""
    folder.mkdir()
    chains = [bytes(part.chain).hex() for part in rows.parts]
    np.savez(folder / SCORES, id=rows.ids, digest=rows.digests(), chain=rows.part_numbers, score=scores,
             chains=np.array(chains[::-1])[::-1])  # fmt: skip
    return folder


def drawn(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random(count).astype(np.float32)


def check(known: KnownScores, rows: MemoryRows, expected: dict[Any, float]) -> None:
    scores, unknown = known.of(rows)
    assert unknown.tolist() == [place for place in range(len(rows)) if key(rows, place) not in expected]
    for place in set(range(len(rows))) - set(unknown.tolist()):
        assert scores[place] == expected[key(rows, place)]


def test_a_row_is_known_where_chain_id_and_values_are_the_same(tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(24)[:15]
    rows = union(REALS, FAKES).take(order)
    scores = drawn(15)
    expected = {key(rows, place): float(scores[place]) for place in range(15)}
    folder = saved(tmp_path / "one", rows, scores)
    for asked in (union(FAKES, REALS), REALS, rows, OTHER_CHAIN, OTHER_VALUES, union(OTHER_CHAIN, FAKES)):
        check(KnownScores(iter([folder])), asked, expected)
    assert (
        len(KnownScores(iter([folder])).of(OTHER_VALUES)[1])
        == len(KnownScores(iter([folder])).of(OTHER_CHAIN)[1])
        == 12
    )


def test_evaluations_are_opened_as_long_as_a_score_is_wanted_and_one_that_is_gone_is_passed_over(
    tmp_path: Path,
) -> None:
    one, two = saved(tmp_path / "one", REALS, drawn(12, 1)), saved(tmp_path / "two", FAKES, drawn(12, 2))
    opened: list[str] = []
    known = KnownScores(opened.append(path.name) or path for path in (one, tmp_path / "gone", two))  # type: ignore[func-returns-value]
    assert opened == []
    assert known.of(REALS.take(np.arange(3)))[0].tobytes() == drawn(12, 1)[:3].tobytes()
    assert opened == ["one"]
    scores, unknown = known.of(union(REALS, FAKES))
    assert scores.tobytes() == drawn(12, 1).tobytes() + drawn(12, 2).tobytes()
    assert (opened, len(unknown)) == (["one", "gone", "two"], 0)


def test_what_was_added_is_known_and_no_rows_are_no_question() -> None:
    known = KnownScores(iter(()))
    assert known.of(FAKES)[1].tolist() == list(range(12))
    known.add(FAKES, drawn(12))
    scores, unknown = known.of(FAKES.take(np.array([7, 2])))
    assert (scores.tolist(), len(unknown)) == (drawn(12)[[7, 2]].tolist(), 0)
    scores, unknown = known.of(FAKES.take(np.arange(0)))
    assert (len(scores), len(unknown)) == (0, 0)


@pytest.mark.parametrize("seed", range(5))
def test_whatever_was_scored_where_each_row_has_its_score(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    everything = union(REALS, FAKES, OTHER_CHAIN, OTHER_VALUES)
    scores, expected, folders = drawn(len(everything), seed), {}, []
    for number in range(4):
        rows = np.flatnonzero(random.random(len(everything)) < 0.3)
        rows = rows[rows >= 12] if number % 2 else rows[rows < 36]  # no evaluation has a row with two values
        folders.append(saved(tmp_path / str(number), everything.take(rows), scores[rows]))
        expected |= {key(everything, row): float(scores[row]) for row in rows.tolist()}
    known = KnownScores(iter(folders))
    for _ in range(3):
        check(known, everything.take(random.permutation(len(everything))[:20]), expected)
