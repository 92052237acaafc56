"""`explain NODE ROW` says what it knows of a row, and points to the verb that knows its whole lineage."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import command
from toy_project import Project, toy_id


def test_a_row_is_explained_and_its_lineage_is_the_business_of_another_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = Project(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    call, row = command(monkeypatch, capsys), toy_id(3).hex()
    said = call("explain", "a", row[:8])
    assert said.code == 0
    assert "computed by no shard yet" in said.out
    assert (
        said.out.splitlines()[-1]
        == f"touchstone lineage a {row[:8]}: every step of the row with its settings and files"
    )
    project.run("a")
    pointed = call("lineage", "a", row[:8])
    assert pointed.code == 0
    assert row in pointed.out
