"""`make stress`: SIGKILL at random instants, two runs at once, lost workers. Writes benchmarks/results/stress.json."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from killed_run import killed_run
from toy_project import Project
from warm_process import Warm

from pipeline.commands.examine import verify

pytestmark = pytest.mark.stress

KILLS = 100
THREADS = 2
SHARD = 8
IN_FLIGHT = 2 * THREADS * SHARD  # one shard per thread is published while the next one is computed
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "stress.json"
PIPELINE = f"""
nodes:
  a: {{stage: "toy:Numbers", count: 64, shard_rows: {SHARD}}}
  b: {{stage: "toy:Numbers", first: 1000, count: 32, label: 1, shard_rows: {SHARD}}}
  scaled: {{stage: "toy:Scale", of: [a, b], shard_rows: {SHARD}}}
  noisy: {{stage: "toy:Jitter", of: scaled, shard_rows: {SHARD}}}
  mean: {{stage: "toy:Mean", on: scaled}}
  centered: {{stage: "toy:Center", of: noisy, mean: mean, shard_rows: {SHARD}}}
"""
Rows = dict[tuple[str, bytes, str], bytes]
SUMMARY: dict[str, Any] = {}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    with pytest.MonkeyPatch.context() as patch:
        project = Project(tmp_path_factory.mktemp("whole"), patch, PIPELINE)
        project.run()
        return project.rows()


@pytest.fixture(scope="module", autouse=True)
def results() -> Iterator[None]:
    """The summary of all that ran, also where a test failed."""
    begun = time.monotonic()
    yield
    data = {"command": "make stress", "seconds": round(time.monotonic() - begun, 1), "cpus": os.cpu_count(), **SUMMARY}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(data, indent=2) + "\n")
    print(json.dumps(data, indent=2))


@pytest.fixture
def servers() -> Iterator[list[Warm]]:
    found = [Warm(), Warm()]
    yield found
    for server in found:
        server.close()


def published(project: Project) -> int:
    """Rows and artifacts that a reader finds."""
    plan = project.plan()
    rows = {(branch.chain, bytes(row)) for branch in plan.all_branches() for row in branch.rows.id[branch.have]}
    return len(rows) + sum(artifact.found is not None for artifact in plan.artifacts.values())


def test_a_hundred_random_kills_cost_the_shards_in_flight_only(
    expected: Rows, servers: list[Warm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, rng = servers[0], random.Random(20)
    project = Project(tmp_path, monkeypatch, PIPELINE)
    case = {"file": str(project.file), "log": str(project.log), "threads": THREADS}
    began = time.monotonic()
    assert server.run(killed_run, case) == 0
    whole_s = time.monotonic() - began
    kills = builds = lost = worst = computed = taken_up = 0
    project.remove_store()
    project.computed()
    while kills < KILLS:
        keeping = rng.random() < 0.5
        status = server.run(killed_run, {**case, "row_by_row": keeping, "delay_s": rng.uniform(0.0, 0.7 * whole_s)})
        assert status in (0, -signal.SIGKILL), "the run ended by itself, and not well"
        computed += sum(project.computed().values())
        lost_now = computed - published(project)
        assert lost_now - lost <= IN_FLIGHT  # fewer than before where kept rows were taken up
        taken_up += lost_now < lost
        worst, lost = max(worst, lost_now - lost), lost_now
        assert verify(project.store) == []
        kills += status != 0
        if status == 0:
            builds += 1
            assert lost_now >= 0
            assert project.rows() == expected
            assert not list((project.folder / "store").glob("*/*/.*.zarr.*.tmp")), "a dead run left a shard"
            shutil.rmtree(project.folder / "store")
            computed = lost = 0
            SUMMARY["rows_recomputed"] = SUMMARY.get("rows_recomputed", 0) + lost_now
        SUMMARY["random_kills"] = {
            "kills": kills, "complete_builds": builds, "rows_recomputed_at_most_after_a_kill": worst,
            "rows_in_flight": IN_FLIGHT, "runs_that_went_on_from_kept_rows": taken_up,
            "unlock_steps": 0, "conflicts": 0,
        }  # fmt: skip
    assert server.run(killed_run, case) == 0
    assert project.rows() == expected


def test_two_simultaneous_runs_one_of_them_killed(
    expected: Rows, servers: list[Warm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(21)
    project = Project(tmp_path, monkeypatch, PIPELINE)
    case: dict[str, Any] = {"file": str(project.file), "log": str(project.log), "threads": 2}
    rounds, statuses = 12, []
    for number in range(rounds):
        delays = [None, rng.uniform(0.1, 1.0) if number % 2 else None]
        case["row_by_row"] = number % 3 > 0
        found: dict[int, int] = {}

        def go(k: int, found: dict[int, int] = found, delays: list[float | None] = delays) -> None:
            found[k] = servers[k].run(killed_run, {**case, "delay_s": delays[k]})

        threads = [threading.Thread(target=go, args=(k,)) for k in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        statuses += [found[0], found[1]]
        assert found[0] == 0
        assert found[1] in ((0, -signal.SIGKILL) if delays[1] else (0,))
        project.run()
        assert project.rows() == expected
        project.remove_store()
    SUMMARY["two_runs"] = {"rounds": rounds, "killed": statuses.count(-signal.SIGKILL), "rows_lost": 0, "conflicts": 0}


def test_killed_dask_workers_cost_their_shards_only(
    expected: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path, monkeypatch, PIPELINE)
    recomputed = []
    for _ in range(3):
        (project.folder / "die").touch()
        project.run(workers=2)
        assert not (project.folder / "die").exists()
        assert project.rows() == expected
        recomputed.append(sum(project.computed().values()) - published(project))
        assert recomputed[-1] <= 2 * 2 * SHARD
        project.remove_store()
    SUMMARY["killed_workers"] = {"rounds": 3, "rows_recomputed": recomputed}
