"""One stage on rows in memory: values, reasons of rows that fail, and what a stage must give."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from pipeline.errors import StageError, StoreError
from pipeline.running.compute import Rows, Step, Values, compute
from pipeline.stage import Batch, Context, Field, Kind, RowError, Stage, StageConfig

IDS = np.frombuffer(b"".join(bytes([number]) * 16 for number in range(10)), dtype="V16")


class Square(Stage):
    """The square of a number, three rows at a time; what it does with some numbers is set by the test."""

    name, kind, Config = "square", Kind.MAP, StageConfig
    block_rows = 3

    def __init__(self, **surprises: Any) -> None:
        self.surprises = surprises
        self.sizes: list[int] = []

    def compute(self, config: Any, batch: Batch, ctx: Context) -> Mapping[str, Any]:
        self.sizes.append(len(batch))
        given = batch.inputs[0]["number"]
        for row, number in enumerate(given.tolist()):
            if number in self.surprises.get("raising", {}):
                raise self.surprises["raising"][number]
            if number in self.surprises.get("failing", ()):
                ctx.fail(row, f"{number} is odd")
        if "outside" in self.surprises:
            ctx.fail(self.surprises["outside"], "nothing")
        return {"square": self.surprises.get("value", given * given)}


def squares(stage: Stage, count: int = 10) -> Values:
    numbers = np.arange(count)
    step = Step("node", stage, None, {"square": Field("int64")})
    return compute(step, Rows(IDS[:count], inputs=lambda rows: ({"number": numbers[rows]},)))


def test_rows_are_computed_block_by_block_in_their_order() -> None:
    stage = Square()
    found = squares(stage)
    assert stage.sizes == [3, 3, 3, 1]
    assert found.arrays["square"].tolist() == [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]
    assert found.done.tolist() == list(range(10))
    assert found.failures == {}


def test_rows_that_fail_are_left_out_and_keep_their_reason() -> None:
    raising = {4: ValueError("four"), 9: RowError("its file is gone")}
    found = squares(Square(failing=(1, 8), raising=raising))
    assert found.arrays["square"].tolist() == [0, 4, 9, 25, 36, 49]
    assert found.done.tolist() == [0, 2, 3, 5, 6, 7]
    assert found.failures == {1: "1 is odd", 4: "ValueError: four", 8: "8 is odd", 9: "its file is gone"}


def test_a_row_alone_that_raises_fails_and_a_block_that_raises_as_a_whole_stops() -> None:
    assert squares(Square(raising={0: ValueError("zero")}), 1).failures == {0: "ValueError: zero"}
    with pytest.raises(
        StageError, match=r"^node: stage 'square' fails on every row of a block: ValueError: no \(test_"
    ):
        squares(Square(raising={number: ValueError("no") for number in (3, 4, 5)}))


def test_a_full_disk_is_no_row_s_fault() -> None:
    with pytest.raises(StoreError, match=r"^node: No space left on device$"):
        squares(Square(raising={4: OSError(errno.ENOSPC, "No space left on device")}))


@pytest.mark.parametrize(
    ("surprises", "sentence"),
    [
        ({"outside": 3}, r"row 3 of a batch failed, but its rows are numbered 0 to 2"),
        ({"value": None}, r"gives nothing for 'square', its schema promises int64 \(3,\)"),
        ({"value": np.zeros(4, np.int64)}, r"gives int64 \(4,\) for 'square', its schema promises int64 \(3,\)"),
        ({"value": np.zeros(3, np.float32)}, r"gives float32 \(3,\) for 'square'"),
    ],
)
def test_what_the_schema_does_not_say_is_refused(surprises: dict[str, Any], sentence: str) -> None:
    with pytest.raises(StageError, match=rf"^node: stage 'square' (says that )?{sentence}"):
        squares(Square(**surprises))


class Told(Stage):
    """What a stage is told of its rows and of the run."""

    name, kind, Config, random = "told", Kind.EXPAND, StageConfig, True

    def compute(self, config: Any, batch: Batch, ctx: Context) -> Mapping[str, Any]:
        assert batch.index is not None
        assert (ctx.seed, ctx.device, ctx.threads, ctx.stage) == (7, "cuda", 2, "told")
        text = [
            f"{bytes(row).hex()[:2]} {bytes(parent).hex()[:2]} {index} {seed} {batch.read(number).decode()}"
            for number, (row, parent, index, seed) in enumerate(
                zip(batch.ids, batch.parents[0], batch.index, batch.payload["seed"], strict=True)
            )
        ]
        return {"text": np.array(text, "S32")}


def test_a_stage_is_told_of_each_row_what_belongs_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Told, "block_rows", 2)
    step = Step("node", Told(), None, {"text": Field("S32")}, 7, "cuda", 2)
    rows = Rows(
        IDS[:3], (IDS[[5, 6, 7]],), index=np.array([0, 1, 0]), payload={"seed": np.array([11, 12, 13])},
        reader=lambda row: f"file {row}".encode(),
    )  # fmt: skip
    found = compute(step, rows).arrays["text"].tolist()
    assert found == [b"00 05 0 11 file 0", b"01 06 1 12 file 1", b"02 07 0 13 file 2"]
