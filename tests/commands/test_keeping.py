"""Care of the store as a user meets it: verify, compact, gc, freeze, pin, accept; and which verbs write at all."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
import yaml
from code_project import Code
from toy_project import STANDARD, Project, tree

from pipeline import ids
from pipeline.commands.upkeep import accept_nodes, collect_garbage, compact_nodes, freeze_nodes, pin_nodes
from pipeline.commands.verifying import verify_store
from pipeline.errors import ConfigError, ConflictError, StoreError, TouchstoneError
from pipeline.running.tasks import open_store


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "project"
    with pytest.MonkeyPatch.context() as patch:
        Project(folder, patch).run()
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    open_store.cache_clear()
    shutil.copytree(finished, tmp_path / "project")
    project = Project(tmp_path / "project", monkeypatch)
    project.computed()
    return project


def damage(project: Project, node: str, count: int = 1) -> list[Path]:
    """Flip a byte in the values of some shards of a node."""
    branch = project.plan().branches[node][0]
    shards = sorted(project.store.chain_dir(branch.stage.name, branch.chain).glob("*.zarr"))[:count]
    for shard in shards:
        path = next(
            path for path in sorted((shard / "value").rglob("*")) if path.is_file() and path.name != "zarr.json"
        )
        content = bytearray(path.read_bytes())
        content[3] ^= 64
        path.write_bytes(content)
    return shards


# verify


def test_a_sound_store_is_sound_and_rebuilt_rows_are_identical(project: Project) -> None:
    found = verify_store(project.load(), rebuild=3, repair=False)
    assert (found["sound"], found["damaged"]) == (True, [])
    results = {one["node"]: (one["rows"], one["result"]) for one in found["rebuilt"]}
    assert results == dict.fromkeys(
        ("a", "b", "scaled[2.0]", "scaled[3.0]", "noisy", "sum", "centered"), (3, "identical")
    )
    assert found["lines"][-1] == "12 chains and artifacts are sound" or found["lines"][-1].endswith("are sound")
    assert project.computed()["numbers"] == 6


def test_damage_is_named_and_repaired_only_when_told(project: Project) -> None:
    (shard,) = damage(project, "noisy")
    before = tree(project.folder)
    found = verify_store(project.load(), 0, repair=False)
    assert (found["sound"], found["damaged"]) == (False, [str(shard)])
    assert tree(project.folder) == before
    repaired = verify_store(project.load(), 0, repair=True)
    assert repaired["sound"]
    assert repaired["lines"][-1] == "1 put aside; `touchstone run` computes their rows again"
    assert not shard.exists()
    assert set(project.run().computed) == {"noisy"}
    assert verify_store(project.load(), 0, repair=False)["sound"]


def test_a_rebuild_that_differs_is_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = toy.Jitter.compute
    monkeypatch.setattr(toy.Jitter, "compute", lambda *arguments: {"value": plain(*arguments)["value"] + 1e-9})
    found = verify_store(project.load(), rebuild=2, repair=False)
    assert not found["sound"]
    assert [one["node"] for one in found["rebuilt"] if one["result"] == "different"] == ["noisy"]


def test_a_row_that_can_no_longer_be_computed_is_different(project: Project) -> None:
    project.break_numbers(*range(1100))
    found = verify_store(project.load(), rebuild=2, repair=False)
    assert {one["node"] for one in found["rebuilt"] if one["result"] == "different"} == {"scaled[2.0]", "scaled[3.0]"}


# compact


def test_compact_is_idempotent_and_changes_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path, monkeypatch, """
        nodes:
          a: {stage: "toy:Numbers", count: 20}
          b: {stage: "toy:Scale", of: a}
        """)  # fmt: skip
    for count in (3, 9, 20):
        project.run(overrides=(f"nodes.a.count={count}",))
    project.replace("count: 20", "count: 18")
    rows = project.rows()
    assert len(project.shards()) == 6
    assert compact_nodes(project.load(), []) == [
        "a: 18 rows; 1 shard written, 3 dropped", "b: 18 rows; 1 shard written, 3 dropped",
    ]  # fmt: skip
    once = tree(tmp_path / "store", "*/*/*.zarr/**/*")
    assert compact_nodes(project.load(), ["b"]) == ["b: 18 rows; 0 shards written, 0 dropped"]
    assert tree(tmp_path / "store", "*/*/*.zarr/**/*") == once
    assert project.rows() == rows
    project.computed()
    assert project.run().computed == {}


SHARING = """
    nodes:
      a: {stage: "toy:Numbers", count: 40}
      x: {stage: "toy:Scale", of: {of: a, where: split = train}}
      y: {stage: "toy:Scale", of: {of: a, where: split = test}}
    """


def test_compact_keeps_the_rows_of_other_nodes_that_share_a_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path, monkeypatch, SHARING)
    project.run()
    (x,), (y,) = project.plan().branches["x"], project.plan().branches["y"]
    assert x.chain == y.chain
    assert set(ids.to_bytes(x.rows.id)).isdisjoint(ids.to_bytes(y.rows.id))
    rows = project.rows()
    lines = compact_nodes(project.load(), ["x"])
    assert [line.split(";")[0] for line in lines] == [f"x: {len(x.rows) + len(y.rows)} rows"]
    assert project.rows() == rows
    project.computed()
    assert project.run().computed == {}
    with pytest.raises(ConfigError, match="z"):
        compact_nodes(project.load(), ["z"])


def test_compact_keeps_rows_that_were_made_before_their_input_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path, monkeypatch, SHARING)
    project.run()
    (a,), (x,) = project.plan().branches["a"], project.plan().branches["x"]
    shutil.rmtree(project.store.chain_dir(a.stage.name, a.chain))
    project.store.record_failure(a.stage.name, a.chain, x.rows.id[0], "broken")
    rows = len(x.rows) + len(project.plan().branches["y"][0].rows)
    assert [line.split(";")[0] for line in compact_nodes(project.load(), ["x"])] == [f"x: {rows} rows"]


def test_compact_keeps_the_shards_that_a_frozen_manifest_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path, monkeypatch, SHARING)
    project.run()
    freeze_nodes(project.load(), ["y"], None)
    (entry,) = yaml.safe_load((tmp_path / "manifests" / "frozen-y.yaml").read_text())["nodes"]["y"]
    (folder,) = {path.parent for path in project.shards() if path.parent.name == entry["chain"][:16]}
    named = {one["shard"] for one in entry["shards"]}
    project.replace('y: {stage: "toy:Scale", of: {of: a, where: split = test}}', "")
    for _ in range(2):
        compact_nodes(project.load(), [])
        assert named <= {path.name[:16] for path in folder.glob("*.zarr")}


def test_compact_after_allowed_failures_takes_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path, monkeypatch, STANDARD.replace("nodes:", "max_failed_rows: 9\nnodes:"))
    project.break_numbers(7)
    project.run()
    lines = compact_nodes(project.load(), [])
    assert [line.split(";")[0] for line in lines if line.startswith(("scaled", "centered"))] == [
        "scaled[2.0]: 59 rows", "scaled[3.0]: 59 rows", "centered: 40 rows",
    ]  # fmt: skip


# gc


def garbage(project: Project, apply: bool = True, keep_last: int = 0) -> list[str]:
    """Stages of what is removed."""
    found = collect_garbage(project.load(), apply, keep_last, grace_s=0)
    return sorted(Path(name).parts[0] for name in found["garbage"])


def test_gc_keeps_the_plan_and_removes_what_is_left_over(project: Project) -> None:
    assert garbage(project) == []
    (config,) = (project.folder / "store" / "runs").glob("*.yaml")
    config.rename(config.with_name("first.yaml"))  # all runs of this test are one process
    project.replace("[2.0, 3.0]", "[2.0, 4.0]")
    project.replace('"scaled[3.0]"', '"scaled[4.0]"')
    project.run()
    rows = project.rows()
    expected = ["add", "center", "mean", "scale"]
    before = tree(project.folder)
    assert sorted(set(garbage(project, apply=False))) == expected
    assert tree(project.folder) == before
    assert garbage(project, apply=False, keep_last=2) == []
    assert sorted(set(garbage(project))) == expected
    assert garbage(project) == []
    assert project.rows() == rows
    project.computed()
    assert project.run().computed == {}


def test_gc_leaves_the_young_alone(project: Project) -> None:
    project.replace('"scaled[3.0]"', '"scaled[2.0]"')
    project.replace("[2.0, 3.0]", "[2.0]")
    assert collect_garbage(project.load(), True, 0, grace_s=3600)["garbage"] == []


def test_gc_keeps_what_was_made_without_a_failed_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path, monkeypatch, STANDARD.replace("nodes:", "max_failed_rows: 9\nnodes:"))
    project.break_numbers(7)
    project.run()
    assert garbage(project) == []
    assert project.plan(recorded=True).complete


def test_gc_keeps_frozen_and_pinned_and_stops_at_a_broken_manifest(project: Project) -> None:
    freeze_nodes(project.load(), ["scaled[3.0]"], None)
    pin_nodes(project.load(), ["mean"])
    project.replace('"scaled[3.0]"', '"scaled[2.0]"')
    project.replace("[2.0, 3.0]", "[2.0]")
    project.run()
    assert sorted(set(garbage(project, apply=False))) == ["add"]
    (manifest,) = (project.folder / "manifests").glob("frozen-*.yaml")
    text = manifest.read_text()
    manifest.write_text(text.replace("chain: ", "chain: not-hex "))
    before = tree(project.folder)
    with pytest.raises(
        ConfigError, match=r"frozen-scaled.*yaml is a frozen manifest that cannot be read .*; mend it before gc"
    ):
        garbage(project)
    manifest.write_text(text + "\n  - [")
    with pytest.raises(ConfigError, match=r"frozen-scaled.*yaml:\d+ is not valid YAML"):
        garbage(project)
    assert set(tree(project.folder)) >= set(before), "something was removed"


# freeze


def test_a_frozen_manifest_names_chains_shards_counts_and_a_digest_of_all_rows(project: Project) -> None:
    said = freeze_nodes(project.load(), ["scaled"], None)
    path = project.folder / "manifests" / "frozen-scaled.yaml"
    assert said == f"{path}: 2 nodes, 120 rows"
    data = yaml.safe_load(path.read_text())
    assert list(data["nodes"]) == ["scaled[2.0]", "scaled[3.0]"]
    first = data["nodes"]["scaled[2.0]"]
    assert sum(entry["rows"] for entry in first) == 60
    assert (sum(entry["real"] for entry in first), sum(entry["fake"] for entry in first)) == (40, 20)
    total = hashlib.sha256()
    branch = project.plan().branches["scaled[2.0]"][0]
    ranked = sorted(bytes(row) for row in branch.rows.id)
    total.update(b"".join(ranked))
    values = project.rows()
    for row in ranked:
        state = hashlib.sha256()
        for name in ("value", "vector"):
            content = values["scaled[2.0]", row, name]
            state.update(len(content).to_bytes(8, "little") + content)
        total.update(state.digest()[:16])
    assert first[0]["digest"] == total.hexdigest()
    compact_nodes(project.load(), [])
    freeze_nodes(project.load(), ["scaled"], None)
    assert yaml.safe_load(path.read_text())["nodes"]["scaled[2.0]"][0]["digest"] == first[0]["digest"]


def test_what_is_not_complete_or_not_rows_cannot_be_frozen(project: Project) -> None:
    with pytest.raises(ConfigError, match="'mean' is an artifact; freeze nodes of rows, and `touchstone pin mean`"):
        freeze_nodes(project.load(), ["mean"], None)
    with pytest.raises(TouchstoneError, match="a lacks 2 of 42 rows; run it, then freeze"):
        freeze_nodes(project.load("nodes.a.count=42"), ["a"], None)
    said = freeze_nodes(project.load(), ["a"], project.folder / "here.yaml")
    assert said.endswith("; it lies outside manifests/, so that `gc` does not know it")


# pin


def test_a_pinned_artifact_stays_when_rows_are_added(project: Project) -> None:
    (line,) = pin_nodes(project.load(), ["mean"])
    key = project.plan().artifacts["mean"].key
    assert line == f"mean pinned as {key.hex()[:16]} in manifests/pins.yaml"
    report = project.run(overrides=("nodes.a.count=50", "nodes.b.count=30"))
    assert report.computed == {"a": 10, "b": 10, "scaled[2.0]": 20, "scaled[3.0]": 20, "noisy": 20, "sum": 20,
                               "centered": 20}  # fmt: skip
    assert "mean" not in project.computed()
    shutil.rmtree(project.folder / "store" / "mean")
    assert project.run(overrides=("nodes.a.count=50", "nodes.b.count=30")).computed == {}


def test_a_pinned_file_that_changed_or_went_is_refused(project: Project) -> None:
    pin_nodes(project.load(), ["mean"])
    (path,) = (project.folder / "manifests" / "pins").glob("*/mean.json")
    path.write_text("{}")
    with pytest.raises(ConfigError, match=r"pins.yaml mean: mean.json has SHA-256 [0-9a-f]{12}..., expected "
                                          r"[0-9a-f]{12}...; restore the file, or remove the pin"):  # fmt: skip
        project.run()
    path.unlink()
    with pytest.raises(ConfigError, match=r"pins.yaml mean: mean.json is missing, expected"):
        project.run()
    (project.folder / "manifests" / "pins.yaml").write_text("mean: {key: zz}\n")
    with pytest.raises(ConfigError, match=r"pins.yaml:1 mean is no pin; expected 'key' and 'files'"):
        project.run()


def test_only_finished_artifacts_can_be_pinned(project: Project) -> None:
    with pytest.raises(ConfigError, match="'sum' gives rows; only fits and reduces can be pinned"):
        pin_nodes(project.load(), ["sum"])
    with pytest.raises(TouchstoneError, match="mean is not made yet; `touchstone run mean` makes it"):
        pin_nodes(project.load("nodes.a.count=50"), ["mean"])


# accept


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    code = Code(tmp_path / "code", monkeypatch)
    code.run()
    code.computed()
    yield code
    code.forget()


def test_accepted_code_of_the_same_values_recomputes_nothing(code: Code) -> None:
    rows = code.rows()
    code.edit("one/kernel.py", "x + power", "power + x")
    assert set(code.causes()) == {"one", "two"}
    assert accept_nodes(code.load(), ["one"]) == ["one: 1 recipe accepted as equal to what the store has"]
    assert code.run().computed == {}
    assert code.rows() == rows
    code.edit("one/kernel.py", "power + x", "x - power")
    code.run()
    assert code.computed() == {"one": 9, "two": 9}, "another edit is another recipe"


def test_a_wrong_accept_is_refused(code: Code) -> None:
    assert accept_nodes(code.load(), ["one"]) == ["one: fresh, nothing to accept"]
    code.edit("one/kernel.py", "x + power", "power + x")
    with pytest.raises(StoreError, match="two: its inputs changed too; accept one first, or run"):
        accept_nodes(code.load(), ["two"])
    accept_nodes(code.load(), ["one"])
    ((new, old),) = code.store.aliases().items()
    from pipeline.storage.upkeep import accept

    with pytest.raises(ConflictError, match="nothing to accept"):
        accept(code.store, bytes.fromhex(old), bytes.fromhex(new))
    with pytest.raises(ConflictError, match="is already accepted as"):
        accept(code.store, bytes.fromhex(new), bytes(16))


def test_an_accepted_fit_is_not_made_again(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy.Mean, "libraries", ("numpy", "pillow"))
    assert set(project.causes()) == {"mean", "centered"}
    assert accept_nodes(project.load(), ["mean"]) == ["mean: 1 recipe accepted as equal to what the store has"]
    assert project.run().computed == {}


# R9: only some verbs write


READING: dict[str, Callable[[Project], Any]] = {
    "plan": lambda p: p.plan("nodes.a.count=44"),
    "explain": lambda p: p.causes("nodes.a.count=44", "seed=3"),
    "verify": lambda p: verify_store(p.load(), 0, False),
    "verify --rebuild": lambda p: verify_store(p.load(), 2, False),
    "gc": lambda p: collect_garbage(p.load("nodes.b.count=3"), False, 0, 0),
}


@pytest.mark.parametrize("state", ["cached", "caches deleted", "damaged", "empty"])
def test_verbs_that_read_write_nothing(state: str, project: Project) -> None:
    if state == "caches deleted":
        shutil.rmtree(project.folder / "store" / ".cache")
    if state == "damaged":
        damage(project, "sum")
    if state == "empty":
        project.remove_store()
    project.computed()
    before = tree(project.folder)
    for name, read in READING.items():
        read(project)
        project.computed()
        assert tree(project.folder) == before, name
        assert (project.folder / "store").exists() == (state != "empty"), name


def test_values_of_a_store_are_plain_numbers(project: Project) -> None:
    values = {row: np.frombuffer(v)[0] for (node, row, field), v in project.rows().items() if node == "sum"}
    twice = {row: np.frombuffer(v)[0] for (node, row, field), v in project.rows().items()
             if node == "scaled[2.0]" and field == "value"}  # fmt: skip
    assert values == {row: 2.5 * value for row, value in twice.items()}
