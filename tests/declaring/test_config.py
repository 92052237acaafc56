"""`pipeline.yaml` to nodes: every mistake is one sentence with place, found and allowed, before anything is written."""

# ruff: noqa: E501 (one case of a table stands on one line)

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from toy_project import Project, tree

from pipeline.declaring.config import load_pipeline
from pipeline.errors import ConfigError

HEAD = 'nodes:\n  a: {stage: "toy:Numbers"}\n'

MISTAKES = [
    # (rest of the file, from line 3; what is said)
    ("b: {stage: 'toy:Scale', of: a, factr: 2}", "pipeline.yaml:3 nodes.b.factr is not a setting of 'scale'; did you mean 'factor'?"),
    ("b:\n    stage: 'toy:Scale'\n    of: a\n    factor: many", "pipeline.yaml:6 nodes.b.factor is 'many'; expected a valid number"),
    ("b: {stage: 'toy:Numbers', count: 1.5}", "pipeline.yaml:3 nodes.b.count is 1.5; expected a valid integer"),
    ("b: {stage: 'toy:Numbers', count: '3'}", "pipeline.yaml:3 nodes.b.count is '3'; expected a valid integer; write it without quotes"),
    ("b: {stage: 'toy:Scale', of: a, factor: 1e999}", "pipeline.yaml:3 nodes.b.factor is inf; expected a finite number"),
    ("b: {stage: train, on: a, detector: {preset: profile-svm, C: 1e999}}", "'C' is inf; expected a finite number"),
    ("b: {stage: claims, of: a, claims: [{says: x, more: {node: a}, than: 0.5, margin: nan}]}", "pipeline.yaml:3 nodes.b.claims.0.margin is 'nan'; expected a finite number"),
    ("b: {stage: 'toy:Numbers', count: big}", "pipeline.yaml:3 nodes.b.count is 'big'; expected a valid integer"),
    ("b: ['toy:Numbers', 3]", "pipeline.yaml:3 nodes.b is a list; expected a mapping, e.g. b: {stage: ...}"),
    ("b: {stage: 'toy:Numbers', count: 3\n  c: {stage: 'toy:Numbers'}", "pipeline.yaml:3 is not valid YAML: '{' in column 6 is not closed where line 4 goes on (did not find expected ',' or '}')"),
    ("b: {stage: 'toy:Numbers', count: true}", "pipeline.yaml:3 nodes.b.count is True; expected a valid integer"),
    ("b: {stage: 'toy:Scale'}", "pipeline.yaml:3 nodes.b lacks 'of' (rows), which the stage 'scale' needs"),
    ("b: {of: a}", "pipeline.yaml:3 nodes.b lacks 'stage'"),
    ("b: 3", "pipeline.yaml:3 nodes.b is 3; expected a mapping, e.g. b: {stage: ...}"),
    ("b: {stage: spektrum, of: a}", "pipeline.yaml:3 nodes.b.stage 'spektrum' is not a stage; did you mean 'spectrum'?"),
    ("b: {stage: 'toy:Absent'}", "pipeline.yaml:3 nodes.b.stage 'toy:Absent' is not a stage: toy has no class 'Absent'; allowed: Center, "),
    ("b: {stage: 'toy:scale'}", "'toy:scale' is not a stage: toy has no class 'scale'; did you mean 'Scale'?"),
    ("b: {stage: 'pipeline.cli:Nope'}", "'pipeline.cli:Nope' is not a stage: pipeline.cli has no class 'Nope'"),
    ("b: {stage: 'no_such_module:X'}", "nodes.b.stage 'no_such_module:X' cannot be imported as a stage: No module named"),
    ("b: {stage: 'toy:log'}", "pipeline.yaml:3 nodes.b.stage 'toy:log' is not a stage: log of toy is <function log"),
    ("b-c: {stage: 'toy:Numbers'}", "pipeline.yaml:3 nodes.b-c is not a node name; use letters, digits and _"),
    ("all: {stage: 'toy:Numbers'}", "pipeline.yaml:3 nodes.all gives rows, but 'all' is what tables call all sources together; rename it"),
    ("b: {stage: 'toy:Scale', of: aa}", "pipeline.yaml:3 nodes.b.of names 'aa', which is no node; did you mean 'a'?"),
    ("b: {stage: 'toy:Scale', of: [a, zzz]}", "nodes.b.of.1 names 'zzz', which is no node; allowed: a, b"),
    ("b: {stage: 'toy:Scale', of: []}", "nodes.b.of is an empty list; name at least one node"),
    ("b: {stage: 'toy:Scale', of: 3}", "nodes.b.of is 3; a view is a node name, a list, or a mapping with 'of'"),
    ("b: {stage: 'toy:Scale', of: {of: a, were: label = fake}}", "nodes.b.of.were is not a part of a view; did you mean 'where'?"),
    ("b: {stage: 'toy:Scale', of: {where: label = fake}}", "nodes.b.of lacks 'of': the nodes that the view selects from"),
    ("b: {stage: 'toy:Scale', of: {of: a, on: group}}", "nodes.b.of.on has no effect without 'pair'"),
    ("b: {stage: 'toy:Scale', of: {of: a, take: 0}}", "nodes.b.of.take is 0; expected a whole number of rows, 1 or more"),
    ("b: {stage: 'toy:Scale', of: {of: a, where: labl = fake}}", "nodes.b.of.where asks for 'labl'; did you mean 'label'?"),
    ("b: {stage: 'toy:Scale', of: {of: a, where: label = fak}}", "nodes.b.of.where compares label with 'fak'; did you mean 'fake'?"),
    ("b: {stage: 'toy:Scale', of: {of: a, where: split in test}}", "'in' wants a list [A, B], '=' one value"),
    ("b: {stage: 'toy:Scale', of: {of: a, where: fakes only}}", "nodes.b.of.where has 'fakes only'; expected FIELD = VALUE"),
    ("b: {stage: 'toy:Scale', of: {of: a, pair: a, on: label}}", "nodes.b.of.on is 'label'; views are paired on id or on group"),
    ("b: {stage: 'toy:Scale', of: a, shard_rows: 0}", "nodes.b.shard_rows is 0; expected a whole number, 1 or more"),
    ("b: {stage: 'toy:Scale', of: a, max_failed_rows: -1}", "nodes.b.max_failed_rows is -1; expected a whole number, 0 or more"),
    ("b: {stage: 'toy:Scale', of: b}", "nodes.b reads its own result: b -> b"),
    ("b: {stage: 'toy:Scale', of: c}\n  c: {stage: 'toy:Scale', of: b}", "pipeline.yaml:3 nodes.b reads its own result: b -> c -> b"),
    ("m: {stage: 'toy:Mean', on: a}\n  b: {stage: 'toy:Scale', of: m}", "pipeline.yaml:4 nodes.b reads rows of 'm', but 'mean' gives an artifact"),
    ("m: {stage: 'toy:Mean', on: a}\n  b: {stage: 'toy:Center', of: [a, m], mean: m}", "pipeline.yaml:4 nodes.b reads rows of 'm', but 'mean' gives an artifact"),
    ("b: {stage: 'toy:Center', of: a, mean: a}", "nodes.b reads 'a' as an artifact, but 'numbers' gives rows"),
    ("b: {stage: 'toy:Center', of: a, mean: {of: a}}", "nodes.b.mean is a mapping; expected the name of a node"),
    ("m: {stage: 'toy:Mean', matrix: {l: [real, fake]}, on: {of: a, where: 'label = {l}'}}\n  b: {stage: 'toy:Center', of: a, mean: m}",
     "pipeline.yaml:4 nodes.b.mean names 2 nodes (m[real], m[fake]), but takes one; add a matrix over them"),
    ("m: {stage: 'toy:Mean', matrix: {l: [real, fake]}, on: {of: a, where: 'label = {l}'}}\n  b: {stage: 'toy:Center', matrix: {x: [m]}, of: a, mean: '{x}'}",
     "nodes.b.mean names 2 nodes (m[real], m[fake]), but takes one; write `matrix: {x: m}`, or the nodes' names: a value of a list is one value"),
    ("b: {stage: 'toy:Offset', of: a, matrix: {t: [bad.txt]}, table: '{t}'}", "nodes.b (b[bad.txt]) the table says 'ten', expected a number"),
    ("b: {stage: perturb, of: a, protocol: custom, operations: [{op: jpg}]}", "pipeline.yaml:3 nodes.b.operations.0.op is 'jpg'; expected "),
    ("b: {stage: perturb, of: a, protocol: custom, operations: [{op: jpg}]}", "jpeg, blur, gaussian, crop, noise; did you mean 'jpeg'?"),
    ("b: {stage: perturb, of: a, protocol: custom, operations: [{op: 3}]}", "pipeline.yaml:3 nodes.b.operations.0.op is 3; expected "),
    ("b: {stage: perturb, of: a, protocol: custom, operations: [{op: jpeg, hgh: 3}]}", "pipeline.yaml:3 nodes.b.operations.0.hgh is not a setting of 'perturb'; did you mean 'high'?"),
    ("b: {stage: perturb, of: a, protocol: custom, operations: [{quality: 3}]}", "pipeline.yaml:3 nodes.b.operations.0 is a mapping; expected a mapping with 'op'"),
    ("b: {stage: train, on: a, detector: {preset: profile-svm, c: 1}}", "nodes.b.detector is a mapping; 'c' is not a setting of detector family 'svm'; did you mean 'C'?"),
    ("b: {stage: train, on: a, detector: {preset: profile-svm, zzz: 1}}", "'zzz' is not a setting of detector family 'svm'; allowed: C, "),
    ("b: {stage: 'toy:Scale', of: a, matrix: {factor: []}, factor: '{factor}'}", "pipeline.yaml:3 nodes.b.matrix.factor is a list; expected a list that is not empty, or a node"),
    ("b: {stage: 'toy:Scale', of: a, matrix: {}}", "nodes.b.matrix is a mapping; expected a mapping of names to lists, and not empty"),
    ("b: {stage: 'toy:Scale', of: a, matrix: [1]}", "nodes.b.matrix is a list; expected a mapping of names to lists"),
    ("b: {stage: 'toy:Scale', of: a, matrix: {factor: [1, 2]}}", "nodes.b.matrix.factor is used nowhere in 'b'; write {factor} where it belongs"),
    ("b: {stage: 'toy:Scale', of: a, matrix: {factor: [1.0]}, factor: '{facto}{factor}'}", "nodes.b.factor uses {facto}, which is no axis of the matrix; did you mean 'factor'?"),
    ("b: {stage: 'toy:Scale', of: a, matrix: {factor: [2, 2]}, factor: '{factor}'}", "nodes.b.matrix makes the instance b[2] twice; rename a value"),
    ("b: {stage: 'toy:Scale', of: a, matrix: {factor: [[2]]}, factor: '{factor}'}", "nodes.b.matrix.factor may hold words, numbers and true or false only"),
    ("b: {stage: 'toy:Scale', of: a, matrix: {factor: aa}, factor: '{factor}'}", "nodes.b.matrix.factor names 'aa', which is no node; did you mean 'a'?"),
    ("b: {stage: 'toy:Scale', of: '{x}', matrix: {x: b}}", "nodes.b.matrix.x names its own node; a matrix goes over another node or a list"),
    ("b: {stage: 'toy:Scale', of: '{x}', matrix: {x: c}}\n  c: {stage: 'toy:Scale', of: '{x}', matrix: {x: b}}", "nodes.b.matrix goes around in a circle of matrices"),
    ("b: {stage: 'toy:Scale', of: '{x}'}", "nodes.b.of names '{x}', which is no node"),
    ("b: {stage: 'toy:Offset', of: a, table: absent.txt}", "nodes.b.table names absent.txt, but absent.txt is not a file beside pipeline.yaml"),
    ("b: {stage: 'toy:Offset', of: a, table: pipelines.yaml}", "nodes.b.table names pipelines.yaml, but pipelines.yaml is not a file beside pipeline.yaml; did you mean 'pipeline.yaml'?"),
    ("b: {stage: 'toy:Offset', of: a, table: list.yaml#thre}", "nodes.b.table names list.yaml#thre, but list.yaml has no entry 'thre'; did you mean 'three'?"),
    ("b: {stage: 'toy:Offset', of: a, table: list.yaml#lost}", "list.yaml:2 lost.file is gone.txt, which does not exist; put the file there"),
    ("b: {stage: 'toy:Offset', of: a, table: list.yaml#nothing}", "list.yaml:3 nothing lacks 'file', the path of the checkpoint"),
    ("b: {stage: 'toy:Offset', of: a, table: list.yaml#short}", "list.yaml:4 short.sha256 is 'abc'; expected 64 hexadecimal digits"),
    ("b: {stage: 'toy:Offset', of: a, table: bad.txt}", "nodes.b the table says 'ten', expected a number"),
]  # fmt: skip

