"""What damage in the store recomputes: a table, counted by what the stages really did; the result is the cold one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from damage import change_value, edit_json, exchange, flip, give_other_values, pipe_instead
from toy_project import Project, tree

from pipeline.commands.verifying import verify_store
from pipeline.runs import RunRecord
from pipeline.storage.store import Store

PIPELINE = """
nodes:
  a: {stage: "toy:Numbers", count: 16, shard_rows: 8}
  scaled: {stage: "toy:Scale", matrix: {factor: [2.0, 3.0]}, of: a, factor: "{factor}", shard_rows: 8}
  noisy: {stage: "toy:Jitter", of: "scaled[2.0]", shard_rows: 16}
  mean: {stage: "toy:Mean", on: "scaled[2.0]"}
  centered: {stage: "toy:Center", of: noisy, mean: mean, shard_rows: 16}
"""
COLD = {"numbers": 16, "scale": 32, "jitter": 32, "mean": 1, "center": 32}

Damage = Callable[[Project], Any]


def chain(project: Project, node: str) -> Path:
    """The folder of a node's chain."""
    (branch,) = project.plan().branches[node]
    return project.store.chain_dir(branch.stage.name, branch.chain)


def shards(project: Project, node: str) -> list[Path]:
    return sorted(chain(project, node).glob("*.zarr"))


def first(project: Project, node: str = "scaled[2.0]") -> Path:
    return shards(project, node)[0]


def mean(project: Project) -> Path:
    """The folder of the artifact."""
    (found,) = (project.folder / "store" / "mean").iterdir()
    return found


def overwrite(path: Path, old: str, new: str) -> None:
    """Another text of equal length where the old one stands first, in the same file, its time put back."""
    text, times = path.read_text(), path.stat()
    assert old in text
    with path.open("r+") as file:
        file.write(text.replace(old, new.ljust(len(old)), 1))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size


def metadata(old: str, new: str) -> Damage:
    return lambda project: overwrite(first(project) / "value" / "zarr.json", old, new)


def exchange_shards(project: Project) -> None:
    exchange(first(project, "scaled[2.0]"), first(project, "scaled[3.0]"))


def exchange_chains(project: Project) -> None:
    exchange(chain(project, "scaled[2.0]"), chain(project, "scaled[3.0]"))


def rename_shards(project: Project) -> None:
    """Two shards of one chain under each other's names."""
    exchange(*shards(project, "scaled[2.0]"))


def wrong_history(project: Project) -> None:
    """A shard has other values, sound in itself; all below was computed from it; then the shard is lost."""
    for stage in ("jitter", "mean", "center"):
        shutil.rmtree(project.folder / "store" / stage)
    give_other_values(first(project), "value")
    project.run()
    assert project.computed() == {"jitter": 32, "mean": 1, "center": 32}
    Store(project.folder / "store", writable=True).quarantine(first(project), "its values are wrong")


def forge_recipe(project: Project) -> None:
    """The digest in the file fits, so that only `verify` sees it; repaired, it is written again by the next run."""
    path = chain(project, "scaled[2.0]") / "recipe.json"
    edit_json(path, lambda data: data.update(inputs=[]), sealed="")
    assert verify_store(project.load(), 0, True)["damaged"] == [str(path)]


def forge_mean(project: Project) -> None:
    """Another number in a file of equal size, which is noticed when something is made with it."""
    path = mean(project) / "mean.json"
    digit = path.read_text()[len('{"mean": ')]
    overwrite(path, digit, "1" if digit != "1" else "2")
    shutil.rmtree(first(project, "centered"))


def copy_store(project: Project) -> None:
    """Equal files with other inodes and times."""
    store = project.folder / "store"
    shutil.copytree(store, project.folder / "copy", copy_function=shutil.copyfile)
    shutil.rmtree(store)
    (project.folder / "copy").rename(store)


def killed_run(project: Project) -> None:
    """Half a shard and a half-written file of a run that no longer lives."""
    dead = RunRecord("another-host", 12, 34).id
    half = chain(project, "scaled[2.0]") / f".{'0' * 16}.zarr.{dead}.1-0123abcd.tmp"
    shutil.copytree(first(project) / "value", half)
    os.utime(half, (1_000_000, 1_000_000))


