"""Whose a shard is: one of another chain, schema or format is never read as this chain's."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
from damage import age, exchange
from store_rows import CHAIN, SCHEMA, make_rows, put
from toy_project import Project

from pipeline.commands.examine import examine, verify
from pipeline.commands.upkeep import collect_garbage
from pipeline.dataset import Dataset, Part
from pipeline.errors import DamagedShardError
from pipeline.runs import this_run
from pipeline.stage import Field
from pipeline.storage.shards import Shard
from pipeline.storage.store import Store

TWINS = """
nodes:
  a: {stage: "toy:Numbers", count: 40, shard_rows: 8}
  scaled: {stage: "toy:Scale", matrix: {factor: [2.0, 3.0]}, of: a, factor: "{factor}", shard_rows: 8}
  mean: {stage: "toy:Mean", on: "scaled[2.0]"}
  centered: {stage: "toy:Center", of: "scaled[2.0]", mean: mean, shard_rows: 8}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a project that was run; tests work on copies."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        project = Project(folder, patch, TWINS)
        project.run()
        project.computed()
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return Project(tmp_path, monkeypatch, TWINS)


def shards(project: Project, stage: str) -> list[list[Path]]:
    """The shards of each chain of a stage, sorted by name."""
    chains = sorted((project.folder / "store" / stage).iterdir())
    return [sorted(chain.glob("*.zarr")) for chain in chains]


@pytest.mark.parametrize("cached", [True, False])
def test_exchanged_shards_are_computed_again_and_nothing_else(project: Project, cached: bool) -> None:
    expected = project.rows()
    one, other = shards(project, "scale")
    assert [path.name for path in one] == [path.name for path in other], "names are digests of ids only"
    exchange(one[0], other[0])
    exchange(one[3], other[3])
    if not cached:
        for path in (project.folder / "store" / ".cache" / "index").iterdir():
            path.unlink()
    assert {problem.path for problem in verify(project.store)} == {one[0], one[3], other[0], other[3]}
    assert len(project.rows()) < len(expected), "none of them is served"
    report = project.run()
    assert project.computed() == {"scale": 32}
    assert len(report.quarantined) == 4
    assert all("it is a shard of chain" in reason for reason in report.quarantined)
    assert project.rows() == expected
    assert verify(project.store) == []


def test_two_exchanged_chains_are_damage_in_both(project: Project) -> None:
    expected = project.rows()
    one, other = (found[0].parent for found in shards(project, "scale"))
    exchange(one, other)
    problems = {problem.path for problem in verify(project.store)}
    assert problems == {path for found in shards(project, "scale") for path in found} | {
        folder / "recipe.json" for folder in (one, other)
    }
    project.run()
    assert project.computed() == {"scale": 80}
    assert project.rows() == expected
    assert verify(project.store) == []


def test_exchanged_artifacts_are_made_again(project: Project) -> None:
    (first,) = (project.folder / "store" / "mean").iterdir()
    second = first.with_name("0123456789abcdef")
    content = {path.name: path.read_bytes() for path in first.iterdir()}
    first.rename(second)
    assert [problem.path for problem in verify(project.store)] == [second]
    second.rename(first)
    project.replace('on: "scaled[2.0]"', 'on: "scaled[3.0]"')
    project.run()
    project.computed()
    other = next(path for path in (project.folder / "store" / "mean").iterdir() if path != first)
    exchange(first, other)
    assert {problem.path for problem in verify(project.store)} == {first, other}
    project.run()
    assert project.computed()["mean"] == 1
    project.replace('on: "scaled[3.0]"', 'on: "scaled[2.0]"')
    project.run()
    assert {path.name: path.read_bytes() for path in first.iterdir()} == content


