"""What a change recomputes: a table of mutations, counted by what the stages really did, not by the report."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from toy_project import STANDARD, Project

from pipeline.works import works_of
from stages.equalize import Equalize
from stages.ingest import Ingest

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


def moved_store(project: Project) -> None:
    (project.folder / "store").rename(project.folder / "elsewhere")
    prefixed("store: elsewhere")(project)


def moved_project(project: Project) -> None:
    """The whole folder is somewhere else, and so is the working directory."""
    other = project.folder.with_name(f"{project.folder.name}-moved")
    shutil.copytree(project.folder, other)
    project.folder, project.file = other, other / "pipeline.yaml"


def caches_deleted(project: Project) -> None:
    shutil.rmtree(project.folder / "store" / ".cache")


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
    "store moved": (moved_store, {}, {}),
    "project moved": (moved_project, {}, {}),
    "caches deleted": (caches_deleted, {}, {}),
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


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    shutil.copytree(finished, tmp_path / "project")
    return Project(tmp_path / "project", monkeypatch)


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_recomputes_exactly_this(name: str, project: Project) -> None:
    mutate, stale, computed = MUTATIONS[name]
    before = project.rows()
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
        assert set(incremental.values()) <= set(before.values())
        return
    shutil.rmtree(project.load().store)
    project.run()
    assert project.rows() == incremental, "a cold build gives other values"


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_the_worker_count_makes_nothing_stale(workers: int, project: Project) -> None:
    assert works_of(project.plan(), workers) == []


# Photographs, through the real stages


class Photos(Project):
    """A folder of small PNGs, ingested and equalized; counts what the two stages computed."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        super().__init__(folder, patch, """
            nodes:
              photos: {stage: ingest, folder: photos, group_by: "[a-z]+"}
              more: {stage: ingest, folder: more}
              images: {stage: equalize, of: [photos, more], size: 8}
              halves: {stage: equalize, of: images, size: 8, color: gray}
            """)  # fmt: skip
        self.counts: Counter[str] = Counter()
        lock = threading.Lock()
        for stage in (Ingest, Equalize):

            def counted(this: Any, config: Any, batch: Any, ctx: Any, inner: Any = stage.compute) -> Any:
                with lock:
                    self.counts[this.name] += len(batch)
                return inner(this, config, batch, ctx)

            patch.setattr(stage, "compute", counted)
        for number in range(12):
            self.paint(f"photos/{'abc'[number % 3]}{number}.png", number)
        for number in range(4):
            self.paint(f"more/x{number}.png", 100 + number)

    def paint(self, name: str, seed: int) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (10, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)

    def counted(self) -> Counter[str]:
        found, self.counts = self.counts, Counter()
        return found


def paint(name: str, seed: int) -> Mutation:
    return lambda project: project.paint(name, seed)


def touch(project: Project) -> None:
    for path in (project.folder / "photos").iterdir():
        os.utime(path, (1_000_000, 1_000_000))


def copied(project: Project) -> None:
    """Other inodes and another order of the directory."""
    names = sorted((project.folder / "photos").iterdir(), reverse=True)
    for path in names:
        path.rename(path.with_suffix(".old"))
    for path in names:
        shutil.copyfile(path.with_suffix(".old"), path)
        path.with_suffix(".old").unlink()


PHOTO_MUTATIONS: dict[str, tuple[Mutation, dict[str, int]]] = {
    "nothing": (lambda project: None, {}),
    "photo added": (paint("photos/d1.png", 50), {"ingest": 1, "equalize": 2}),
    "photo changed": (paint("photos/a0.png", 51), {"ingest": 1, "equalize": 2}),
    "photo removed": (lambda project: (project.folder / "photos/a0.png").unlink(), {}),
    "photo renamed": (lambda p: (p.folder / "photos/a0.png").rename(p.folder / "photos/z9.png"), {}),
    "photo doubled": (lambda p: shutil.copy(p.folder / "photos/a0.png", p.folder / "photos/a00.png"), {}),
    "photo moved to a subfolder": (
        lambda p: (
            (p.folder / "photos/deep").mkdir(),
            (p.folder / "photos/a0.png").rename(p.folder / "photos/deep/a0.png"),
        ),
        {},
    ),
    "all touched": (touch, {}),
    "all copied in another order": (copied, {}),
    "folder renamed": (
        lambda p: (
            (p.folder / "photos").rename(p.folder / "pictures"),
            p.replace("folder: photos", "folder: pictures"),
        ),
        {},
    ),
    "grouped otherwise": (lambda p: p.replace('group_by: "[a-z]+"', "group_by: none"), {}),
    "relabeled": (lambda p: p.replace("folder: more", "folder: more, label: fake"), {}),
    "split anew": (lambda p: p.replace("folder: more", "folder: more, splits: {test: 1.0}"), {}),
    "source removed": (lambda p: (p.replace("[photos, more]", "photos"), p.replace("  more:", "  # more:")), {}),
    "another crop": (lambda p: p.replace("[photos, more], size: 8", "[photos, more], size: 9"), {"equalize": 32}),
    "color of the last": (lambda p: p.replace("color: gray", "color: rgb"), {"equalize": 16}),
}  # fmt: skip


@pytest.mark.parametrize("name", PHOTO_MUTATIONS)
def test_a_mutation_of_photographs_recomputes_exactly_these_rows(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate, computed = PHOTO_MUTATIONS[name]
    project = Photos(tmp_path, monkeypatch)
    project.run()
    assert project.counted() == {"ingest": 16, "equalize": 32}
    mutate(project)
    assert sum(project.run().computed.values()) == sum(computed.values())
    assert project.counted() == computed
    assert project.run().computed == {}
    assert not project.counted()


# Code


STAGE = '''
"""A stage of the user's own."""

