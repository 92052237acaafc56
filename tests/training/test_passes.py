"""Passes over rows: each block once and in order, also where a pass was stopped, killed or finished before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory_rows import MemoryRows, context, rows_of

from pipeline.errors import Interrupted
from stages.training import passes
from stages.training.passes import Passes, State, packed

VALUES = np.arange(7, dtype=np.float32).reshape(7, 1) ** 2
ROWS: MemoryRows = rows_of("some", 0, {"value": VALUES}, split="train")


def taking(seen: list[tuple[int, list[float]]]) -> Any:
    """A step that notes its blocks and keeps a number that depends on their order."""

    def step(state: State, block: Any, before: int) -> None:
        seen.append((before, block[:, 0].tolist()))
        for value in block[:, 0].astype(np.float64):
            state["mixed"] = 0.3 * state.get("mixed", np.zeros(())) + value

    return step


def expected() -> float:
    mixed = 0.0
    for value in VALUES[:, 0].tolist():
        mixed = 0.3 * mixed + value
    return mixed


def test_a_pass_takes_each_block_once_and_in_order(tmp_path: Path) -> None:
    seen: list[tuple[int, list[float]]] = []
    told: list[tuple[int, int]] = []
    ctx = context(tmp_path, "toy", report=lambda done, total: told.append((done, total)))
    both = Passes(ctx, 14)
    assert float(both.run("one", ROWS, "value", 3, taking(seen))["mixed"]) == expected()
    assert seen == [(0, [0.0, 1.0, 4.0]), (3, [9.0, 16.0, 25.0]), (6, [36.0])]
    both.run("two", ROWS, "value", 7, taking([]))
    assert told == [(3, 14), (6, 14), (7, 14), (14, 14)]
    again = Passes(context(tmp_path, "toy"), 7).run("one", ROWS, "value", 3, taking(seen))  # killed before publishing
    assert (float(again["mixed"]), len(seen)) == (expected(), 3)


def test_a_stopped_pass_goes_on_and_a_finished_one_is_not_run_again(tmp_path: Path) -> None:
    seen: list[tuple[int, list[float]]] = []
    for _ in range(3):
        with pytest.raises(Interrupted, match="toy stopped; the rows so far are kept and the same command goes on"):
            Passes(context(tmp_path, "toy", stopping=lambda: True), 7).run("one", ROWS, "value", 3, taking(seen))
    assert [before for before, _ in seen] == [0, 3, 6]
    told: list[tuple[int, int]] = []
    ctx = context(tmp_path, "toy", report=lambda done, total: told.append((done, total)))
    assert float(Passes(ctx, 7).run("one", ROWS, "value", 3, taking(seen))["mixed"]) == expected()
    assert (len(seen), told) == (3, [(7, 7)])


def test_a_killed_pass_loses_what_came_after_the_last_saving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "SAVE_ROWS", 4)
    looks = iter(range(9))

    def killed() -> bool:
        if next(looks) == 5:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        Passes(context(tmp_path, "toy", stopping=killed), 7).run("one", ROWS, "value", 1, taking([]))
    seen: list[tuple[int, list[float]]] = []
    state = Passes(context(tmp_path, "toy"), 7).run("one", ROWS, "value", 1, taking(seen))
    assert [before for before, _ in seen] == [4, 5, 6]
    assert float(state["mixed"]) == expected()


def test_equal_arrays_are_equal_bytes() -> None:
    arrays = {"a/b": np.arange(3), "c": np.float64(0.5) * np.ones(())}
    assert packed(arrays) == packed({name: array.copy() for name, array in arrays.items()})
