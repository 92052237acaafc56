"""`explain NODE ROW` says what it knows, and points to the verb that knows the whole lineage, once there is one."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import command
from toy_project import Project, toy_id

from pipeline.commands.options import app


def test_a_row_is_explained_and_its_lineage_is_the_business_of_another_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Project(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    call, row = command(monkeypatch, capsys), toy_id(3).hex()
    others = [
        one for one in app.registered_commands if "lineage" not in (one.name, getattr(one.callback, "__name__", ""))
    ]
    monkeypatch.setattr(app, "registered_commands", others)
    plain = call("explain", "a", row[:8])
    assert (plain.code, "touchstone lineage" in plain.out) == (0, False)
    assert "computed by no shard yet" in plain.out

    @app.command()
    def lineage(node: str, row: str) -> None:
        """Stands in for the verb."""

    pointed = call("explain", "a", row[:8])
    assert pointed.out.startswith(plain.out)
    assert f"touchstone lineage a {row[:8]}: every step of the row" in pointed.out
