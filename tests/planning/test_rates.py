"""Speeds that estimates are made of: without start-up, from enough rows, and of fits by their node or their stage."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.planning.rates import FEW, Rates, read_rates, record_rates


def test_the_first_task_s_start_is_no_part_of_the_speed(tmp_path: Path) -> None:
    record_rates(tmp_path, {"residual": [(100, 52.0), (100, 2.0), (0, 1.0)]}, {})
    assert read_rates(tmp_path) == Rates({"residual": 50.0})


def test_a_run_of_few_rows_replaces_nothing(tmp_path: Path) -> None:
    record_rates(tmp_path, {"a": [(1, 2.0)]}, {})
    assert read_rates(tmp_path).rows == {"a": 0.5}  # better than nothing
    record_rates(tmp_path, {"a": [(FEW, 1.0)]}, {})
    record_rates(tmp_path, {"a": [(1, 2.0)]}, {"m": ("fit", 3.0)})
    assert read_rates(tmp_path) == Rates({"a": float(FEW)}, {"m": ("fit", 3.0)})


def test_a_fit_takes_what_it_took_or_what_its_stage_takes() -> None:
    rates = Rates(fits={"a": ("train", 10.0), "b": ("train", 20.0), "c": ("report", 5.0)})
    assert [rates.seconds_of_fit(*one) for one in (("a", "train"), ("d", "train"), ("e", "gains"))] == [10, 15, None]


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1.0}', '{"rows": {"a": "x"}, "fits": {}}', '{"rows": 1, "fits": 2}'])
def test_a_damaged_or_older_file_says_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / ".cache" / "rates.json"
    path.parent.mkdir()
    path.write_text(text)
    assert read_rates(tmp_path) == Rates()
