"""An environment of its own for each tool, made once by `pip` and kept in a folder that git ignores."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.processes import PROJECT

FOLDER = PROJECT / ".venv-peers"
WORK = ("numpy==2.4.6", "pillow==13.0.0")
"""What the work itself needs."""

INSTALL_S = 1200
"""Longest wait for one tool."""


def environment(name: str, requirements: tuple[str, ...], folder: Path = FOLDER) -> Path | str:
    """The interpreter of the environment with these distributions; a sentence where they cannot be installed."""
    place = folder / name
    python, ready = place / "bin" / "python", place / ".ready"
    wanted = "\n".join((*requirements, *WORK, ""))
    if ready.is_file() and ready.read_text(encoding="utf-8") == wanted:
        return python
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements, *WORK]
    for command in ([sys.executable, "-m", "venv", "--clear", str(place)], pip):
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S)
        except subprocess.TimeoutExpired:
            return f"{', '.join(requirements)} was not installed within {INSTALL_S} s"
        if ran.returncode != 0:
            said = [line for line in ran.stderr.splitlines() if line.startswith("ERROR")] or ["pip said nothing"]
            return f"{', '.join(requirements)} cannot be installed here: {said[-1].removeprefix('ERROR: ')}"
    ready.write_text(wanted, encoding="utf-8")
    return python