TOP = [
    ("[1]\n", "pipeline.yaml:1 is a list; expected a mapping with 'nodes'"),
    ("", "pipeline.yaml is empty; expected a mapping with 'nodes'"),
    ("nodes:\n  - {stage: 'toy:Numbers'}\n", "pipeline.yaml:1 nodes is a list, but must be a mapping of node names to stages"),
    ("seed: 1\n", "pipeline.yaml:1 nodes must be a mapping of node names to stages, and not empty"),
    ("nodes: {}\n", "pipeline.yaml:1 nodes must be a mapping"),
    ("sede: 1\n" + HEAD, "pipeline.yaml:1 sede is not a setting of the top level; did you mean 'seed'?"),
    ("seed: one\n" + HEAD, "pipeline.yaml:1 seed is 'one'; expected a valid integer"),
    ("threads: 0\n" + HEAD, "pipeline.yaml:1 threads is 0; expected greater than or equal to 1"),
    ("device: gpu\n" + HEAD, "pipeline.yaml:1 device is 'gpu'; expected 'cpu' or 'cuda'"),
    ("splits: {train: 0.5, val: 0.2, test: 0.2}\n" + HEAD, "pipeline.yaml:1 splits give train, val, test and add up to 0.9; expected train, val and test, each 0 or more, together 1"),
    ("splits: {train: 0.5, valid: 0.5}\n" + HEAD, "pipeline.yaml:1 splits"),
]  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    (tmp_path / "three.txt").write_text("3")
    (tmp_path / "bad.txt").write_text("ten")
    digest = hashlib.sha256(b"3").hexdigest()
    (tmp_path / "list.yaml").write_text(
        f"three: {{file: three.txt, sha256: {digest}}}\nlost: {{file: gone.txt}}\nnothing: {{sha256: x}}\n"
        f"short: {{file: three.txt, sha256: abc}}\nwrong: {{file: three.txt, sha256: {'a' * 64}}}\n"
    )
    return Project(tmp_path, monkeypatch, HEAD)


