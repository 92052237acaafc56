"""Matrices: over nodes wherever they stand, in circles, and too many."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from toy_project import Project, touchstone

from pipeline.declaring.document import Document
from pipeline.declaring.matrix import MOST_NODES, expand
from pipeline.errors import ConfigError

SCALE = {"stage": "toy:Scale", "of": "{x}"}


def names(entries: dict[str, Any]) -> list[str]:
    return list(expand(entries, Document(Path("p.yaml"), {"nodes": entries})))


NODES: dict[str, Any] = {
    "a": {"stage": "s"},
    "m": {"stage": "s", "factor": "{f}", "matrix": {"f": [1, 2]}},
    "over": {**SCALE, "matrix": {"x": "a"}},
    "twice": {**SCALE, "matrix": {"x": "m"}},
    "thrice": {**SCALE, "matrix": {"x": "twice"}},
}
EXPECTED = {"a": ["a"], "m": ["m[1]", "m[2]"], "over": ["over[a]"], "twice": ["twice[1]", "twice[2]"],
            "thrice": ["thrice[1]", "thrice[2]"]}  # fmt: skip


def test_a_matrix_goes_over_a_node_wherever_that_one_stands() -> None:
    for order in itertools.permutations(NODES):
        expected = [name for entry in order for name in EXPECTED[entry]]
        assert names({entry: NODES[entry] for entry in order}) == expected


def test_a_pipeline_whose_matrix_comes_first_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path, monkeypatch, """
        nodes:
          b: {stage: "toy:Scale", matrix: {x: a, f: [2.0, 3.0]}, of: "{x}", factor: "{f}"}
          a: {stage: "toy:Numbers", count: 3}
        """)  # fmt: skip
    assert project.run().computed == {"a": 3, "b[a-2.0]": 3, "b[a-3.0]": 3}


@pytest.mark.parametrize(
    ("over", "circle"),
    [
        ({"b": "c", "c": "b"}, "b -> c -> b"),
        ({"z": "b", "b": "c", "c": "d", "d": "b"}, "b -> c -> d -> b"),
    ],
)
def test_a_circle_of_matrices_is_named(over: dict[str, str], circle: str) -> None:
    entries = {"a": {"stage": "s"}} | {name: {**SCALE, "matrix": {"x": other}} for name, other in over.items()}
    with pytest.raises(ConfigError, match=rf"nodes\.b\.matrix goes around in a circle of matrices: {circle}$"):
        names(entries)


@pytest.mark.parametrize(
    ("matrices", "found"),
    [
        ([{"x": list(range(1000)), "y": list(range(1000))}], r"1,000,000 nodes \(1000 x 1000 here\)"),
        ([{letter: list(range(10)) for letter in "abcdefghijklmnop"}], r"10,000,000,000,000,000 nodes \(10 x 10 x"),
        ([{"x": list(range(6000))}, {"x": list(range(6000))}], r"12,000 nodes \(6000 here\)"),
        ([{"x": list(range(200))}, {"x": "m0", "y": list(range(60))}], r"12,200 nodes \(200 x 60 here\)"),
    ],
)
def test_too_many_nodes_are_counted_and_not_made(matrices: list[dict[str, Any]], found: str) -> None:
    entries = {
        f"m{number}": {"stage": "s", "words": [f"{{{axis}}}" for axis in axes], "matrix": axes}
        for number, axes in enumerate(matrices)
    }
    message = rf"nodes\.m\d\.matrix brings the pipeline to {found}.*, the most is 10,000; shorten a list, or split"
    with pytest.raises(ConfigError, match=message):
        names(entries)
    assert len(names({"m": {"stage": "s", "x": "{x}", "matrix": {"x": list(range(MOST_NODES))}}})) == MOST_NODES


def test_a_long_line_of_nodes_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["nodes:", '  n0: {stage: "toy:Numbers", count: 1}']
    lines += [f'  n{number}: {{stage: "toy:Scale", of: n{number - 1}}}' for number in range(1, 3000)]
    project = Project(tmp_path, monkeypatch)
    for text in ("\n".join(lines), "\n".join([lines[0], *reversed(lines[1:])])):
        project.file.write_text(text)
        said = touchstone(project, "plan")
        assert said.returncode == 2
        assert "stands in a line of more than 200 nodes of which each reads the next; shorten it" in said.stderr
        assert "Traceback" not in said.stderr
    project.file.write_text("\n".join([lines[0], *reversed(lines[1:201])]))
    assert len(project.load().nodes) == 200
    project.file.write_text("\n".join(lines[:202]))
    with pytest.raises(ConfigError, match=r"nodes\.n200 stands in a line of more than 200 nodes"):
        project.load()


SEVERAL: dict[str, Any] = {
    "svm": {"stage": "s", "on": "{train}-{kind}", "matrix": {"train": ["p", "q"], "kind": ["x"]}},
    "fused": {"stage": "s"},
    "tables": {
        "stage": "s",
        "matrix": {"model": {"of": ["svm", "fused"]}, "split": ["val", "test"]},
        "model": "{model}",
        "split": "{split}",
    },
    "pages": {"stage": "s", "matrix": {"table": "tables"}, "of": "{table}", "title": "{table.model} of {table.split}"},
}


def test_an_axis_goes_over_the_nodes_of_several_entries_and_their_names_say_of_which() -> None:
    found = expand(SEVERAL, Document(Path("p.yaml"), {"nodes": SEVERAL}))
    tables = ["svm-p-x-val", "svm-p-x-test", "svm-q-x-val", "svm-q-x-test", "fused-val", "fused-test"]
    assert list(found) == [
        "svm[p-x]", "svm[q-x]", "fused", *(f"tables[{name}]" for name in tables), *(f"pages[{name}]" for name in tables)
    ]  # fmt: skip
    assert found["tables[svm-q-x-test]"].raw == {"stage": "s", "model": "svm[q-x]", "split": "test"}
    assert found["pages[svm-q-x-test]"].raw["title"] == "svm[q-x] of test"


def test_an_axis_over_nodes_knows_the_axes_of_these() -> None:
    entries = {
        **SEVERAL,
        "over": {"stage": "s", "matrix": {"m": "svm"}, "of": "{m}", "called": "{m.kind} of {m.train}"},
    }
    found = expand(entries, Document(Path("p.yaml"), {"nodes": entries}))
    assert found["over[p-x]"].raw["called"] == "x of p"
    assert found["over[p-x]"].cell == {"m": "svm[p-x]", "m.train": "p", "m.kind": "x"}
    entries["over"]["called"] = "{m.knid}"
    with pytest.raises(ConfigError, match=r"nodes\.over\.called uses \{m\.knid\}, .*; did you mean 'm\.kind'\?"):
        names(entries)


@pytest.mark.parametrize(
    ("axis", "sentence"),
    [
        ({"of": []}, r"model is a mapping; expected a list, a node, or \{of: \[NODE, NODE\]\}"),
        ({"of": ["svm"], "where": "x"}, "model is a mapping; expected a list, a node, or"),
        ({"of": ["svm", "fusde"]}, "model names 'fusde', which is no node; did you mean 'fused'"),
        ({"of": ["tables"]}, "model names its own node"),
    ],
)
def test_what_an_axis_cannot_go_over_is_a_sentence(axis: Any, sentence: str) -> None:
    entries = {**SEVERAL, "tables": {**SEVERAL["tables"], "matrix": {"model": axis, "split": ["val"]}}}
    with pytest.raises(ConfigError, match=sentence):
        names(entries)
