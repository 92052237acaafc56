"""What a change recomputes: a table of mutations, counted by what the stages really did, not by the report."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toy_project import STANDARD, Project

from pipeline.commands.upkeep import collect_garbage, compact_nodes, pin_nodes
from pipeline.declaring.config import Pipeline, load_pipeline
from pipeline.running.run import run
from pipeline.running.tasks import open_store
from pipeline.running.works import works_of

Mutation = Callable[[Project], Any]
AGAIN = {"mean": 1, "center": 40}  # a fit on other rows, and all that reads its artifact
FITTED = {"mean": 1, "centered": 40}  # the same, by node


def replaced(*pairs: tuple[str, str]) -> Mutation:
    def mutate(project: Project) -> None:
        for old, new in pairs:
            project.replace(old, new)

    return mutate


def prefixed(line: str) -> Mutation:
    return lambda project: project.write(f"{line}\n{project.file.read_text()}")


def appended(line: str) -> Mutation:
    return lambda project: project.write(f"{project.file.read_text()}  {line}\n")


def back_and_forth(project: Project) -> None:
    """A parameter is changed, everything is run, and it is changed back."""
    project.replace("[2.0, 3.0]", "[2.0, 5.0]")
    project.replace('"scaled[3.0]"', '"scaled[5.0]"')
    assert project.run().computed["sum"] == 60
    project.write(STANDARD)
    project.computed()


def store(project: Project) -> None:
    (project.folder / "store").rename(project.folder / "elsewhere")
    prefixed("store: elsewhere")(project)


def project(project: Project) -> None:
    """The whole folder is somewhere else, and so is the working directory."""
    other = project.folder.with_name(f"{project.folder.name}-moved")
    shutil.copytree(project.folder, other)
    project.folder, project.file = other, other / "pipeline.yaml"


def caches_deleted(project: Project) -> None:
    shutil.rmtree(project.folder / "store" / ".cache")


def copied_store(project: Project) -> None:
    """Equal files with other inodes and times."""
    store = project.folder / "store"
    shutil.copytree(store, project.folder / "copy", copy_function=shutil.copyfile)
    shutil.rmtree(store)
    (project.folder / "copy").rename(store)


def reversed_file(project: Project) -> None:
    """Each node stands before what it reads, the matrix before what it is made over."""
    head, *nodes = project.file.read_text().rstrip().split("\n  ")
    project.write("\n  ".join([head, *reversed(nodes)]) + "\n")


def pinned(project: Project) -> None:
    pin_nodes(project.load(), ["mean"])
    project.replace("count: 40", "count: 46")


OTHER = """
store: ../store
nodes:
  a: {stage: "toy:Numbers", count: 10}
  scaled: {stage: "toy:Scale", of: a, factor: 2.0}
