"""A living cluster and edits between runs: its workers are started anew, or refused; nothing stale is published."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy_project import ROOT, TESTS, touchstone
from toy_user import User, living


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[User]:
    """A user's stage that the workers' processes find as well."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(TESTS), str(tmp_path)]))
    found = User(tmp_path, monkeypatch)
    yield found
    found.forget()


@pytest.mark.jobs  # processes of their own that import everything: seconds
def test_a_worker_with_a_nanny_computes_with_the_code_of_each_run(user: User) -> None:
    with living(processes=True) as cluster:
        for number in (2, 3):
            user.factor(number)
            found = touchstone(user.project, "run", "--scheduler", cluster.scheduler_address)
            assert found.returncode == 0, found.stderr
            assert user.values() == [number * value for value in range(6)]
            assert ("was restarted" in found.stderr) == (number != 2)


def test_a_worker_that_cannot_be_started_anew_is_named_and_refused(user: User) -> None:
    with living(processes=False) as cluster:
        assert touchstone(user.project, "run", "--scheduler", cluster.scheduler_address).returncode == 0
        user.factor(3)
        found = touchstone(user.project, "run", "--scheduler", cluster.scheduler_address)
        assert found.returncode == 1
        assert "Traceback" not in found.stderr
        worker = next(iter(cluster.workers.values())).address
        assert f"{user.name}.helper (FACTOR, line 1) is not what the plan saw" in found.stderr
        assert f"(worker {worker};" in found.stderr
        assert len(list((user.project.folder / "store").glob("scaled/*/*.zarr"))) == 1
