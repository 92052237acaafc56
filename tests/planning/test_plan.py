"""What enters an artifact's key and what does not reach a stage: nothing stale, no leak, no damage passed on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import toy
from toy_project import Project

from pipeline import loaded
from pipeline.errors import ConfigError, SourceError, StageError, TouchstoneError
from pipeline.open import open_artifact, open_node
from pipeline.planning import closure

ROWS = """
nodes:
  a: {stage: "toy:Numbers", count: 30}
  b: {stage: "toy:Numbers", first: 1000, count: 30, label: 1}
  m: {stage: "toy:Mean", on: a}
  n: {stage: "toy:Mean", on: b}
  all: {stage: "plan_stages:Collect", test: {P: a, Q: b}, of: [m, n]}
"""


def said(project: Project, node: str = "all") -> dict[str, Any]:
    found = project.plan().artifacts[node].found
    assert found is not None
    return json.loads((found.path / "said.json").read_text())


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path / "project", monkeypatch, ROWS)


@pytest.mark.parametrize(
    ("old", "new", "views", "models"),
    [
        ("{P: a, Q: b}", "{Q: b, P: a}", ["Q", "P"], ["m", "n"]),
        ("of: [m, n]", "of: [n, m]", ["P", "Q"], ["n", "m"]),
        ("{P: a, Q: b}", "{P: b, Q: a}", ["P", "Q"], ["m", "n"]),
    ],
)
def test_the_order_that_a_stage_sees_is_in_the_key(
    project: Project, old: str, new: str, views: list[str], models: list[str]
) -> None:
    project.run()
    before = project.plan().artifacts["all"].key
    project.replace(old, new)
    assert project.plan().artifacts["all"].key != before
    project.run()
    assert (said(project)["views"], said(project)["models"]) == (views, models)


def test_a_stage_is_given_only_the_columns_that_are_in_its_key(project: Project) -> None:
    project.run()
    assert said(project)["columns"] == {"P": ["label", "split"], "Q": ["label", "split"]}


@pytest.mark.parametrize("way", ["artifact", "rows"])
def test_a_fit_does_not_learn_from_test_rows_through_an_artifact(project: Project, way: str) -> None:
    lines = ROWS + '  leak: {stage: "plan_stages:Leak", on: a}\n'
    if way == "artifact":
        lines += '  f: {stage: "plan_stages:Learn", on: a, mean: leak}\n'
    else:
        lines += '  c: {stage: "toy:Center", of: a, mean: leak}\n  f: {stage: "plan_stages:Learn", on: c}\n'
    project.write(lines)
    with pytest.raises(ConfigError, match=r"f.* would learn from test rows through 'leak'; make that one from train"):
        project.plan()


def test_a_damaged_artifact_is_made_again_before_anything_is_made_with_it(project: Project) -> None:
    project.write(ROWS + '  c: {stage: "toy:Center", of: a, mean: m}\n')
    project.run("m")
    found = project.plan().artifacts["m"].found
    assert found is not None
    path = found.path / "mean.json"
    text = path.read_text()
    path.write_text(text.replace(text[9], str((int(text[9]) + 1) % 10)))
    assert path.stat().st_size == len(text)
    report = project.run("c")
    assert len(report.quarantined) == 1
    mean = json.loads(text)["mean"]
    values = open_node(project.file, "c").array("value")
    assert sorted(values) == pytest.approx([number - mean for number in range(30)])


def test_the_folder_of_an_artifact_is_opened_once_it_is_made(project: Project) -> None:
    with pytest.raises(TouchstoneError, match=r"^m is not made yet, or stale; `touchstone run m` makes it$"):
        open_artifact(project.file, "m")
    project.run("m")
    assert json.loads((open_artifact(project.file, "m") / "mean.json").read_text()).keys() >= {"mean"}
    with pytest.raises(ConfigError, match=r"^'a' gives rows, or is a matrix; name one node that makes an artifact$"):
        open_artifact(project.file, "a")


def test_an_edit_of_a_model_makes_those_stale_that_run_its_code(project: Project) -> None:
    keys = {name: artifact.recipe.components["code"] for name, artifact in project.plan().artifacts.items()}
    assert set(keys["all"]) == {"plan_stages", "toy"}


def test_source_that_changes_during_a_run_is_not_published(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = toy.Numbers.compute

    def editing(self: Any, config: Any, batch: Any, ctx: Any) -> Any:
        monkeypatch.setattr("pipeline.running.proof.source_digest", lambda name: "another version")
        return plain(self, config, batch, ctx)

    monkeypatch.setattr(toy.Numbers, "compute", editing)
    with pytest.raises(StageError, match=r"a: the source of toy was changed while the run went on; .*run again"):
        project.run("a")
    assert not list((project.folder / "store").glob("numbers/*/*.zarr"))


def test_a_process_that_runs_older_source_than_the_disk_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    before = closure.closure(("toy",))
    plain = loaded.source_of
    monkeypatch.setattr(loaded, "source_of", lambda name: b"FACTOR = 3" if name == "toy" else plain(name))
    with pytest.raises(StageError, match=r"the source of toy \(.*\) was changed after this process had loaded it"):
        closure.closure(("toy",))
    monkeypatch.undo()
    assert closure.closure(("toy",)) == before


def test_a_stage_in_a_package_s_init_is_in_its_own_closure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "init_case").mkdir()
    path = tmp_path / "init_case" / "__init__.py"
    path.write_text("def twice(x):\n    return x * 2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    first = closure.closure(("init_case",))
    assert list(first) == ["init_case"]
    path.write_text("def twice(x):\n    return x * 777\n")
    assert closure.closure(("init_case",)) != first


def test_one_content_under_two_labels_is_refused(project: Project) -> None:
    project.write(
        'nodes:\n  a: {stage: "toy:Numbers", count: 30}\n  b: {stage: "toy:Numbers", first: 20, count: 30, label: 1}\n'
    )
    with pytest.raises(SourceError, match=r"same content is real in a \(.*\) and fake in b \(.*\); remove one of them"):
        project.plan()


def test_rows_of_two_sources_with_equal_content_count_once_and_are_noted(project: Project) -> None:
    project.write(
        "nodes:\n"
        '  a: {stage: "toy:Numbers", count: 30}\n'
        '  b: {stage: "toy:Numbers", first: 20, count: 30}\n'
        '  both: {stage: "toy:Scale", of: [a, b]}\n'
    )
    plan = project.plan()
    assert sum(len(branch.rows) for branch in plan.branches["both"]) == 50
    assert plan.notes == ["a and b share 10 rows; a view of both counts them once, as a's"]


@pytest.mark.parametrize("condition", ["source = bb", "source != bb", "domain in [bb]"])
def test_a_source_or_domain_that_nobody_has_is_an_error(project: Project, condition: str) -> None:
    project.write(ROWS + f'  s: {{stage: "toy:Scale", of: {{of: [a, b], where: "{condition}"}}}}\n')
    with pytest.raises(ConfigError, match=r"s.* compares (source|domain) with 'bb', which no row has"):
        project.plan()


def test_failed_rows_above_a_reduce_are_in_its_key(project: Project) -> None:
    project.write(
        ROWS.replace("test: {P: a, Q: b}", "test: {P: s, Q: b}").replace(", of: [m, n]", "")
        + '  s: {stage: "toy:Scale", of: a, max_failed_rows: 5}\n'
    )
    project.run()
    full = project.plan().artifacts["all"].key
    project.replace("count: 30}", "count: 32}")
    project.break_numbers(30, 31)
    project.run()
    found = list((project.folder / "store").glob("collect/*/artifact.json"))
    cards = [json.loads(path.read_text()) for path in found]
    assert sorted("failed_rows" in card for card in cards) == [False, True]
    assert full.hex() in {card["key"] for card in cards}
