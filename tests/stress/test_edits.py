"""`make stress`: edits of a user's code between the runs of a living cluster, and while runs go on.

Whatever the instant, a row that stands under a recipe is what the code of that recipe makes of it: each version of the
helper is put back at the end, and all rows that a reader then finds are compared with it.
Writes benchmarks/results/edits.json.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from toy_project import ROOT, TESTS, cold, environment
from toy_user import User, living

pytestmark = pytest.mark.stress

ROUNDS = 20
ROWS, SHARD = 64, 4
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "edits.json"
SUMMARY: dict[str, Any] = {}


@pytest.fixture(scope="module", autouse=True)
def results() -> Iterator[None]:
    begun = time.monotonic()
    yield
    data = {"command": "make stress", "seconds": round(time.monotonic() - begun, 1), "cpus": os.cpu_count(), **SUMMARY}
    RESULTS.write_text(json.dumps(data, indent=2) + "\n")
    print(json.dumps(data, indent=2))


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[User]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(TESTS), str(tmp_path)]))
    found = User(tmp_path, monkeypatch)
    found.project.replace("count: 6}", f"count: {ROWS}, shard_rows: {SHARD}}}")
    found.project.replace("of: a}", f"of: a, shard_rows: {SHARD}}}")
    yield found
    found.forget()


def stale_rows(user: User, factors: list[int]) -> tuple[int, int]:
    """(rows that stand under some version of the helper, those of them that another version made)."""
    there = wrong = 0
    for factor in sorted(set(factors)):
        user.factor(factor)
        user.forget()
        rows = user.project.rows(recorded=True)
        numbers = {key[1]: value for key, value in rows.items() if key[0] == "a"}
        for (node, row_id, _), value in rows.items():
            if node == "scaled":
                there += 1
                wrong += float_of(value) != factor * float_of(numbers[row_id])
    return there, wrong


def float_of(value: bytes) -> float:
    import numpy as np

    return float(np.frombuffer(value, "<f8")[0])


def test_a_living_cluster_never_publishes_the_code_of_yesterday(user: User) -> None:
    rng = random.Random(30)
    factors: list[int] = []
    restarted = 0
    with living(processes=True, workers=2) as cluster:
        for _ in range(ROUNDS):
            factors.append(rng.randrange(2, 9))
            user.factor(factors[-1])
            found = cold(user.project, "run", "--scheduler", cluster.scheduler_address)
            assert found.returncode == 0, found.stderr
            restarted += found.stderr.count("was restarted")
            assert user.values() == [factors[-1] * number for number in range(ROWS)]
    there, wrong = stale_rows(user, factors)
    SUMMARY["edits between runs of a living cluster"] = {
        "rounds": ROUNDS, "workers_restarted": restarted, "rows": there, "stale_rows": wrong,
    }  # fmt: skip
    assert wrong == 0
    assert there == ROWS * len(set(factors))


def test_an_edit_while_a_run_goes_on_never_enters_under_another_recipe(user: User) -> None:
    rng = random.Random(31)
    factors = [2]
    refused = put_back = 0
    command = [sys.executable, "-m", "pipeline", "run", "--workers", "1"]
    for _ in range(ROUNDS):
        before = len(user.project.shards())
        at = before + rng.randrange(0, 2 * ROWS // SHARD)
        factors.append(rng.randrange(2, 60))
        back = rng.random() < 0.5
        run = subprocess.Popen(
            command, cwd=user.project.folder, env=environment(user.project), stderr=subprocess.PIPE, text=True
        )
        while run.poll() is None and len(user.project.shards()) < at:
            time.sleep(0.001)
        user.factor(factors[-1])
        if back:
            user.factor(factors[-2])
            factors.append(factors[-2])
        _, said = run.communicate(timeout=120)
        assert run.returncode in (0, 1), said
        assert "Traceback" not in said
        refused += run.returncode
        put_back += back
    there, wrong = stale_rows(user, factors)
    SUMMARY["edits during runs"] = {
        "rounds": ROUNDS, "put_back": put_back, "refused": refused, "rows": there, "stale_rows": wrong,
    }  # fmt: skip
    assert wrong == 0
    user.factor(3)
    assert cold(user.project, "run").returncode == 0
    assert user.values() == [3 * number for number in range(ROWS)]
