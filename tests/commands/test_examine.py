"""`verify` sees every edit that can change a meaning, and takes whatever lies in the store for what it is."""

from __future__ import annotations

import json
import os
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import edit_json, exchange, flip, pipe_instead
from store_rows import CHAIN, SCHEMA, put
from toy_project import Project

from pipeline.commands.examine import verify
from pipeline.commands.upkeep import collect_garbage
from pipeline.commands.verifying import verify_store
from pipeline.errors import DamagedShardError
from pipeline.runs import this_run
from pipeline.storage.shards import Shard
from pipeline.storage.store import Store

LINE = """
nodes:
  a: {stage: "toy:Numbers", count: 24}
  b: {stage: "toy:Scale", of: a, shard_rows: 8}
  mean: {stage: "toy:Mean", on: b}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = Project(tmp_path, monkeypatch, LINE)
    project.run()
    project.computed()
    return project


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store", writable=True)
    store.write_recipe("spectrum", CHAIN, {})
    return store


def folder(project: Project, stage: str) -> Path:
    (found,) = (path for path in (project.folder / "store" / stage).iterdir())
    return found


# Metadata of arrays


def codec(data: Any) -> Any:
    return data["codecs"][0]["configuration"]


ARRAY_EDITS: dict[str, Callable[[Any], Any]] = {
    "byte order": lambda data: codec(data)["codecs"][0]["configuration"].update(endian="big"),
    "data_type": lambda data: data.update(data_type="int32"),
    "separator": lambda data: data["chunk_key_encoding"]["configuration"].update(separator="."),
    "key encoding": lambda data: data["chunk_key_encoding"].update(name="v2"),
    "shape": lambda data: data["shape"].__setitem__(0, 4),
    "chunk_grid": lambda data: data["chunk_grid"]["configuration"]["chunk_shape"].__setitem__(0, 8),
    "inner chunks": lambda data: codec(data)["chunk_shape"].__setitem__(0, 1),
    "fill_value": lambda data: data.update(fill_value=0.0),
    "index_location": lambda data: codec(data).update(index_location="start"),
    "index codecs": lambda data: codec(data)["index_codecs"].pop(),
    "no checksum": lambda data: codec(data)["codecs"].pop(),
    "storage_transformers": lambda data: data["storage_transformers"].append({"name": "reverse"}),
    "another key": lambda data: data.update(must_understand=True),
    "units": lambda data: data["attributes"].update(units="dB"),
    "zarr_format": lambda data: data.update(zarr_format=2),
}


@pytest.mark.parametrize("edit", ARRAY_EDITS)
def test_edited_metadata_of_an_array_are_never_read_by(store: Store, edit: str) -> None:
    path = store.chain_dir("spectrum", CHAIN) / f"{put(store, 0, 5)}.zarr"
    assert verify(store) == []
    edit_json(path / "score" / "zarr.json", ARRAY_EDITS[edit])
    root = json.loads((path / "zarr.json").read_text())["attributes"]
    root["files"]["score/zarr.json"] = (path / "score" / "zarr.json").stat().st_size
    edit_json(path / "zarr.json", lambda data: data["attributes"].update(files=root["files"]), "attributes")
    with pytest.raises(DamagedShardError, match=r"zarr\.json"):
        Shard.open(path).gather("score", np.arange(5))
    assert [problem.path for problem in verify(store)] == [path]


def test_an_edit_of_the_same_size_costs_its_shard_only(project: Project) -> None:
    expected = project.rows()
    path = sorted(folder(project, "scale").glob("*.zarr"))[0]
    edit_json(path / "value" / "zarr.json", lambda data: codec(data)["codecs"][0]["configuration"].update(endian="big"))
    text = (path / "value" / "zarr.json").read_text().replace('"big"\n', '"big"   \n')
    (path / "value" / "zarr.json").write_text(text)
    project.run()
    assert project.computed() == {"scale": 8}
    assert project.rows() == expected


def test_a_message_names_what_was_edited(store: Store) -> None:
    path = store.chain_dir("spectrum", CHAIN) / f"{put(store, 0, 5)}.zarr"
    text = (path / "score" / "zarr.json").read_text()
    (path / "score" / "zarr.json").write_text(text.replace('"float32"', '"int32"  '))
    match = r'score/zarr.json says data_type "int32", but its recipe and schema say "float32"; the shard must be made'
    with pytest.raises(DamagedShardError, match=match):
        Shard.open(path).gather("score", np.arange(5))


# Root attributes, recipes, artifacts


@pytest.mark.parametrize("name", ["recipe.json", "artifact.json", "zarr.json"])
def test_no_flipped_or_cut_byte_of_a_small_file_goes_unseen(project: Project, name: str) -> None:
    pattern = {"recipe.json": "scale/*/", "artifact.json": "mean/*/", "zarr.json": "scale/*/*.zarr/"}[name]
    path = min((project.folder / "store").glob(pattern + name))
    text, store = path.read_bytes(), project.store
    directories = [path.parent if path.parent.suffix != ".zarr" else path.parent.parent]
    assert verify(store, directories=directories) == []
    choose = random.Random(7)
    for _ in range(40):
        flip(path, choose.randrange(len(text)), 1 << choose.randrange(8))
        assert len(verify(store, directories=directories)) == 1
        path.write_bytes(text[: choose.randrange(len(text))])
        assert len(verify(store, directories=directories)) == 1
        path.write_bytes(text)
    path.unlink()
    assert len(verify(store, directories=directories)) == 1


@pytest.mark.parametrize("key", ["environment", "chain", "rows", "schema", "files", "content", "chunks", "format"])
def test_edited_root_attributes_are_damage(store: Store, key: str) -> None:
    path = store.chain_dir("spectrum", CHAIN) / f"{put(store, 0, 5)}.zarr"
    edit_json(path / "zarr.json", lambda data: data["attributes"].update({key: data["attributes"]["rows"] + 1}))
    assert [problem.path for problem in verify(store)] == [path]
    assert [place for place, _ in Store(store.root).index("spectrum", CHAIN).damaged] == [path]


def test_edited_cards_are_damage(project: Project) -> None:
    card = folder(project, "mean") / "artifact.json"
    text = card.read_bytes()
    for change in (lambda data: data.update(node="other"), lambda data: data["facts"].update(mean=7.0),
                   lambda data: data["recipe"].update(env={}), lambda data: data.update(device="cuda"),
                   lambda data: data["consumed"].clear(), lambda data: data.pop("check")):  # fmt: skip
        edit_json(card, change)
        assert [problem.path for problem in verify(project.store)] == [card.parent]
        assert project.plan().artifacts["mean"].found is None
        card.write_bytes(text)


def test_a_damaged_recipe_blocks_nothing_and_the_next_run_writes_it_again(project: Project) -> None:
    path = folder(project, "scale") / "recipe.json"
    text = path.read_bytes()
    other = folder(project, "numbers") / "recipe.json"
    for damage in (lambda: flip(path, 100), lambda: path.write_text("[" * 100_000), path.unlink,
                   lambda: path.write_bytes(other.read_bytes()), lambda: pipe_instead(path)):  # fmt: skip
        damage()
        found = verify_store(project.load(), 0, False)
        assert (found["sound"], found["damaged"]) == (False, [str(path)])
        notes = [note for note in project.plan().notes if str(path) in note]
        assert notes == [f"1 recipe file missing or damaged (first {path}); `touchstone run` writes them again"]
        assert project.plan().complete
        assert collect_garbage(project.load(), False, 0, 0.0)["garbage"] == []
        project.replace("count: 24", "count: 26")
        assert project.causes()["b"][0][1].startswith("in source a")
        project.replace("count: 26", "count: 24")
        project.run()
        assert not project.computed()
        assert path.read_bytes() == text
        assert verify_store(project.load(), 0, False)["sound"]


def test_a_recipe_is_compared_with_its_chain(project: Project) -> None:
    path = folder(project, "scale") / "recipe.json"
    edit_json(path, lambda data: data["components"]["config"].update(factor=9.0), "")
    (problem,) = verify(project.store)
    assert (problem.path, "its components do not make chain" in problem.reason) == (path, True)
    verify_store(project.load(), 0, True)
    project.run()
    assert verify(project.store) == []
    assert not project.computed()


# Whatever may lie in a store


def reseal(path: Path, **changes: Any) -> None:
    edit_json(path, lambda data: data["attributes"].update(changes), "attributes")


ODD: dict[str, Callable[[Path], Any]] = {
    "unknown dtype": lambda path: reseal(path / "zarr.json", schema={"x": {"dtype": "q9", "shape": [1], "units": ""}}),
    "huge shape": lambda path: reseal(
        path / "zarr.json", schema={"x": {"dtype": "uint8", "shape": [10**12] * 3, "units": ""}}
    ),
    "huge rows": lambda path: reseal(path / "zarr.json", rows=10**12),
    "rows of text": lambda path: reseal(path / "zarr.json", rows="5"),
    "schema as a list": lambda path: reseal(path / "zarr.json", schema=[1]),
    "chunks of zero": lambda path: reseal(path / "zarr.json", chunks=dict.fromkeys(["id", "digest", "image"], 0)),
    "chain of text": lambda path: reseal(path / "zarr.json", chain="chain"),
    "deep": lambda path: (path / "zarr.json").write_text('{"attributes":' * 100_000),
    "large": lambda path: (path / "zarr.json").write_text(" " * 10_000_000 + "{}"),
    "deep array": lambda path: (path / "score" / "zarr.json").write_text("[" * 10_000),
    "pipe": lambda path: pipe_instead(path / "zarr.json"),
    "pipe in an array": lambda path: pipe_instead(path / "score" / "zarr.json"),
    "pipe of data": lambda path: pipe_instead(path / "score" / "c" / "0"),
    "folder": lambda path: ((path / "zarr.json").unlink(), (path / "zarr.json").mkdir()),
    "dangling link": lambda path: (path.rename(path.with_name("aside")), path.symlink_to("nowhere")),
    "link to itself": lambda path: ((path / "zarr.json").unlink(), (path / "zarr.json").symlink_to("zarr.json")),
    "file": lambda path: (path.rename(path.with_name("aside")), path.write_text("no shard")),
    "empty": lambda path: (path / "zarr.json").write_text(""),
    "array for root": lambda path: exchange(path / "zarr.json", path / "score" / "zarr.json"),
    "no text": lambda path: (path / "zarr.json").write_bytes(bytes(range(256))),
}


@pytest.mark.parametrize("odd", ODD)
def test_whatever_lies_in_place_of_a_shard_is_a_problem_and_no_traceback(store: Store, odd: str) -> None:
    path = store.chain_dir("spectrum", CHAIN) / f"{put(store, 0, 5)}.zarr"
    ODD[odd](path)
    (problem,) = verify(store)
    assert problem.path == path
    assert "\n" not in problem.reason
    if odd not in ("deep array", "pipe in an array"):  # met when the array is opened
        index = Store(store.root).index("spectrum", CHAIN)
        assert (len(index), [place for place, _ in index.damaged]) == (0, [path])
    assert store.quarantine(path, problem.reason) is not None
    assert not os.path.lexists(path)


def test_other_files_of_a_store_are_problems_and_no_traceback(project: Project) -> None:
    store = project.store
    failures = folder(project, "scale") / "failures"
    failures.mkdir()
    (failures / f"{'0' * 32}.json").write_text("[1]")
    (store.root / "runs" / "x.json").write_text("[")
    (store.root / "aliases.json").write_text("[]")
    (store.root / "scale" / "0123456789abcdef").symlink_to("nowhere")
    card = folder(project, "mean")
    (card / "consumed.npy").unlink()
    os.mkfifo(card / "consumed.npy")
    found = {problem.path.name: problem for problem in verify(store)}
    assert set(found) == {f"{'0' * 32}.json", "x.json", "aliases.json", "0123456789abcdef", card.name}
    assert {name for name, problem in found.items() if problem.movable} == {f"{'0' * 32}.json", card.name}
    lines = verify_store(project.load(), 0, True)["lines"]
    assert any("aliases.json is not what `accept` writes" in line for line in lines)
    assert any("was not compared" in line for line in lines)


@pytest.mark.parametrize("header", ["[]", "{}", '{"rows": "x"}', '{"rows": 1, "chain": 7, "shards": {}}', "[" * 10_000])
def test_an_index_cache_of_wrong_shape_is_read_anew(store: Store, header: str) -> None:
    put(store, 0, 5)
    store.index("spectrum", CHAIN)
    store.save_indices()
    (cache,) = (store.root / ".cache" / "index").iterdir()
    magic = cache.read_bytes().split(b"\n", 1)[0] + b"\n"
    content = header.encode() + b"\n"
    for data in (content, magic + content, magic + zlib.crc32(content).to_bytes(4, "little") + content):
        cache.write_bytes(data)
        assert len(Store(store.root).index("spectrum", CHAIN)) == 5
    cache.unlink()
    os.mkfifo(cache)
    assert len(Store(store.root).index("spectrum", CHAIN)) == 5
    assert verify(store) == []


def test_plain_zarr_opens_a_shard_with_its_new_attributes(store: Store) -> None:
    import zarr

    ids = np.frombuffer(bytes(range(32)), "V16")
    parents = np.frombuffer(bytes(range(32, 64)), "V16")
    arrays = {"image": np.zeros((2, 2, 3), np.uint8), "score": np.ones(2, np.float32)}
    name = store.stage_shard("spectrum", CHAIN, ids, arrays, SCHEMA, this_run(), parents=parents)
    path = store.chain_dir("spectrum", CHAIN) / f"{name}.zarr"
    group = zarr.open_group(path, mode="r")
    assert (group.attrs["chain"], group.attrs["rows"]) == (CHAIN.hex(), 2)
    assert group["parents"][:].tobytes() == bytes(range(32, 64))
    assert sum(one.is_file() for one in path.rglob("*")) == 2 * len(list(group.array_keys())) + 1
