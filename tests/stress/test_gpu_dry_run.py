"""`make stress`: the whole acceptance on a GPU, run dry on the CPU in its smallest sizes, by its own script."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.stress

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu" / "accept.sh"


def test_the_acceptance_runs_dry_on_a_cpu(tmp_path: Path) -> None:
    given = {"DEVICE": "cpu", "QUICK": "1", "PYTHON": sys.executable, "OUT": str(tmp_path)}
    for part in ("checks", "train"):
        subprocess.run([SCRIPT, part], env=os.environ | given, check=True)
    found = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert {"machine", "tests", "paths", "lanes", "feeding", "programs", "generator"} <= found.keys()
    assert not [name for name in found if name.endswith("_failed")]
    assert found["tests"]["rc"] == 0
    assert found["lanes"]["equal"]
    cases = [case.keys() for case in found["feeding"].values() if isinstance(case, dict)]
    modes = {f"{mode}_ratio" for mode in ("preload", "stream", "pinned")}  # of one that failed there is an error
    assert [modes <= case for case in cases] == [True] * 3
    paths = {name: path for name, path in found["paths"].items() if isinstance(path, dict)}
    assert len(paths) >= 28
    assert all(path["ok"] and path["repeats"] for path in paths.values())
    assert found["generator"]["repeats"]
    assert found["generator"]["resumes"]
