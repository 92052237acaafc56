"""What is kept of sources: a plan with nothing new parses nothing, and a damaged or foreign file says nothing."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import contents
from pipeline.errors import StageError
from pipeline.planning import closure, source_facts

MODULES = ("stages.spectrum", "stages.ingest")


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """What makes this process one that has seen no source."""

    kept = ("_facts_of_file", "_counted_facts", "_uses")
    plain = {name: getattr(closure, name).__wrapped__ for name in kept}

    def forget() -> None:
        closure._facts.cache_clear()
        for name, function in plain.items():
            monkeypatch.setattr(closure, name, contents.kept_while_same(None)(function))
        source_facts._known.clear()
        source_facts._used.clear()

    forget()
    return forget


def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the modules that are parsed from now on."""
    plain, names = ast.parse, []

    def parse(source: bytes, name: str = "?", *more: object) -> ast.AST:
        names.append(name)
        return plain(source, name, *more)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(ast, "parse", parse)
    return names


def learn(store: Path) -> dict[str, str]:
    found = closure.closure(MODULES)
    closure.use_facts_of(store, learn=True)
    return found


def test_the_next_process_parses_no_source_and_finds_the_same(
    tmp_path: Path, anew: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = learn(tmp_path)
    assert set(MODULES) < set(found)
    anew()
    closure.use_facts_of(tmp_path)
    names = parsed(monkeypatch)
    assert closure.closure(MODULES) == found
    assert names == []


def test_an_edited_source_is_read_and_the_others_are_not(
    tmp_path: Path, anew: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "a.py", tmp_path / "b.py"
    path.write_text("import b\nVALUE = 1\n")
    other.write_text("VALUE = 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = closure.closure(("a",))
    closure.use_facts_of(tmp_path, learn=True)
    anew()
    path.write_text("import b\nVALUE = 3\n")
    closure.use_facts_of(tmp_path)
    names = parsed(monkeypatch)
    after = closure.closure(("a",))
    assert after["a"] != before["a"]
    assert after["b"] == before["b"]
    assert "b" not in names


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-9],
        lambda data: data.replace(b"[[", b"[[", 1)[:200] + bytes([data[200] ^ 1]) + data[201:],
        lambda data: b"",
        lambda data: b"\xff\xfe",
        lambda data: data.split(b"\n", 1)[0] + b"\n" + json.dumps({}).encode(),
    ],
    ids=["cut", "flipped", "empty", "no text", "other body"],
)
def test_a_damaged_file_says_nothing(
    tmp_path: Path, anew: Callable[[], None], monkeypatch: pytest.MonkeyPatch, change: Callable[[bytes], bytes]
) -> None:
    found = learn(tmp_path)
    file = tmp_path / source_facts.FILE
    file.write_bytes(change(file.read_bytes()))
    anew()
    closure.use_facts_of(tmp_path)
    names = parsed(monkeypatch)
    assert closure.closure(MODULES) == found
    assert set(MODULES) <= set(names)


def test_what_another_version_of_the_reader_found_says_nothing(tmp_path: Path) -> None:
    source_facts.learn("f" * 64, ("0" * 32, ("os",)))
    source_facts.save(tmp_path, b"one version")
    source_facts._used.clear()
    source_facts._known.clear()
    source_facts.load(tmp_path, b"another version")
    assert source_facts.recall("f" * 64) is None
    source_facts.load(tmp_path, b"one version")
    assert source_facts.recall("f" * 64) == ("0" * 32, ("os",))


def test_the_file_grows_no_further_than_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_facts, "MOST", 3)
    source_facts._used.clear()
    for number in range(5):
        source_facts._used.clear()
        source_facts.learn(f"{number:064}", ("0" * 32, ()))
        source_facts.save(tmp_path, b"")
    kept = json.loads((tmp_path / source_facts.FILE).read_text().split("\n", 1)[1])
    assert [int(key) for key in kept] == [4, 3, 2]


def test_what_a_users_code_does_is_kept_too(
    tmp_path: Path, anew: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.py"
    path.write_text("import math\nVALUE = math.pi\n")
    monkeypatch.syspath_prepend(tmp_path)
    closure.closure(("a",))
    closure.use_facts_of(tmp_path, learn=True)
    anew()
    closure.use_facts_of(tmp_path)
    names = parsed(monkeypatch)
    closure.closure(("a",))
    assert names == []
    path.write_text("import importlib\nVALUE = importlib.import_module('math').pi\n")
    anew()
    closure.use_facts_of(tmp_path)
    with pytest.raises(StageError, match=r"a\.py:2 uses importlib\.import_module"):
        closure.closure(("a",))
