"""YAML with lines: the scalars of YAML 1.2, duplicate keys, merges, and `--set`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.declaring.document import Document, load
from pipeline.errors import ConfigError
from pipeline.sentences import describe, nearest


def read(tmp_path: Path, text: str) -> Document:
    path = tmp_path / "some.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"), ("yes", "yes"), ("no", "no"), ("off", "off"), ("y", "y"), ("true", True), ("False", False),
        ("1e-3", 1e-3), ("1E5", 1e5), ("-1.5", -1.5), (".5", 0.5), ("2.", 2.0), ("7", 7), ("-7", -7), ("010", 10),
        ("0x1f", 31), ("0o17", 15), ("1:30", "1:30"), ("1_000", "1_000"), ("0b11", "0b11"),
        ("2024-01-02", "2024-01-02"),
        ("~", None), ("null", None), ("", None), ("'1'", "1"), ('"true"', "true"), ("1.2.3", "1.2.3"), (".", "."),
        ("é", "é"), ("[1, on]", [1, "on"]), ("!!str 3", "3"), ("!!float 3", 3.0),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(tmp_path: Path, text: str, value: Any) -> None:
    found = read(tmp_path, f"key: {text}\n").data["key"]
    assert found == value
    assert type(found) is type(value)


def test_every_place_has_its_line(tmp_path: Path) -> None:
    document = read(tmp_path, "# first\nnodes:\n  a: {stage: x}\n  b:\n    stage: y\n    of:\n      - a\n      - c\n")
    assert document.where(()) == "some.yaml:2"
    assert document.where(("nodes", "a", "stage")) == "some.yaml:3"
    assert document.where(("nodes", "b", "stage")) == "some.yaml:5"
    assert document.where(("nodes", "b", "of", 1)) == "some.yaml:8"
    assert document.where(("nodes", "b", "size", "deep")) == "some.yaml:4"
    assert str(document.error(("nodes", "b", "of", 1), "is bad")) == "some.yaml:8 nodes.b.of.1 is bad"


def test_anchors_and_merges_work_and_explicit_keys_win(tmp_path: Path) -> None:
    document = read(tmp_path, "base: &b {x: 1, y: 2}\nother: &o {y: 3, z: 4}\nboth: {<<: [*b, *o], x: 9}\nsame: *b\n")
    assert document.data["both"] == {"x": 9, "y": 2, "z": 4}
    assert document.data["same"] == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "some.yaml:3 the key 'a' stands twice, first in line 1;"),
        ("a: {b: 1,\n  b: 2}\n", "some.yaml:2 the key 'b' stands twice, first in line 1;"),
        ("a: 1\nb: [1, 2\n", "some.yaml:2 is not valid YAML: '.' in column 4 is not closed where line 3 goes on"),
        ("a:\n\t- 1\n", "some.yaml:2 is not valid YAML: "),
        ("a: 1\n--- \nb: 2\n", "some.yaml:2 is not valid YAML: "),
        ("x: 1\n? [1, 2]\n: 3\n", "some.yaml:2 a key must be a word"),
        ("x: 1\na: !!python/object:os.system {}\n", r"some\.yaml:2 the tag .* is not allowed"),
        ("a: !!python/name:os.system ''\n", r"some\.yaml:1 the tag .* is not allowed"),
        ("x: 1\na: !!int ten\n", "some.yaml:2 'ten' is no int"),
        ("x: 1\na: {<<: [1]}\n", "some.yaml:2 '<<' merges mappings only"),
        ("a: &a [*a]\n", "an anchor that contains itself"),
    ],
)
def test_what_is_not_plain_data_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, text)


def test_files_that_are_missing_or_not_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml does not exist; give the path of a pipeline file"):
        load(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(ConfigError, match=r"binary\.yaml cannot be read as UTF-8 text"):
        load(tmp_path / "binary.yaml")


@pytest.mark.parametrize(
    "text", ["nodes:\n\ta: {stage: x}\n", "nodes:\n  a:\n  \tstage: x\n", "nodes:\n  a:\n    b: 1\n\tc: 2\n"]
)
def test_a_tab_that_indents_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^some\.yaml:[234] is not valid YAML: .*; indent with spaces, not with tabs$"
    ):
        read(tmp_path, text)


def test_yaml_that_is_wrong_elsewhere_has_no_word_on_tabs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not valid YAML") as caught:
        read(tmp_path, "a: 'b\tc'\nd: ]\n")
    assert "tabs" not in str(caught.value)


def test_set_writes_a_typed_value_and_is_named_in_later_errors(tmp_path: Path) -> None:
    document = read(tmp_path, "nodes:\n  a: {stage: x}\n")
    document.override("nodes.a.size=1e2")
    document.override("nodes.a.list=[1, on]")
    assert document.data["nodes"]["a"] == {"stage": "x", "size": 100.0, "list": [1, "on"]}
    assert str(document.error(("nodes", "a", "size"), "is bad")) == "--set nodes.a.size: nodes.a.size is bad"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("nodes.a.size", "--set nodes.a.size is not an assignment; write --set nodes.images.size=64"),
        ("nodes..size=3", "is not an assignment"),
        ("node.a.size=3", "--set node.a.size: there is no node; did you mean 'nodes'?"),
        ("nodes.aa.size=3", "--set nodes.aa.size: there is no nodes.aa; did you mean 'a'?"),
        ("nodes.a.stage.x=3", "--set nodes.a.stage.x: nodes.a.stage is not a mapping but 'x'"),
        ("nodes.a.size=[1", "has a value that is not YAML; quote it"),
    ],
)
def test_set_of_an_unknown_path_is_refused(tmp_path: Path, assignment: str, message: str) -> None:
    import re

    document = read(tmp_path, "nodes:\n  a: {stage: x}\n")
    with pytest.raises(ConfigError, match=re.escape(message)):
        document.override(assignment)


def test_words_in_messages_are_near_or_all_and_short() -> None:
    assert nearest("sise", ["size", "crop"]) == "; did you mean 'size'?"
    assert nearest("c", ["b", "C"]) == "; did you mean 'C'?"
    assert nearest("zzz", ["size", "crop"]) == "; allowed: crop, size"
    assert nearest("zzz", []) == ""
    assert (describe({}), describe([1]), describe(None)) == ("a mapping", "a list", "None")
    assert len(describe("x" * 200)) == 60
