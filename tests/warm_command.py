"""The command `touchstone` in a child of the warm process, with the caller's environment, folder and words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from warm_process import warm

import pipeline.commands.looking
import pipeline.commands.running
import pipeline.running.run  # noqa: F401
from pipeline import cli

LONGEST_S = 60


def call(
    arguments: tuple[str, ...], folder: Path, surroundings: Mapping[str, str], out: str = ""
) -> subprocess.CompletedProcess[str]:
    """What a call says, and its exit code; negative where a signal ended it. out: a file that takes its output."""
    with tempfile.TemporaryDirectory() as texts:
        places = {"out": out or str(Path(texts, "out")), "err": str(Path(texts, "err"))}
        case = {"arguments": arguments, "folder": str(folder), "surroundings": dict(surroundings), **places}
        code = warm().run(child, case)
        said = "" if out else Path(places["out"]).read_text(encoding="utf-8")
        return subprocess.CompletedProcess(
            ["touchstone", *arguments], code, said, Path(places["err"]).read_text(encoding="utf-8")
        )


def child(case: dict[str, Any]) -> None:
    """One call in this process."""
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(case[name], os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(case["surroundings"])
    os.chdir(case["folder"])
    sys.argv = ["touchstone", *case["arguments"]]
    signal.alarm(LONGEST_S)
    cli.main()
