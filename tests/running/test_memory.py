"""Settings of the allocator, and blocks that stay small whatever a row weighs."""

from __future__ import annotations

import platform

import pytest
import toy

from pipeline.running.compute import Step, block_rows
from pipeline.running.memory import keep_freed_memory
from pipeline.stage import Field


def test_glibc_takes_the_settings() -> None:
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")


@pytest.mark.parametrize(("side", "expected"), [(8, 7), (1024, 2), (4096, 1)])
def test_blocks_hold_about_eight_mebibytes_and_at_least_a_row(side: int, expected: int) -> None:
    step = Step("x", toy.Scale(), None, {"value": Field("float64")})
    images = {"image": Field("uint8", (side, side, 3))}
    assert block_rows(step, [images]) == expected  # the toy stage takes 7 rows at most