@pytest.mark.parametrize(("rest", "message"), MISTAKES)
def test_a_mistake_in_a_node_is_one_sentence_with_its_place(project: Project, rest: str, message: str) -> None:
    project.write(f"{HEAD}  {rest}\n")
    before = tree(project.folder)
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        project.run()
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    assert tree(project.folder) == before


@pytest.mark.parametrize(("text", "message"), TOP)
def test_a_mistake_at_the_top_is_one_sentence_with_its_place(project: Project, text: str, message: str) -> None:
    project.write(text)
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        project.load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("b: {stage: 'toy:Scale', of: {of: a, take: 99}}", "pipeline.yaml:3 nodes.b takes 99 rows of a view that has 10"),
        ("b: {stage: 'toy:Scale', of: {of: a, where: label = fake}}", "nodes.b reads no rows: 'of' selects nothing"),
        ("b: {stage: 'toy:Mean', on: {of: a, where: split = test}}", "nodes.b reads no rows: 'on' selects nothing in train or val"),
        ("c: {stage: 'toy:Numbers', first: 500}\n  b: {stage: 'toy:SumStage', of: {of: a, pair: c}}", "nodes.b pairs two views that share no id"),
        ("b: {stage: 'toy:Offset', of: a, table: list.yaml#wrong}", "nodes.b reads three.txt, whose SHA-256 is 4e07408562be..., but the manifest promises aaaaaaaaaaaa..."),
        ("b: {stage: 'toy:Scale', of: {of: a, pair: a}}\n  m: {stage: 'toy:Mean', on: {of: a, pair: b}}", "nodes.m reads pairs in 'on'; fits and reduces read plain views"),
        ("b: {stage: 'toy:Numbers', count: 0}", "nodes.b finds no rows"),
    ],
)  # fmt: skip
def test_what_only_the_rows_show_is_said_before_anything_is_entered_in_the_store(
    project: Project, rest: str, message: str
) -> None:
    project.write(f"{HEAD}  {rest}\n")
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        project.run()
    assert "\n" not in str(caught.value)
    assert [path for path in project.folder.glob("store/*") if path.name != ".cache"] == []
    assert not project.computed()


