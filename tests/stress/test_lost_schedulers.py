"""`make stress`: schedulers that are lost while a run is on. Writes benchmarks/results/lost_schedulers.json."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dask_processes import DaskProcesses
from toy_project import Project, environment

from pipeline.commands.examine import verify

pytestmark = pytest.mark.stress

SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP, signal.SIGKILL, signal.SIGTERM]
LIMIT_S = 30.0
SHARDS = 36
"""Shards of the nodes that no stuck row can keep from being computed."""

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "lost_schedulers.json"
PIPELINE = """
nodes:
  a: {stage: "toy:Numbers", count: 64, shard_rows: 8}
  b: {stage: "toy:Numbers", first: 1000, count: 32, label: 1, shard_rows: 8}
  scaled: {stage: "toy:Scale", of: [a, b], shard_rows: 8}
  noisy: {stage: "toy:Jitter", of: scaled, shard_rows: 8}
  mean: {stage: "toy:Mean", on: scaled}
  centered: {stage: "toy:Center", of: noisy, mean: mean, shard_rows: 8}
  stuck: {stage: "toy_waiting:Stuck", of: centered, shard_rows: 8}
"""


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[DaskProcesses]:
    found = DaskProcesses(tmp_path)
    yield found
    found.kill()


def start(project: Project, processes: DaskProcesses) -> tuple[str, int, subprocess.Popen[str]]:
    """Address and process id of a new scheduler with two workers, and a run on it."""
    surroundings = environment(project)
    address, scheduler = processes.scheduler()
    for _ in range(2):
        processes.worker(address, surroundings={name: surroundings[name] for name in surroundings if "TOY_" in name})
    command = [sys.executable, "-m", "pipeline", "run", "--scheduler", address]
    run = subprocess.Popen(
        command, cwd=project.folder, env=surroundings, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    return address, scheduler, run


def wait_for_shards(project: Project, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(project.shards()) < count:
        assert time.monotonic() < deadline, f"{len(project.shards())} of {count} shards"
        time.sleep(0.01)


def test_lost_schedulers_end_runs_that_the_same_command_completes(
    processes: DaskProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stuck rows read a pipe that nobody writes until the scheduler is lost, and an empty file afterwards."""
    rng = random.Random(23)
    pipe = tmp_path / "never"
    os.mkfifo(pipe)
    monkeypatch.setenv("TOY_BEGUN", os.devnull)
    monkeypatch.setenv("TOY_NEVER", os.devnull)
    whole = Project(tmp_path / "whole", monkeypatch, PIPELINE)
    whole.run()
    expected = whole.rows()
    rounds: list[dict[str, Any]] = []
    for number, name in enumerate(SIGNALS):
        project = Project(tmp_path / f"project-{number}", monkeypatch, PIPELINE)
        monkeypatch.setenv("TOY_NEVER", str(pipe))
        address, scheduler, run = start(project, processes)
        wait_for_shards(project, rng.randint(1, SHARDS))
        began = time.monotonic()
        processes.send(scheduler, name)
        said = run.communicate(timeout=2 * LIMIT_S)[1].splitlines()
        seconds = time.monotonic() - began
        processes.kill()
        assert run.returncode == 1
        assert said[-1].startswith(f"touchstone: the scheduler {address} is gone (")
        assert seconds < LIMIT_S
        assert verify(project.store) == []
        kept = len(project.shards())
        monkeypatch.setenv("TOY_NEVER", os.devnull)
        _, _, again = start(project, processes)
        assert (again.communicate(timeout=120), again.returncode)[1] == 0
        processes.kill()
        assert project.rows() == expected
        rounds.append({"signal": name.name, "seconds_to_the_end": round(seconds, 1), "shards_kept": kept})
    data = {"command": "make stress", "cpus": os.cpu_count(), "limit_s": LIMIT_S, "rows_lost": 0, "rounds": rounds}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(data, indent=2) + "\n")
    print(json.dumps(data, indent=2))
