"""Settings of the allocator, and blocks that stay small whatever a row weighs."""

from __future__ import annotations

import platform

import numpy as np
import pytest
import toy

from pipeline.running.memory import keep_freed_memory
from pipeline.running.tasks import Facts, Parent, ShardTask, block_rows
from pipeline.stage import Field


def test_glibc_takes_the_settings() -> None:
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")


@pytest.mark.parametrize(("side", "expected"), [(8, 7), (1024, 2), (4096, 1)])
def test_blocks_hold_about_eight_mebibytes_and_at_least_a_row(side: int, expected: int, tmp_path: object) -> None:
    ids = np.zeros(9, dtype="V16")
    parent = Parent("equalize", bytes(16), {"image": Field("uint8", (side, side, 3))}, ids)
    schema = {"value": Field("float64")}
    task = ShardTask(
        Facts(tmp_path, None, 0, "cpu", 1),
        "x",
        toy.Scale(),
        None,
        bytes(16),
        schema,
        ids,
        (parent,),  # type: ignore[arg-type]
    )
    assert block_rows(task) == expected  # the toy stage takes 7 rows at most
