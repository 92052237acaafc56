"""`group_by`: what matches, and expressions that would never end."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_line import command
from toy_project import Project

from pipeline.errors import ConfigError
from stages.images import grouping

NAMES = ["person12_3", "person7_45", "anna-1", "", "12_12", "a b_c", "x" * 300, "gr\udcfc_1"]


@pytest.mark.parametrize(
    ("expression", "quick"),
    [
        (r"(\d+)_", True),
        (r"person(\d+)_\d+$", True),
        (r"([^_]+)_", True),
        (r"^([a-z]+)", True),
        (r"[]a]*x?", True),
        (r"(.*)_[\d\]]{1,3}", True),
        (r"a\+\*\?(b)", True),
        (r"(a+)+$", False),
        (r"(a|a)*$", False),
        (r"(\d+)?", False),
        (r"(?P<name>\w+)_", True),
        (r"(?:ab)(\w+)_", True),
        (r"(?i:ab)_", False),
        (r"a*a*a*b", False),
        (r"(\w+)_\1", False),
        (r"(\w)(?=\d)", False),
        (r"(a(b)c)", False),
        (r"a++b", False),
    ],
)
def test_quick_expressions_and_others_give_the_same(expression: str, quick: bool) -> None:
    assert grouping.is_quick(expression) == quick
    expected = []
    for name in NAMES:
        found = re.match(expression, name)
        expected.append(None if found is None else (found[1] if found.re.groups else found[0]) or "")
    assert grouping.matched(expression, NAMES) == expected
    assert grouping._elsewhere(expression, NAMES, 60) == expected
    assert grouping._here(expression, NAMES, 60) == expected


@pytest.mark.parametrize("expression", ["(a+)+$", "(a|a)*$", "(a*)*b", "a*a*a*a*a*a*a*a*b"])
def test_an_expression_that_never_ends_is_a_sentence(expression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "TIME_S", 0.1)
    sentence = f"group_by {expression!r} takes more than 0 s for 2 file names; write it without repetitions"
    monkeypatch.setattr(grouping, "TIME_PER_NAME_S", 0.05)
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        grouping.matched(expression, ["b", "a" * 200 + "!"])


def test_an_expression_that_is_slow_for_very_many_names_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "TIME_S", 0.0)
    monkeypatch.setattr(grouping, "TIME_PER_NAME_S", 0.0)
    with pytest.raises(ConfigError, match=r"takes more than 0 s for 1,001 file names"):
        grouping.matched(".*.*b", ["a" * 255] * 1001)


@pytest.mark.parametrize(
    "expression", ["(" * 5000 + ")" * 5000, "[", "a" * 1001, "a{99999999999999999999}", "(?P<1>a)"]
)
def test_what_is_no_expression_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match="expected none, folder or a regular expression"):
        grouping.check(expression)


def test_the_command_ends_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Project(tmp_path, monkeypatch, """
        nodes:
          photos: {stage: ingest, folder: photos, group_by: "(a+)+$"}
        """)  # fmt: skip
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / f"{'a' * 60}!.png").write_bytes(b"")
    monkeypatch.setattr(grouping, "TIME_S", 1.0)
    said = command(monkeypatch, capsys)("plan", "--file", str(tmp_path / "pipeline.yaml"))
    assert (said.code, said.out) == (2, "")
    assert "nodes.photos group_by '(a+)+$' takes more than 1 s for 1 file names" in said.err