@pytest.mark.parametrize("store", ["/proc/nowhere", "bad.txt", "bad.txt/store"])
def test_a_store_that_cannot_be_written_is_named_by_its_line(project: Project, store: str) -> None:
    project.write(f"seed: 1\nstore: {store}\n{HEAD}")
    sentence = (
        rf"^pipeline\.yaml:2 store is '{store}', where nothing can be written \(\w.*\); name a folder of yours, re"
    )
    with pytest.raises(ConfigError, match=sentence):
        project.run()


def test_a_missing_file_names_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml does not exist; give the path"):
        load_pipeline(tmp_path / "absent.yaml")


def test_the_projects_manifests_serve_pipelines_elsewhere_that_have_none(project: Project) -> None:
    project.write("nodes:\n  b: {stage: sample, checkpoint: 'manifests/generators.yaml#progan-raw', count: 2}\n")
    reference = project.load().nodes["b"].files["checkpoint"]
    assert reference.path.samefile(Path(__file__).parents[2] / "manifests" / "weights" / "progan-small-raw.safetensors")
    (project.folder / "manifests").mkdir()
    (project.folder / "manifests" / "generators.yaml").write_text("other: {}\n")
    with pytest.raises(ConfigError, match="has no entry 'progan-raw'"):
        project.load()


