"""Works that read the same rows are one task, which makes an artifact of each; what fails together is tried apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import toy_together
from toy_project import Project

from pipeline.errors import StageError
from pipeline.running import schedule

PIPELINE = """
nodes:
  a: {stage: "toy:Numbers", count: 24}
  means: {stage: "toy:Mean", matrix: {first: [9, 15, 24]}, on: {of: a, take: "{first}"}}
  compared: {stage: "toy_together:Compared", matrix: {mean: means}, mean: "{mean}", of: a, called: "{mean}"}
  scaled: {stage: "toy_together:Compared", mean: "means[9]", of: a, scale: 2.0}
  fewer: {stage: "toy_together:Compared", mean: "means[9]", of: {of: a, take: 6}}
"""
NAMES = ("9", "15", "24")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """With all means made."""
    found = Project(tmp_path / "project", monkeypatch, PIPELINE)
    found.run(*(f"means[{name}]" for name in NAMES))
    toy_together.passes.clear()
    yield found
    toy_together.refused.clear()


def means(project: Project) -> list[float]:
    plan = project.plan()
    paths = [plan.artifacts[f"means[{name}]"].found.path for name in NAMES]  # type: ignore[union-attr]
    return [json.loads((path / "mean.json").read_text())["mean"] for path in paths]


def written(project: Project) -> dict[str, bytes]:
    """All files of the artifacts of the stage."""
    root = project.folder / "store" / "compared"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_ready_works_with_equal_rows_and_settings_are_one_pass(project: Project) -> None:
    found = means(project)
    report = project.run()
    assert toy_together.passes == [found, found[:1], found[:1]]
    assert report.computed == {**{f"compared[{name}]": 1 for name in NAMES}, "scaled": 1, "fewer": 1}
    plan = project.plan()
    for name, mean in zip(NAMES, found, strict=True):
        artifact = plan.artifacts[f"compared[{name}]"].found
        assert artifact is not None
        assert artifact.info["facts"] == {"called": f"means[{name}]"}
        wanted = sum(abs(number - mean) for number in range(24))
        assert float((artifact.path / "sum.txt").read_text()) == pytest.approx(wanted)


def test_the_same_bytes_come_of_single_works(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.run()
    together = written(project)
    assert len(toy_together.passes) == 3
    monkeypatch.setattr(schedule, "MOST_TOGETHER", 1)
    for path in sorted((project.folder / "store" / "compared").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    project.run()
    assert len(toy_together.passes) == 3 + 5
    assert written(project) == together


def test_a_pass_has_no_more_works_than_leave_some_for_other_workers(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "MOST_TOGETHER", 2)
    found = means(project)
    project.run("compared[9]", "compared[15]", "compared[24]")
    assert toy_together.passes == [found[:2], found[2:]]


def test_one_that_fails_loses_none_of_the_others(project: Project) -> None:
    found = means(project)
    toy_together.refused.add(found[1])
    with pytest.raises(StageError, match=rf"^compared\[15\]: the mean {found[1]:g} is refused$"):
        project.run()
    assert toy_together.passes[0] == found
    assert sorted(toy_together.passes[1:]) == sorted([*([mean] for mean in found), found[:1], found[:1]])
    assert not list((project.folder / "store").rglob("*.tmp"))
    toy_together.refused.clear()
    assert project.run().computed == {"compared[15]": 1}