def index_of_another(project: Project) -> None:
    """The disposable index of one chain stands in for that of another."""
    paths = sorted((project.folder / "store" / ".cache" / "index").iterdir())
    contents = [path.read_bytes() for path in paths]
    for path, content in zip(paths, [*contents[1:], contents[0]], strict=True):
        path.write_bytes(content)


SCALED = {"scale": 8}
DAMAGES: dict[str, tuple[Damage, dict[str, int], bool]] = {
    # name: (damage, stage -> rows really computed, whether `verify` must see it)
    "shards exchanged between two chains": (exchange_shards, {"scale": 16}, True),
    "two chains exchanged": (exchange_chains, {"scale": 32}, True),
    "shards of one chain under each other's names": (rename_shards, {"scale": 16}, True),
    "dtype of an array": (metadata('"float64"', '"uint64"'), SCALED, True),
    "byte order of an array": (metadata('"little"', '"big"'), SCALED, True),
    "separator of an array": (metadata('"separator": "/"', '"separator": "."'), SCALED, True),
    "values with a checksum that fits": (lambda p: change_value(first(p), "value"), SCALED, True),
    "a unit in the attributes": (lambda p: overwrite(first(p) / "zarr.json", '"1"', '"2"'), SCALED, True),
    "a parent was wrong, and all below it": (
        wrong_history, {"scale": 8, "jitter": 16, "mean": 1, "center": 32}, False,
    ),
    "a recipe's bit": (lambda p: flip(chain(p, "noisy") / "recipe.json", 40), {}, True),
    "a recipe's setting": (lambda p: overwrite(chain(p, "scaled[2.0]") / "recipe.json", "factor", "sector"), {}, True),
    "a recipe with other inputs, sealed anew and put aside": (forge_recipe, {}, True),
    "a recipe is a pipe": (lambda p: pipe_instead(chain(p, "a") / "recipe.json"), {}, True),
    "a recipe is gone": (lambda p: (chain(p, "a") / "recipe.json").unlink(), {}, True),
    "a card's bit": (lambda p: flip(mean(p) / "artifact.json", 40), {"mean": 1}, True),
    "a card's fact": (
        lambda p: edit_json(mean(p) / "artifact.json", lambda d: d["facts"].update(mean=1.0)), {"mean": 1}, True,
    ),
    "a card is a pipe": (lambda p: pipe_instead(mean(p) / "artifact.json"), {"mean": 1}, True),
    "a file of an artifact that is read": (forge_mean, {"mean": 1, "center": 16}, True),
    "store copied": (copy_store, {}, False),
    "a run was killed": (killed_run, {}, False),
    "index of another chain": (index_of_another, {}, False),
}  # fmt: skip


@dataclass(frozen=True)
class Cold:
    """A project that was run from nothing: its folder, its rows, and the files beside them."""

    folder: Path
    rows: dict[tuple[str, bytes, str], bytes]
    files: dict[str, bytes]


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> Cold:
    folder = tmp_path_factory.mktemp("cold") / "project"
    with pytest.MonkeyPatch.context() as patch:
        project = Project(folder, patch, PIPELINE)
        project.run()
        assert project.computed() == COLD
        return Cold(folder, project.rows(), small_files(project))


def small_files(project: Project) -> dict[str, bytes]:
    """Files of the artifact, and recipes."""
    store = project.folder / "store"
    return tree(store, "mean/*/*") | tree(store, "*/*/recipe.json")


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_recomputes_exactly_this(name: str, cold: Cold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damage, computed, seen = DAMAGES[name]
    shutil.copytree(cold.folder, tmp_path / "project")
    project = Project(tmp_path / "project", monkeypatch, PIPELINE)
    project.run()  # so that the indexes of chains know the copied files
    damage(project)
    if seen:
        assert not verify_store(project.load(), 0, False)["sound"]
    project.run()
    assert project.computed() == computed
    assert project.rows() == cold.rows
    assert small_files(project) == cold.files
    assert not list(project.folder.rglob(".*.tmp"))
    project.run()
    assert not project.computed()
