"""Two pipelines over one store: what one cleans, the other still has."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_project import Project, touchstone, toy_id, tree

from pipeline.commands.upkeep import collect_garbage, compact_nodes
from pipeline.errors import ConfigError, StoreError, TouchstoneError
from pipeline.planning import wanted

ONE = """
    store: ../store
    nodes:
      a: {stage: "toy:Numbers", count: 10}
      b: {stage: "toy:Scale", of: a, factor: 2.0}
    """
TWO = """
    store: ../store
    nodes:
      a: {stage: "toy:Numbers", count: 20}
      c: {stage: "toy:Scale", of: a, factor: 5.0}
      mean: {stage: "toy:Mean", on: c}
    """
DAY_S = 86400


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = Project(tmp_path / "two", monkeypatch, TWO)
    project.run()
    return project


@pytest.fixture
def one(tmp_path: Path, two: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = Project(tmp_path / "one", monkeypatch, ONE)
    project.run()
    project.computed()
    return project


def gc(project: Project, apply: bool = True, forget: tuple[Path, ...] = ()) -> dict[str, Any]:
    return collect_garbage(project.load(), apply, 0, 0.0, forget)


def file_of(project: Project) -> Path:
    return wanted.place(project.store, project.file)


def age(path: Path, days: float) -> None:
    then = time.time() - days * DAY_S
    os.utime(path, (then, then))


def shards(project: Project) -> dict[str, bytes]:
    return tree(project.folder.parent / "store", "*/*/**/*")


def test_gc_keeps_what_another_pipeline_wanted_and_says_whose_it_is(one: Project, two: Project) -> None:
    found = gc(one)
    assert found["garbage"] == []
    theirs = {name.split("/")[0] for name, reason in found["kept"].items() if reason == f"{two.file} wants it"}
    assert theirs == {"scale", "mean"}
    (line,) = [line for line in found["lines"] if str(two.file) in line]
    assert line.endswith(f"2 of these for {two.file} (last run less than a day ago); --forget gives them up")
    assert two.run().computed == {}


def test_compact_keeps_the_rows_that_another_pipeline_wanted(one: Project, two: Project) -> None:
    lines = compact_nodes(one.load(), [])
    assert lines[0].startswith("a: 20 rows; ")
    assert lines[0].endswith(f"; 10 rows kept for {two.file} (last run less than a day ago)")
    assert two.run().computed == {}
    assert one.run().computed == {}


def test_no_other_pipeline_is_planned(one: Project, two: Project) -> None:
    two.file.write_text("nodes: [")
    assert gc(one)["garbage"] == []
    two.file.unlink()
    assert any(f"{two.file}, a file that is gone (last run" in line for line in gc(one)["lines"])
    compact_nodes(one.load(), [])
    two.write(TWO)
    assert two.run().computed == {}


def test_a_pipeline_that_is_forgotten_no_longer_counts(one: Project, two: Project) -> None:
    before = tree(one.folder.parent)
    found = gc(one, apply=False, forget=(two.file,))
    assert sorted(name.split("/")[0] for name in found["garbage"]) == ["mean", "scale"]
    assert tree(one.folder.parent) == before, "without --apply nothing is written"
    assert gc(one, forget=(two.file,))["garbage"] == found["garbage"]
    assert not file_of(two).exists()
    assert compact_nodes(one.load(), ["a"]) == ["a: 10 rows; 1 shard written, 1 dropped"]
    assert two.run().computed == {"a": 10, "c": 20, "mean": 1}


def test_compact_forgets_too_and_an_unknown_pipeline_is_named(one: Project, two: Project) -> None:
    with pytest.raises(
        ConfigError, match=r"--forget .*/tow/pipeline.yaml: no such pipeline has run over this store; did"
    ):
        gc(one, forget=(two.folder.with_name("tow") / "pipeline.yaml",))
    assert file_of(two).exists()
    assert compact_nodes(one.load(), ["a"], [two.file]) == ["a: 10 rows; 1 shard written, 1 dropped"]
    assert not file_of(two).exists()


def test_wants_end_after_thirty_days(one: Project, two: Project) -> None:
    age(file_of(two), 29)
    assert gc(one)["garbage"] == []
    age(file_of(two), 31)
    found = gc(one, apply=False)
    assert sorted(name.split("/")[0] for name in found["garbage"]) == ["mean", "scale"]
    assert f"no longer kept: what {two.file} (last run 31 days ago) wants, after 30 days" in found["lines"]
    assert compact_nodes(one.load(), ["a"])[0].startswith("a: 10 rows; ")
    gc(one)
    assert not file_of(two).exists()


def test_a_run_with_nothing_to_do_counts_as_a_run(one: Project, two: Project) -> None:
    age(file_of(two), 31)
    before = file_of(two).stat()
    two.run()
    after = file_of(two).stat()
    assert after.st_ino == before.st_ino, "the same file, with a new time"
    assert time.time() - after.st_mtime < DAY_S


def test_what_a_pipeline_wants_itself_is_what_its_file_says_now(one: Project) -> None:
    one.replace("factor: 2.0", "factor: 3.0")
    assert [name.split("/")[0] for name in gc(one)["garbage"]] == ["scale"]


def test_the_file_names_chains_rows_and_artifacts(two: Project) -> None:
    plan = two.plan()
    with np.load(file_of(two), allow_pickle=False) as file:
        header = json.loads(file["header"].tobytes())
        ((_, chain, rows),) = header["nodes"]["c"]["chains"]
        found = {bytes(row) for row in file[rows]}
        assert len(file.files) == 2, "nodes over the same rows share them"
    assert header["pipeline"] == "../two/pipeline.yaml"
    assert chain == plan.branches["c"][0].chain.hex()
    assert found == {toy_id(number) for number in range(20)}
    assert header["nodes"]["mean"] == {"chains": [], "artifacts": [["mean", plan.artifacts["mean"].key.hex()]]}


def test_a_run_of_some_nodes_keeps_what_was_recorded_for_the_others(one: Project, two: Project) -> None:
    two.replace("factor: 5.0", "factor: 6.0")
    two.run("c")
    assert [name.split("/")[0] for name in gc(one)["garbage"]] == ["scale"], "of the factor 5; the mean is still wanted"
    two.replace('mean: {stage: "toy:Mean", on: c}', "")
    two.run("a")
    assert [name.split("/")[0] for name in gc(one)["garbage"]] == ["mean"]
    two.replace("count: 20", "count: 25")
    two.run("a")
    with np.load(file_of(two), allow_pickle=False) as file:
        assert len(file.files) == 3, "a wants 25 rows, c still 20"


def test_a_run_that_fails_records_nothing(one: Project, two: Project) -> None:
    before = file_of(two).read_bytes()
    one.break_numbers(21)  # the file that the stages look at is that of the last project
    two.replace("count: 20", "count: 25")
    with pytest.raises(TouchstoneError, match="1 row failed"):
        two.run()
    assert file_of(two).read_bytes() == before


def test_a_project_that_moves_with_its_store_stays_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path / "here", monkeypatch, TWO.replace("store: ../store", ""))
    project.run()
    shutil.move(tmp_path / "here", tmp_path / "there")
    moved = Project(tmp_path / "there", monkeypatch, TWO.replace("store: ../store", "").replace("5.0", "6.0"))
    assert sorted(name.split("/")[0] for name in gc(moved)["garbage"]) == ["mean", "scale"]


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 8]) + content[place + 1 :]


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "version", "stage", "folder"])
def test_a_damaged_file_stops_gc_and_compact(one: Project, two: Project, damage: str) -> None:
    path = file_of(two)
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage in ("version", "stage"):
        header = {
            "version": 2 if damage == "version" else 1,
            "pipeline": "x",
            "nodes": {"a": {"chains": [["..", "00", ""]]}},
        }
        np.savez(path, header=np.frombuffer(json.dumps(header).encode(), np.uint8))
    else:
        path.write_bytes({"empty": b"", "cut": content[:-30], "text": b"hello"}[damage])
    before = shards(one)
    sentence = rf"{path.name} cannot be read \(.*\), so that it is not known .*; nothing was removed\. "
    for clean in (lambda: gc(one), lambda: compact_nodes(one.load(), [])):
        with pytest.raises(
            StoreError, match=sentence + "Remove it and run that pipeline, which writes it anew, or give"
        ):
            clean()
    assert shards(one) == before
    if damage != "folder":
        path.unlink()
        two.run()
        assert gc(one)["garbage"] == [], "its next run writes it anew"
        path.write_bytes(b"")
        assert len(gc(one, forget=(Path(path.name),))["garbage"]) == 2


def test_no_flipped_bit_loses_a_row(one: Project, two: Project) -> None:
    path, store = file_of(two), one.store
    content = path.read_bytes()
    (sound,) = wanted.others(store, one.file)
    refused = 0
    places = range(0, len(content), 3)
    for place in places:
        path.write_bytes(flipped(content, place))
        try:
            (found,) = wanted.others(store, one.file)
        except StoreError:
            refused += 1
            continue
        assert found.artifacts == sound.artifacts
        assert found.chains.keys() == sound.chains.keys()
        for chain, rows in sound.chains.items():
            assert np.array_equal(found.chains[chain], rows)
    assert refused > len(places) // 2


def test_the_commands_take_it(one: Project, two: Project) -> None:
    said = touchstone(one, "gc", "--grace-s", "0")
    assert f"2 of these for {two.file} (last run less than a day ago)" in said.stdout
    said = touchstone(one, "gc", "--grace-s", "0", "--forget", "../two/pipeline.yaml", "--json", "--apply")
    assert len(json.loads(said.stdout)["garbage"]) == 2
    said = touchstone(one, "compact", "a", "--forget", "../two/pipeline.yaml")
    assert (said.returncode, said.stdout) == (2, "")
    assert "--forget ../two/pipeline.yaml: no such pipeline has run over this store" in said.stderr
