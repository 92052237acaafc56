"""What killed processes leave under temporary names goes with the next run; what is being written stays."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from killed_writer import killed_writer
from toy_project import Project
from warm_process import warm

from pipeline import atomic
from pipeline.runs import RunRecord, host_name, this_run

PIPELINE = """
    nodes:
      a: {stage: "toy:Numbers", count: 4}
      b: {stage: "toy:Offset", of: a, table: tables/offset.txt}
    """


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "offset.txt").write_text("3")
    project = Project(tmp_path, monkeypatch, PIPELINE)
    project.run()
    return project


def temporaries(project: Project) -> list[Path]:
    return sorted(path for path in project.folder.rglob(".*.tmp"))


def killed_while(project: Project, what: str, place: Path, source: Path | str = "") -> None:
    case = {"what": what, "place": str(place), "source": str(source)}
    assert warm().run(killed_writer, case) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("what", "place"),
    [
        ("file", "store/aliases.json"),
        ("file", "store/runs/some.json"),
        ("file", "store/.cache/rates.json"),
        ("file", "store/.cache/sources/some.npz"),
        ("file", "store/scratch/0123/progress/state.npz"),
        ("file", "manifests/frozen-a.yaml"),
        ("file", "tables/offset.txt"),
        ("stats", "store/.cache/stats"),
        ("pin", "."),
    ],
)
def test_what_a_killed_writer_left_goes_with_the_next_run(project: Project, what: str, place: str) -> None:
    source = project.folder / "made"
    source.mkdir()
    (source / "artifact.json").write_text("{}")
    killed_while(project, what, project.folder / place, source)
    assert len(temporaries(project)) == 1
    project.run()
    assert temporaries(project) == []
    assert (project.folder / "tables" / "offset.txt").read_text() == "3"


def test_what_a_living_process_or_somebody_else_writes_stays(project: Project) -> None:
    folders = [project.folder / name for name in ("store", "store/.cache", "manifests", "tables", "store/scratch/12")]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    stay = [atomic.temporary(folder / "file") for folder in folders]
    stay += [folder / ".mine.tmp" for folder in folders]
    for path in stay:
        path.write_text("")
    project.run()
    assert temporaries(project) == sorted(stay)


def test_those_of_another_host_go_when_they_are_old(tmp_path: Path) -> None:
    path = tmp_path / f".file.{RunRecord('another-host', 12, 34).id}.0123abcd.tmp"
    path.write_text("")
    assert atomic.remove_left_over([tmp_path, tmp_path / "absent"]) == []
    old = time.time() - 2 * 3600
    os.utime(path, (old, old))
    assert atomic.remove_left_over([tmp_path]) == [path]
    assert not path.exists()


def test_a_temporary_name_says_whose_it_is_and_fits_whatever_the_name(tmp_path: Path) -> None:
    for name in ("a", "n" * 250, "ü" * 120, "a.b\nc"):
        path = atomic.temporary(tmp_path / name)
        assert atomic.owner(path) == this_run()
        path.touch()
    assert atomic.owner(Path(f".0123.zarr.{this_run().id}.12-0123abcd.tmp")) is None, "of a run, not of a process"
    assert atomic.owner(Path("file.tmp")) is None
    dead = RunRecord(host_name(), os.getpid(), this_run().started - 1)
    assert [atomic.left_over(path, record) for record in (this_run(), dead)] == [False, True]


def test_a_folder_is_flushed_from_within_and_many_files_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    monkeypatch.setattr(atomic, "flush", lambda path: flushed.append(path.relative_to(tmp_path).as_posix()))
    monkeypatch.setattr(os, "sync", lambda: flushed.append("all"))
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "file").touch()
    atomic.flush_tree(tmp_path)
    assert flushed == ["inner/file", "inner", "."]
    atomic.flush_tree(tmp_path, folders=False)
    assert flushed[3:] == ["inner/file"]
    monkeypatch.setattr(atomic, "MANY", 2)
    atomic.flush_tree(tmp_path)
    assert flushed[4:] == ["all"]
