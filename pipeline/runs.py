"""Which process owns a temporary directory, and whether it is still alive.

A run is (host, process id, start time of the process): after a crash or a reboot the same process id has another start
time, so that nothing of a dead run is ever taken for a live one's. No lock is needed for correctness; this only says
what may be cleaned.
"""

from __future__ import annotations

import os
import re
import socket
import time
from dataclasses import dataclass
from pathlib import Path

FOREIGN_DAYS = 3
"""A run on another host counts as alive until it finishes or its file has not been touched for so long."""

RUN_NAME = re.compile(r"([A-Za-z0-9-]+)-(\d+)-(\d+)")


@dataclass(frozen=True)
class RunRecord:
    """One run of the pipeline; travels to its workers, whose temporaries belong to it."""

    host: str
    pid: int
    started: int  # clock ticks after the boot of the host, as in /proc/PID/stat; 0 where there is no /proc

    @property
    def id(self) -> str:
        return f"{self.host}-{self.pid}-{self.started}"


def this_run() -> RunRecord:
    """The record of this process."""
    return RunRecord(host_name(), os.getpid(), process_start(os.getpid()) or 0)


def parse_run(text: str) -> RunRecord | None:
    """The record behind a run's id, or None."""
    found = RUN_NAME.fullmatch(text)
    return RunRecord(found[1], int(found[2]), int(found[3])) if found else None


def host_name() -> str:
    """This host's name with letters, digits and '-' only."""
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname()) or "host"


def process_start(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot; None if there is no such process (or no /proc)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the command's name may contain spaces and parentheses
    return None if fields[0] in "ZX" else int(fields[19])


def alive(run: RunRecord, file: Path) -> bool:
    """Whether the run's process lives. `file` is the run's entry in the store, looked at for other hosts only."""
    if run.host != host_name():
        try:
            return time.time() - file.stat().st_mtime < FOREIGN_DAYS * 86400
        except FileNotFoundError:
            return False
    if run.started:
        return process_start(run.pid) == run.started
    try:
        os.kill(run.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
