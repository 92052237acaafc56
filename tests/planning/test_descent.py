"""A repaired parent makes its children suspect, and no digest is read where nothing has changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from damage import change_value, give_other_values
from toy_project import Project

from pipeline.commands.examine import verify
from pipeline.commands.upkeep import compact_nodes
from pipeline.commands.verifying import verify_store
from pipeline.storage.shards import Shard
from pipeline.storage.store import Store

PIPELINE = """
nodes:
  a: {stage: "toy:Numbers", count: 24, shard_rows: 8}
  scaled: {stage: "toy:Scale", of: a, shard_rows: 8}
  noisy: {stage: "toy:Jitter", of: scaled, shard_rows: 16}
  mean: {stage: "toy:Mean", on: scaled}
  centered: {stage: "toy:Center", of: noisy, mean: mean, shard_rows: 16}
"""
BELOW = ("jitter", "mean", "center")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = Project(tmp_path, monkeypatch, PIPELINE)
    project.run()
    project.computed()
    return project


def first_shard(project: Project, stage: str) -> Path:
    return sorted((project.folder / "store" / stage).glob("*/*.zarr"))[0]


def wrong_history(project: Project) -> Path:
    """A shard of `scaled` with other values, sound in itself, and all below computed from it."""
    path = first_shard(project, "scale")
    for stage in BELOW:
        shutil.rmtree(project.store.root / stage)
    give_other_values(path, "value")
    project.run()
    project.computed()
    return path


def test_all_below_a_repaired_parent_is_computed_again(project: Project) -> None:
    expected = project.rows()
    path = wrong_history(project)
    assert project.rows() != expected
    store = Store(project.store.root, writable=True)
    store.quarantine(path, "repaired")
    report = project.run()
    assert project.computed() == {"scale": 8, "jitter": 16, "mean": 1, "center": 48}
    assert project.rows() == expected
    assert any("computed from inputs that have been computed again since" in one for one in report.quarantined)
    assert verify_store(project.load(), 0, False)["sound"]
    project.run()
    assert not project.computed()


def test_a_run_that_was_killed_after_the_repair_is_made_good_by_the_next(project: Project) -> None:
    expected = project.rows()
    path = wrong_history(project)
    Store(project.store.root, writable=True).quarantine(path, "repaired")
    project.run("scaled")  # no more than that
    assert project.computed() == {"scale": 8}
    states = {state.node: state.missing for state in project_states(project)}
    assert states["noisy <- a"] == 16, "plan says so"
    assert states["mean"] == 1
    found = verify_store(project.load(), 0, False)
    assert not found["sound"]
    stages = {Path(one).relative_to(project.folder / "store").parts[0] for one in found["damaged"]}
    assert stages == {"jitter", "mean"}
    project.run()
    assert project.computed() == {"jitter": 16, "mean": 1, "center": 48}
    assert project.rows() == expected


def project_states(project: Project) -> list:  # type: ignore[type-arg]
    from pipeline.planning.explain import Explainer

    return Explainer(project.plan()).all()


def test_repair_puts_what_does_not_descend_aside(project: Project) -> None:
    expected = project.rows()
    path = wrong_history(project)
    Store(project.store.root, writable=True).quarantine(path, "repaired")
    project.run("scaled")
    assert verify_store(project.load(), 0, True)["sound"]
    project.run()
    assert project.rows() == expected


def test_a_parent_that_is_computed_again_with_the_same_values_costs_nothing_more(project: Project) -> None:
    Store(project.store.root, writable=True).quarantine(first_shard(project, "scale"), "lost")
    project.run()
    assert project.computed() == {"scale": 8}
    assert verify_store(project.load(), 0, False)["sound"]


def test_a_run_with_nothing_to_do_reads_no_digests(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.replace("count: 24", "count: 30")
    project.run()
    project.computed()
    with monkeypatch.context() as patch:
        patch.setattr(Shard, "open", classmethod(lambda cls, path, *_, **__: pytest.fail(f"opened {path}")))
        project.run()
        project.run("scaled")
        project.plan()
    compact_nodes(project.load(), [])
    project.run()
    assert not project.computed()
    with monkeypatch.context() as patch:
        patch.setattr(Shard, "open", classmethod(lambda cls, path, *_, **__: pytest.fail(f"opened {path}")))
        project.run()


def test_values_that_were_exchanged_with_their_checksum_are_met_by_the_next_run(project: Project) -> None:
    expected = project.rows()
    path = first_shard(project, "scale")
    change_value(path, "value")
    assert [problem.path for problem in verify(project.store)] == [path]
    report = project.run()
    assert project.computed() == {"scale": 8}
    assert len(report.quarantined) == 1
    assert "rows do not have their digest" in report.quarantined[0]
    assert project.rows() == expected


def test_a_copied_store_is_compared_once(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(project.folder / "store", project.folder / "copy")
    shutil.rmtree(project.folder / "store")
    (project.folder / "copy").rename(project.folder / "store")
    capsys.readouterr()
    project.run(bars=True)
    assert "12 shards with files that no run has seen: all their digests were compared" in capsys.readouterr().err
    project.run(bars=True)
    assert "no run has seen" not in capsys.readouterr().err
    assert not project.computed()


def test_shards_of_worker_processes_are_not_read_again(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.remove_store()
    project.run(bars=True, workers=2)
    project.run(bars=True)
    assert "no run has seen" not in capsys.readouterr().err


def test_progress_of_a_fit_is_dropped_when_the_values_of_its_rows_change(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", writable=True)
    key = bytes(16)
    store.restart_scratch(key, {"on": "1"})
    (store.scratch(key) / "progress").write_text("epoch 3")
    store.restart_scratch(key, {"on": "1"})
    assert (store.scratch(key) / "progress").read_text() == "epoch 3"
    store.restart_scratch(key, {"on": "2"})
    assert list(store.scratch(key).iterdir()) == []
    store.drop_scratch(key)
    assert list((store.root / "scratch").iterdir()) == []
