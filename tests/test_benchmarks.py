"""Benchmarks are run by hand and rarely, so an import that the tree no longer has would stay unseen."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
MODULES = sorted(
    ".".join(path.relative_to(BENCHMARKS.parent).with_suffix("").parts)
    for path in BENCHMARKS.rglob("*.py")
    if path.stem not in ("__init__", "__main__") and path.parent.name != "programs"  # of other tools' environments
)


@pytest.mark.parametrize("name", MODULES)
def test_a_benchmark_can_be_imported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # some set it where nobody has
        monkeypatch.setenv(variable, os.environ.get(variable, "1"))
    assert importlib.import_module(name).__doc__


def test_a_checkout_without_the_history_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = importlib.import_module("benchmarks.before")
    monkeypatch.setattr(before, "COMMIT", "0000000")
    with pytest.raises(SystemExit, match=r"does not give commit 0000000, .* expected the whole history, `git fetch"):
        before.Before(tmp_path / "before")