from pipeline.stage import Field, Input, Kind, Stage, StageConfig, setting
from {package} import kernel
from toy import log


class Config(StageConfig):
    power: float = setting(1.0, description="exponent")


class Bend(Stage):
    name, kind, Config = "{name}", Kind.MAP, Config
    inputs = {{"of": Input("rows")}}

    def schema(self, config, inputs):
        return {{"value": Field("<f8", (), "1")}}

    def compute(self, config, batch, ctx):
        log(self.name, batch)
        return {{"value": kernel.bend(batch.inputs[0]["value"], config.power)}}
'''
KERNEL = "def bend(x, power):\n    return x + power\n"


class Code(Project):
    """Two stages, each in a package of its own with a module that it imports."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        super().__init__(folder, patch, """
            nodes:
              a: {stage: "toy:Numbers", count: 9}
              one: {stage: "touchstone_case_one.stage:Bend", of: a}
              two: {stage: "touchstone_case_two.stage:Bend", of: one}
              three: {stage: "touchstone_case_two.stage:Bend", of: a}
            """)  # fmt: skip
        patch.syspath_prepend(str(folder))
        for name in ("one", "two"):
            package = folder / f"touchstone_case_{name}"
            package.mkdir()
            (package / "__init__.py").write_text("")
            (package / "kernel.py").write_text(KERNEL)
            (package / "stage.py").write_text(STAGE.format(package=package.name, name=name))
        self.forget()

    def forget(self) -> None:
        """Imported modules are dropped, as if a new process began."""
        for name in [name for name in sys.modules if name.startswith("touchstone_case_")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        sys.dont_write_bytecode = True
        from pipeline.module_paths import _found_top

        _found_top.cache_clear()

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.folder / f"touchstone_case_{file}"
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))
        self.forget()


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Code]:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    project = Code(tmp_path, monkeypatch)
    project.run()
    assert project.computed() == {"numbers": 9, "one": 9, "two": 18}
    yield project
    project.forget()


@pytest.mark.parametrize(
    ("file", "old", "new", "computed"),
    [
        ("one/kernel.py", "x + power", "x * power", {"one": 9, "two": 9}),
        ("two/kernel.py", "x + power", "x - power", {"two": 18}),
        ("two/stage.py", "setting(1.0", "setting(2.0", {"two": 18}),
        ("one/kernel.py", "return x", "# add\n    return x", {}),
        ("one/kernel.py", "def bend(x, power):", 'def bend(x, power):\n    """Add."""', {}),
        ("one/kernel.py", "return x + power", "return (x+\n        power)", {}),
        ("one/stage.py", "stage of the user's own", "stage", {}),
    ],
)
def test_an_edit_of_a_function_recomputes_its_stages_and_a_comment_nothing(
    code: Code, file: str, old: str, new: str, computed: dict[str, int]
) -> None:
    code.edit(file, old, new)
    assert sum(code.run().computed.values()) == sum(computed.values())
    assert code.computed() == computed


def test_edited_code_gives_its_new_values_and_the_old_code_its_old_rows_at_once(code: Code) -> None:
    before = code.rows()
    code.edit("one/kernel.py", "x + power", "x * (power + 2)")
    code.run()
    values = {row: np.frombuffer(v)[0] for (node, row, _), v in code.rows().items() if node == "one"}
    numbers = {row: np.frombuffer(v)[0] for (node, row, _), v in code.rows().items() if node == "a"}
    assert values == {row: 3 * number for row, number in numbers.items()}
    code.computed()
    code.edit("one/kernel.py", "x * (power + 2)", "x + power")
    assert code.run().computed == {}
    assert code.rows() == before


def test_a_touched_module_of_another_stage_changes_nothing(code: Code) -> None:
    (code.folder / "touchstone_case_one" / "other.py").write_text(textwrap.dedent("X = 1\n"))
    code.forget()
    assert code.run().computed == {}