"""


def cleaned(clean: Callable[[Pipeline, list[Path]], Any], forget: bool = False) -> Mutation:
    """Another pipeline, which wants less, runs over the same store and cleans it; forget: this one no longer counts."""

    def mutate(project: Project) -> None:
        other = project.folder / "other" / "pipeline.yaml"
        other.parent.mkdir()
        other.write_text(OTHER)
        open_store.cache_clear()
        run(load_pipeline(other), [], 1)
        assert project.computed() == {}, "it shares the rows"
        clean(load_pipeline(other), [project.file] if forget else [])

    return mutate


def gc(pipeline: Pipeline, forget: list[Path]) -> None:
    collect_garbage(pipeline, True, 0, 0.0, forget)


def compact(pipeline: Pipeline, forget: list[Path]) -> None:
    compact_nodes(pipeline, [], forget)


SCALED_60 = {"scaled[4.0]": 60, "sum": 60}
MUTATIONS: dict[str, tuple[Mutation, dict[str, int], dict[str, int]]] = {
    # name: (mutation, stale node -> rows, stage -> rows really computed)
    "nothing": (lambda project: None, {}, {}),
    "rows added": (
        replaced(("count: 40", "count: 46")),
        {"a": 6, "scaled[2.0]": 6, "scaled[3.0]": 6, "sum": 6, **FITTED},
        {"numbers": 6, "scale": 12, "add": 6, **AGAIN},
    ),
    "rows removed": (replaced(("count: 40", "count: 30")), FITTED, AGAIN),
    "rows shifted": (
        replaced(("count: 40", "first: 4, count: 40")),
        {"a": 4, "scaled[2.0]": 4, "scaled[3.0]": 4, "sum": 4, **FITTED},
        {"numbers": 4, "scale": 8, "add": 4, **AGAIN},
    ),
    "listing order": (replaced(("of: [a, b]", "of: [b, a]")), {}, {}),
    "parameter changed": (
        replaced(("[2.0, 3.0]", "[2.0, 4.0]"), ('"scaled[3.0]"', '"scaled[4.0]"')),
        {**SCALED_60, **FITTED},
        {"scale": 60, "add": 60, **AGAIN},
    ),
    "parameter changed back": (back_and_forth, {}, {}),
    "source parameter changed": (
        replaced(("count: 40", "count: 40, offset: 0.5")),
        {"a": 40, "scaled[2.0]": 40, "scaled[3.0]": 40, "sum": 40, **FITTED},
        {"numbers": 40, "scale": 80, "add": 40, **AGAIN},
    ),
    "node renamed": (replaced(("  sum:", "  total:"), ("on: sum", "on: total")), {}, {}),
    "source renamed": (replaced(("  a:", "  first:"), ("[a, b]", "[first, b]")), {}, {}),
    "fit renamed": (replaced(("  mean:", "  average:"), ("mean: mean", "mean: average")), {}, {}),
    "split anew": (prefixed("splits: {train: 0.3, val: 0.3, test: 0.4}"), FITTED, AGAIN),
    "relabeled": (replaced(("count: 40", "count: 40, label: 1")), FITTED, AGAIN),
    "generator added": (
        lambda project: (
            appended('c: {stage: "toy:Numbers", first: 2000, count: 10, label: 1}')(project),
            replaced(("[a, b]", "[a, b, c]"))(project),
        ),
        {"c": 10, "scaled[2.0]": 10, "scaled[3.0]": 10, "sum": 10, **FITTED},
        {"numbers": 10, "scale": 20, "add": 10, **AGAIN},
    ),
    "detector added": (appended('other: {stage: "toy:Mean", on: "scaled[3.0]"}'), {"other": 1}, {"mean": 1}),
    "twin of a detector added": (appended('other: {stage: "toy:Mean", on: sum}'), {}, {}),
    "cell of a matrix added": (replaced(("[2.0, 3.0]", "[2.0, 3.0, 7.0]")), {"scaled[7.0]": 60}, {"scale": 60}),
    "draws added": (
        replaced(("where: source = b}}", "where: source = b}, draws: 3}")),
        {"noisy": 20, "centered": 20},
        {"jitter": 20, "center": 20},
    ),
    "seed changed": (prefixed("seed: 1"), {"noisy": 40, **FITTED}, {"jitter": 40, **AGAIN}),
    "threads changed": (prefixed("threads: 2"), {}, {}),
    "shard size changed": (replaced(("count: 40", "count: 40, shard_rows: 7")), {}, {}),
    "failures allowed": (prefixed("max_failed_rows: 3"), {}, {}),
    "comment in the pipeline": (prefixed("# a comment"), {}, {}),
    "store moved": (store, {}, {}),
    "project moved": (project, {}, {}),
    "caches deleted": (caches_deleted, {}, {}),
    "store copied": (copied_store, {}, {}),
    "nodes in another order": (reversed_file, {}, {}),
    "condition in other words": (replaced(("where: source = b", 'where: "source in [b] and label = fake"')), {}, {}),
    "written with an alias": (
        replaced(
            ("of: [a, b]", "of: &both [a, b]"),
            ("  mean:", '  same: {stage: "toy:Scale", of: *both, factor: 2.0}\n  mean:'),
        ),
        {},
        {},
    ),
    "pinned, then rows added": (
        pinned,
        {"a": 6, "scaled[2.0]": 6, "scaled[3.0]": 6, "sum": 6},
        {"numbers": 6, "scale": 12, "add": 6},
    ),
    "gc of another pipeline": (cleaned(gc), {}, {}),
    "compact of another pipeline": (cleaned(compact), {}, {}),
    "gc of another pipeline that forgets this one": (
        cleaned(gc, forget=True),
        {"scaled[3.0]": 60, "sum": 60, "noisy": 40, **FITTED},
        {"scale": 60, "add": 60, "jitter": 40, **AGAIN},
    ),
    "compact of another pipeline that forgets this one": (
        cleaned(compact, forget=True),
        {"a": 30, "b": 20, "scaled[2.0]": 50},
        {"numbers": 50, "scale": 50},
    ),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a standard project that was run; tests work on copies."""
    folder = tmp_path_factory.mktemp("finished") / "project"
    with pytest.MonkeyPatch.context() as patch:
        project = Project(folder, patch)
        project.run()
        assert project.computed() == {"numbers": 60, "scale": 120, "add": 60, "jitter": 40, "mean": 1, "center": 40}
    return folder


@pytest.fixture(scope="module")
def values(finished: Path) -> set[bytes]:
    """All values of that project."""
    with pytest.MonkeyPatch.context() as patch:
        return set(Project(finished, patch).rows().values())


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    shutil.copytree(finished, tmp_path / "project")
    return Project(tmp_path / "project", monkeypatch)


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_recomputes_exactly_this(name: str, project: Project, values: set[bytes]) -> None:
    mutate, stale, computed = MUTATIONS[name]
    mutate(project)
    plan = project.plan()
    found = {n: sum(int((~b.have).sum()) for b in bs) for n, bs in plan.branches.items()}
    found |= {n: 1 for n, artifact in plan.artifacts.items() if artifact.found is None}
    assert {node: rows for node, rows in found.items() if rows} == stale
    assert project.run().computed == stale
    assert project.computed() == computed
    assert project.run().computed == {}
    assert not project.computed()
    incremental = project.rows()
    if not stale:
        assert set(incremental.values()) <= values
        return
    shutil.rmtree(project.load().store)
    project.run()
    assert project.rows() == incremental, "a cold build gives other values"


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_the_worker_count_makes_nothing_stale(workers: int, project: Project) -> None:
    assert works_of(project.plan(), workers) == []
