"""The command `touchstone` in this process: what it says, and its exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import typer.main

from pipeline import cli


@dataclass
class Said:
    """Exit code and texts of one call."""

    code: int
    out: str
    err: str

    def facts(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Said]

built = cache(typer.main.get_command)
"""The verbs as click has them: the same for all calls, and made in 40 ms."""


def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Calls the command with some words; a traceback is a mistake, unless it was asked for."""

    def call(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["touchstone", *arguments])
        monkeypatch.setattr(typer.main, "get_command", built)
        capsys.readouterr()
        code: Any = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err or "--debug" in arguments
        return Said(int(code), captured.out, captured.err)

    return call
