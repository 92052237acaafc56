"""Work on a cluster, by the lines of the page on clusters."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from dask_processes import DaskProcesses
from documented import ROOT, pictures, typed
from user_at_work import UserAtWork

PIPELINE = """
nodes:
  photos: {stage: ingest, folder: photos}
  images: {stage: equalize, of: photos, size: 16}
"""


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[DaskProcesses]:
    made = DaskProcesses(tmp_path)
    yield made
    made.kill()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_a_scheduler_and_a_worker_compute_in_3_steps(user: UserAtWork, processes: DaskProcesses) -> None:
    pictures(user.folder / "photos", 0, 8)
    (user.folder / "pipeline.yaml").write_text(PIPELINE)
    port = str(free_port())  # the page's may be taken here
    lines = [one for one in typed(ROOT / "docs" / "cluster.md") if "127.0.0.1" in one.text]
    assert [one.words[0] for one in lines] == ["dask", "dask", "touchstone"]
    scheduler, worker, run = ([word.replace("8786", port) for word in one.words] for one in lines)
    processes.typed(scheduler)
    processes.typed(worker)
    user.steps += 2
    said = user.types(" ".join(run))
    assert "images: 8 computed" in said.out