def test_a_shard_of_another_chain_or_schema_is_damage_wherever_it_is_opened(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", writable=True)
    path = store.chain_dir("spectrum", CHAIN) / f"{put(store, 0, 5)}.zarr"
    other = bytes([1]) + CHAIN[1:]
    units = {**SCHEMA, "score": Field("float32", (), "bits")}
    ids = make_rows(0, 5)[0]
    assert Shard.open(path, chain=CHAIN, schema=SCHEMA).chain == CHAIN
    for chain, schema, match in ((other, None, f"of chain {CHAIN.hex()}, expected {other.hex()}"),
                                 (CHAIN, units, "its field 'score' is .*, the recipe says .*'bits'")):  # fmt: skip
        with pytest.raises(DamagedShardError, match=match):
            Shard.open(path, chain=chain, schema=schema)
        store.shard(path)
        with pytest.raises(DamagedShardError, match=match):
            store.shard(path, chain, schema)
    data = Dataset(store, [Part("spectrum", CHAIN, SCHEMA, ids)], {})
    data.array("score")
    foreign = Store(tmp_path / "foreign", writable=True)
    foreign.stage_shard("spectrum", other, *make_rows(0, 5), SCHEMA, this_run())
    exchange(path, foreign.chain_dir("spectrum", other) / path.name)
    with pytest.raises(DamagedShardError, match=f"of chain {other.hex()}, expected {CHAIN.hex()}"):
        data.array("score")
    assert [place for place, _ in Store(store.root).index("spectrum", CHAIN).damaged] == [path]
    put(store, 0, 5)
    np.testing.assert_array_equal(Dataset(store, data.parts, {}).array("score"), np.arange(5, dtype=np.float32))
    assert len(list((store.root / "quarantine").glob("*.json"))) == 1


# Formats


@pytest.mark.parametrize("version", [None, 1])
@pytest.mark.parametrize("again", [False, True])
def test_shards_of_a_format_before_are_neither_served_nor_damage(
    project: Project, again: bool, version: int | None
) -> None:
    expected = project.rows()
    one, other = shards(project, "scale")
    for path in (*one, other[0]):
        age(path / "zarr.json", "attributes", version)
    findings = examine(project.store)
    assert (findings.problems, sorted(findings.old)) == ([], sorted([*one, other[0]]))
    assert len(project.rows()) == len(expected) - 6 * 8 * 2
    assert any("6 shards of an earlier format left alone" in note for note in project.plan().notes)
    if again:
        garbage = collect_garbage(project.load(), False, 0, 0.0)
        assert sorted(garbage["garbage"]) == sorted(str(path.relative_to(project.store.root)) for path in findings.old)
        assert sum("(of an earlier format, not read any more)" in line for line in garbage["lines"]) == 6
        collect_garbage(project.load(), True, 0, 0.0)
        assert examine(project.store).old == []
    report = project.run()
    assert project.computed() == {"scale": 48}
    assert report.quarantined == []
    assert not (project.folder / "store" / "quarantine").exists()
    assert project.rows() == expected
    assert (examine(project.store).problems, examine(project.store).old) == ([], [])
    project.run()
    assert not project.computed()


@pytest.mark.parametrize("version", [None, 1])
def test_files_of_a_format_before_are_made_again(project: Project, version: int | None) -> None:
    expected = project.rows()
    (artifact,) = (project.folder / "store" / "mean").iterdir()
    age(artifact / "artifact.json", version=version)
    chains = [found[0].parent for found in shards(project, "scale")]
    for chain in chains:
        age(chain / "recipe.json", version=version)
    findings = examine(project.store)
    assert findings.problems == []
    assert sorted(findings.old) == sorted([artifact, *(chain / "recipe.json" for chain in chains)])
    project.run()
    assert project.computed() == {"mean": 1}
    assert project.rows() == expected
    assert (examine(project.store).problems, examine(project.store).old) == ([], [])
    assert not (project.folder / "store" / "quarantine").exists()


def test_no_single_flipped_bit_makes_a_shard_look_old(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", writable=True)
    path = store.chain_dir("spectrum", CHAIN) / f"{put(store, 0, 5)}.zarr" / "zarr.json"
    text = path.read_bytes()
    for place, bit in itertools.product(range(len(text)), (1, 64)):
        path.write_bytes(text[:place] + bytes([text[place] ^ bit]) + text[place + 1 :])
        with pytest.raises(DamagedShardError, match=r"zarr\.json"):
            Shard.open(path.parent)
