"""YAML that was made to hang or crash ends in one sentence, wherever YAML is read; what is written reads back."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from toy_project import Project, touchstone

from pipeline.declaring.document import load
from pipeline.declaring.file_settings import file_reference
from pipeline.errors import ConfigError
from pipeline.planning.pins import read_pins
from pipeline.yaml_text import COPIES, DEPTH, SETTINGS, Budget, compose, dump
from stages.images.manifests import read_manifest

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
MERGES = "a0: &a0 {x0: 1, y0: 2}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}], x{n}: 1}}\n" for n in range(1, 10)
)
LITTLE = Budget(SETTINGS.mebibytes, 20_000)
DEEP = rf"some\.yaml:1 is nested deeper than {DEPTH} levels; is a bracket not closed\?"

BOMBS = {
    "brackets": ("a: " + "[" * 200_000, DEEP),
    "closed brackets": ("a: " + "[" * 200_000 + "]" * 200_000, DEEP),
    "braces": ("a: " + "{a: " * 100_000, DEEP),
    "dashes": ("- " * 100_000, DEEP),
    "questions": ("? " * 100_000, DEEP),
    "laughs": (LAUGHS, r"some\.yaml:5 repeats 101,218 values by aliases up to \*a3, the most is 100,000"),
    "merges": (MERGES, r"some\.yaml:6 repeats 117,255 values by aliases up to \*a4, the most is 100,000"),
    "one alias, many times": ("a: &a x\nb: [" + "*a," * (COPIES + 1) + "]", r"some\.yaml:2 repeats 100,001 values"),
    "itself": ("a: &a\n  b: [*a]\n", r"some\.yaml:2 has an anchor that contains itself: \*a"),
    "values": ("a:\n" + "- 1\n" * LITTLE.values, r"some\.yaml:\d+ is past 20,000 values, the most that is read"),
    "bytes": ("# " + "x" * (SETTINGS.mebibytes << 20), r"some\.yaml is larger than 4 MiB, the most that is read"),
    "digits": ("a: " + "9" * 5000, r"some\.yaml:1 '9{50,60}\.\.\. is no int$"),
    "hexadecimal digits": ("a: 0x" + "f" * 5000, r"some\.yaml:1 '0xf+\.\.\. is no int$"),
    "documents": ("--- 1\n" * 100_000, r"some\.yaml:2 is not valid YAML: a second document begins here"),
    "no anchor": ("a: *b", r"some\.yaml:1 is not valid YAML: \*b names no anchor; write &b before it"),
    "two anchors": ("a: &b 1\nc: &b 2", r"some\.yaml:2 is not valid YAML: the anchor &b stands twice"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_ends_in_one_sentence(tmp_path: Path, name: str) -> None:
    text, message = BOMBS[name]
    path = tmp_path / "some.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load(path, LITTLE if name == "values" else SETTINGS)


def manifest_entry(folder: Path, path: Path) -> Any:
    from pipeline.declaring.document import Document

    return file_reference(f"{path.name}#x", ("here",), Document(folder / "pipeline.yaml", None), False)


READERS: dict[str, tuple[str, Callable[[Path, Path], Any]]] = {
    "a manifest of photographs": ("photos.yaml", lambda folder, path: read_manifest(path)),
    "a manifest of checkpoints": ("generators.yaml", manifest_entry),
    "the pins": ("manifests/pins.yaml", lambda folder, path: read_pins(folder)),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["brackets", "laughs", "itself"])
def test_every_reader_has_the_budgets(tmp_path: Path, reader: str, name: str) -> None:
    place, read = READERS[reader]
    text, message = BOMBS[name]
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    with pytest.raises(ConfigError, match=message.replace("some", path.stem)):
        read(tmp_path, path)


def test_a_value_of_the_command_line_has_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path, monkeypatch)
    with pytest.raises(ConfigError, match=r"--set nodes.a.count has a value that is not YAML; quote it \(.* nested"):
        project.load("nodes.a.count=" + "[" * 100_000)


def test_the_command_says_so_and_does_not_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path, monkeypatch)
    project.file.write_text("nodes: " + "[" * 200_000)
    said = touchstone(project, "plan")
    assert (said.returncode, said.stdout) == (2, "")
    assert (
        said.stderr == f"touchstone: pipeline.yaml:1 is nested deeper than {DEPTH} levels; is a bracket not closed?\n"
    )


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_regular_file_is_not_read(tmp_path: Path, kind: str) -> None:
    path = Path(os.devnull) if kind == "device" else tmp_path / "pipe.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(ConfigError, match="is a device, pipe or socket; expected a file"):
        load(path)


def test_what_is_within_the_budget_is_read(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text("a: " + "[" * (DEPTH - 1) + "1" + "]" * (DEPTH - 1) + "\n")
    inner = load(path).data["a"]
    for _ in range(DEPTH - 1):
        (inner,) = inner
    assert inner == 1
    path.write_text("a: &a x\nb: [" + ", ".join(["*a"] * 1000) + "]\n")
    assert load(path).data == {"a": "x", "b": ["x"] * 1000}


@pytest.mark.parametrize(
    "text",
    [
        "a: {b: [1, 'x', \"y\"], c: ~}\n",
        "- a\n- [b, {c: d}]\n",
        "x",
        "",
        "a: |\n  two\n  lines\n",
        "<<: {a: 1}\n",
        "é: ü\n",
    ],
)
def test_nodes_are_those_that_the_library_makes(text: str) -> None:
    from pipeline.yaml_text import Loader

    ours, theirs = compose(text, "some.yaml", SETTINGS), yaml.compose(text, Loader=Loader)
    assert (ours is None) == (theirs is None)
    if ours is not None:
        assert yaml.serialize(ours) == yaml.serialize(theirs)


WORDS = [
    "12345678e1234567", "0123456789012388", "1e5", "0x1f", "0o17", "true", "True", "on", "no", "~", "null", "", "1_000",
    "1:30", "2024-01-02", "-", "plain", "a: b", "# c", "ü", "0.5", ".5", "00", "=", "<<", "*a", "line\nbreak",
]  # fmt: skip


def test_words_that_look_like_something_else_read_back_as_words(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    data = {"words": WORDS, "numbers": [1, -2.5, 1e-9, 1e30, True, None], **{word: 1 for word in WORDS if word != "<<"}}
    path.write_text(dump(data), encoding="utf-8")
    assert load(path).data == data
    assert yaml.safe_load(dump({"words": WORDS})) == {"words": WORDS}, "as YAML 1.1 as well"


def test_a_budget_names_its_way_out() -> None:
    small = Budget(1, 3, "write less")
    with pytest.raises(ConfigError, match="the rows:1 is past 3 values, the most that is read; write less"):
        compose("[1, 2, 3]", "the rows", small)
