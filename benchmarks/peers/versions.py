"""Metaxy as a planner of rows, for the claims about planning: it keeps versions of rows and says what is stale."""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks.peers.environments import FOLDER, environment
from benchmarks.peers.tools import PROGRAMS, TOOLS
from benchmarks.processes import Ran, run_process


class Metaxy:
    """Rows and the features above them, in a store that has all of them."""

    def __init__(self, python: Path, folder: Path, rows: str) -> None:
        self.command = [str(python), str(PROGRAMS / "metaxy_versions.py"), rows]
        self.folder = folder
        self.ran: list[Ran] = []
        run_process([*self.command, "--write"], folder, {"PYTHONPATH": ""})

    def plan(self) -> None:
        """Look for what is new or stale; ends the benchmark if there is something."""
        ran = run_process(self.command, self.folder, {"PYTHONPATH": ""})
        if ran.text.split()[-1] != "0":
            raise SystemExit(f"Metaxy: expected nothing to be stale, found {ran.text[-200:]}")
        self.ran.append(ran)

    @property
    def cpu_s(self) -> float:
        return round(statistics.median(one.cpu_seconds for one in self.ran), 2)

    @property
    def peak_mib(self) -> float:
        return round(max(one.peak_mib for one in self.ran), 1)


def metaxy(folder: Path, rows: str, environments: Path = FOLDER) -> Metaxy | str:
    """Metaxy over the files of a folder or over a number of rows; a sentence where it cannot be installed.

    folder: where its store goes; rows: the place of a folder, or a number
    """
    (tool,) = [one for one in TOOLS if one.name == "Metaxy"]
    python = environment(tool.name.lower(), tool.requirements, environments)
    return python if isinstance(python, str) else Metaxy(python, folder, rows)
