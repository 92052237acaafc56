"""Whole processes as the thing that is measured: wall and processor time, peak memory, and what they printed.

The peak of a child counts what its parent held at the moment of the start, so the benchmarks that state memory keep
numpy out of their own process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Ran:
    """A process that ended well."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    text: str  # stdout and stderr together


def run_process(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> Ran:
    """Run a command in `folder`. Ends the benchmark with the command's own words if it fails."""
    variables = dict(os.environ) | ONE_THREAD | dict(environment or {})
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program is compiled once, not at each start
    with open(folder / ".output", "w+b") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode(errors="replace")
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}; expected 0. It said:\n{text[-2000:]}")
    peak_mib = usage.ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
    return Ran(seconds, usage.ru_utime + usage.ru_stime, peak_mib, text)


def touchstone(*arguments: str, folder: Path, environment: Mapping[str, str] | None = None) -> Ran:
    """One `touchstone` command as its own process, in the folder of a `pipeline.yaml`."""
    places = {"PYTHONPATH": str(PROJECT)} | dict(environment or {})
    return run_process([sys.executable, str(PROJECT / "touchstone.py"), *arguments], folder, places)


def write_pipeline(folder: Path, text: str) -> None:
    """`pipeline.yaml` in a new folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pipeline.yaml").write_text(text, encoding="utf-8")
