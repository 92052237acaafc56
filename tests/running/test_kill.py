"""SIGKILL at every named point of publishing: the next run repeats what was in flight only.

With one thread two shards are in flight: one is published while the next one is computed.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from killed_run import killed_run
from toy_project import Project
from warm_process import warm

from pipeline.commands.examine import verify

LINE = """
nodes:
  a: {stage: "toy:Numbers", count: 24}
  b: {stage: "toy:Scale", of: a, shard_rows: 8}
  mean: {stage: "toy:Mean", on: b}
  centered: {stage: "toy:Center", of: b, mean: mean}
"""
ALL = {"numbers": 24, "scale": 24, "mean": 1, "center": 24}

POINTS = [  # (point, occurrence, rows of the shard that was being published and is lost)
    (("inside id", 2), 8),
    (("inside value", 3), 8),
    (("inside vector", 2), 8),
    (("after vector", 2), 8),
    (("before the root attributes", 3), 8),
    (("before fsync", 3), 8),
    (("after fsync", 3), 8),
    (("before rename", 3), 8),
    (("after rename", 3), 0),
    (("before rename", 1), 24),
]  # fmt: skip


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bytes, str], bytes]:
    with pytest.MonkeyPatch.context() as patch:
        project = Project(tmp_path_factory.mktemp("whole"), patch, LINE)
        project.run()
        return project.rows()


@pytest.mark.parametrize(("point", "lost"), POINTS, ids=[f"{name} {number}" for (name, number), _ in POINTS])
def test_after_a_kill_the_next_run_repeats_the_shards_in_flight_only(
    point: tuple[str, int],
    lost: int,
    expected: dict[tuple[str, bytes, str], bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project = Project(tmp_path, monkeypatch, LINE)
    case = {"file": str(project.file), "log": str(project.log), "point": point}
    assert warm().run(killed_run, case) == -signal.SIGKILL
    assert verify(project.store) == [], "a reader meets whole shards only"
    killed = project.rows()
    assert killed.items() <= expected.items()
    before = project.computed()
    project.run()
    total = before + project.computed()
    assert lost <= sum(total.values()) - sum(ALL.values()) <= lost + 8
    assert project.rows() == expected
    left = [path for path in (project.folder / "store").glob("**/.*") if path.suffix == ".tmp"]
    assert left == []
    assert [path.suffix for path in (project.folder / "store" / "runs").glob("*.json")] == []


def test_the_points_are_those_that_a_run_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.storage.store import Store

    passed: list[str] = []
    plain = Store.stage_shard
    monkeypatch.setattr(Store, "stage_shard", lambda *rest, **more: plain(*rest, kill=passed.append, **more))
    Project(tmp_path, monkeypatch, LINE).run("b")
    assert {name for (name, _), _ in POINTS} <= set(passed)
    assert passed[-4:] == ["before fsync", "after fsync", "before rename", "after rename"]
