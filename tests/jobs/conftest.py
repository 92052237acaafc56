"""The name of each job says how many steps it takes."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import command
from user_at_work import UserAtWork


@pytest.fixture
def user(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[UserAtWork]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.atomic.flush", lambda path: None)  # power cuts are not tested here, time is short
    before = set(sys.modules)
    found = UserAtWork(tmp_path, command(monkeypatch, capsys))
    yield found
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]  # whoever comes next imports a module of its own
    counted = re.search(r"_in_(\d+)_steps?\b", request.node.originalname)
    assert counted, "say in the name how many steps it takes"
    assert found.steps == int(counted[1])