def test_a_manifest_entry_gives_its_file_by_content(project: Project) -> None:
    project.write(HEAD + "  b: {stage: 'toy:Offset', of: a, table: list.yaml#three}\n")
    node = project.load().nodes["b"]
    assert node.files["table"].path == project.folder / "three.txt"
    assert project.plan().branches["b"][0].recipe.components["files"] == {"table": hashlib.sha256(b"3").hexdigest()}
    by_entry = project.plan().branches["b"][0].chain
    project.write(HEAD + "  b: {stage: 'toy:Offset', of: a, table: three.txt}\n")
    assert project.plan().branches["b"][0].chain == by_entry


def test_a_matrix_makes_one_node_per_cell_with_typed_values(project: Project) -> None:
    project.write(
        HEAD + "  b: {stage: 'toy:Scale', matrix: {f: [1, 2.5], l: [real, fake]}, of: {of: a, where: 'label = {l}'},"
        " factor: '{f}'}\n"
    )
    nodes = project.load().nodes
    assert list(nodes) == ["a", "b[1-real]", "b[1-fake]", "b[2.5-real]", "b[2.5-fake]"]
    assert nodes["b[2.5-fake]"].config.factor == 2.5
    assert nodes["b[2.5-fake]"].matrix == {"f": 2.5, "l": "fake"}


def test_a_matrix_over_another_node_follows_its_instances_in_any_order_of_the_file(project: Project) -> None:
    project.write("""
        nodes:
          centered: {stage: "toy:Center", matrix: {m: means}, of: a, mean: "{m}"}
          means: {stage: "toy:Mean", matrix: {l: [real, fake]}, on: {of: [a, b], where: "label = {l}"}}
          a: {stage: "toy:Numbers"}
          b: {stage: "toy:Numbers", first: 100, label: 1}
        """)
    nodes = project.load().nodes
    assert nodes["centered[fake]"].artifacts == {"mean": ("means[fake]",)}
    assert list(nodes).index("means[fake]") < list(nodes).index("centered[fake]")


def test_select_takes_all_instances_of_an_entry_and_what_they_read(project: Project) -> None:
    project.write(HEAD + "  c: {stage: 'toy:Numbers'}\n"
                  "  b: {stage: 'toy:Scale', matrix: {f: [1, 2]}, of: a, factor: '{f}'}\n")  # fmt: skip
    pipeline = project.load()
    assert pipeline.select(["b"]) == {"a", "b[1]", "b[2]"}
    assert pipeline.select(["b[2]"]) == {"a", "b[2]"}
    with pytest.raises(ConfigError, match=re.escape("there is no node 'bb' in pipeline.yaml; did you mean 'b'?")):
        pipeline.select(["bb"])


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("nodes.a.cuont=3", "--set nodes.a.cuont: nodes.a.cuont is not a setting of 'numbers'; did you mean 'count'?"),
        ("nodes.a.count=x", "--set nodes.a.count: nodes.a.count is 'x'; expected a valid integer"),
        ("sed=3", "--set sed: sed is not a setting of the top level; did you mean 'seed'?"),
        ("nodes.x.count=3", "--set nodes.x.count: there is no nodes.x; allowed: a"),
    ],
)
def test_set_is_checked_like_the_file_and_named_as_the_place(project: Project, assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        project.load(assignment)


def test_set_and_options_win_over_the_file(project: Project) -> None:
    pipeline = load_pipeline(project.file, ["nodes.a.count=3", "seed=7"], device="cpu")
    assert (pipeline.nodes["a"].config.count, pipeline.settings.seed) == (3, 7)
    with pytest.raises(ConfigError, match=re.escape("--device: device is 'tpu'; expected 'cpu' or 'cuda'")):
        load_pipeline(project.file, None, device="tpu")


def test_the_resolved_config_is_a_pipeline_file_that_means_the_same(project: Project, tmp_path: Path) -> None:
    import yaml

    project.write(HEAD + "  b: {stage: 'toy:Scale', of: a, factor: 3, shard_rows: 5, max_failed_rows: 2}\n")
    resolved: dict[str, Any] = project.load().resolved()
    assert resolved["nodes"]["b"] == {"stage": "toy:Scale", "of": "a", "factor": 3.0, "fail_above": None,
                                      "shard_rows": 5, "max_failed_rows": 2}  # fmt: skip
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(resolved, sort_keys=False))
    assert load_pipeline(again).resolved() == resolved
