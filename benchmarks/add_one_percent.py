"""Claim: after 1 % more rows exactly those are computed, in at most 1.5 % of the time of the first run.

20,000 rows at 2 ms, one worker. Measured are whole processes. From a run that adds 200 rows are subtracted a run with
nothing to do and the imports that the first has and the second has not (zarr above all): each list of modules is read
from `python -X importtime`, and a process that imports exactly these is timed beside the runs. Every round adds 200
rows to what the last one left, and the stage itself counts the rows that it computes.

    python -m benchmarks.add_one_percent
"""

from __future__ import annotations

import re
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import emit
from benchmarks.processes import PROJECT, Ran, run_process, touchstone, write_pipeline

ROWS, ADDED, ROUNDS, CLAIM = 20_000, 200, 7, 0.015

PIPELINE = """\
nodes:
  numbers: {stage: "benchmarks.stand_ins:Seeds", count: 1}
  waits: {stage: "benchmarks.stand_ins:Wait", of: numbers, seconds: 0.002}
"""

IMPORTED = re.compile(r"^import time:\s+\d+ \|\s+\d+ \|\s*([\w.]+)\s*$", re.MULTILINE)

IMPORT_ALL = """\
import contextlib, importlib
for name in {names!r}:
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
"""


class Growing:
    """A pipeline whose source grows; `rows` says how many the store has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counter = folder / "computed"
        self.rows = 0
        write_pipeline(folder, PIPELINE)

    def arguments(self, rows: int) -> list[str]:
        return ["run", "--workers", "1", "--set", f"nodes.numbers.count={rows}"]

    def run(self, rows: int) -> Ran:
        """Run with this many rows; ends the benchmark unless exactly the new ones are computed."""
        self.counter.write_bytes(b"")
        ran = touchstone(*self.arguments(rows), folder=self.folder, environment={"COUNT_FILE": str(self.counter)})
        computed = len(self.counter.read_bytes())
        if computed != rows - self.rows:
            raise SystemExit(f"computed {computed} rows; expected exactly the {rows - self.rows} new ones")
        self.rows = rows
        return ran

    def modules(self, rows: int) -> list[str]:
        """Modules that such a run imports, in order."""
        command = [sys.executable, "-X", "importtime", "-m", "pipeline", *self.arguments(rows)]
        ran = run_process(command, self.folder, {"PYTHONPATH": str(PROJECT)})
        self.rows = rows
        return list(dict.fromkeys(IMPORTED.findall(ran.text)))


def import_seconds(names: list[str], folder: Path) -> float:
    """Wall time of a process that only imports these modules."""
    command = [sys.executable, "-c", IMPORT_ALL.format(names=names)]
    return run_process(command, folder, {"PYTHONPATH": str(PROJECT)}).seconds


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        growing = Growing(Path(name))
        cold = growing.run(ROWS)
        few = growing.modules(ROWS)
        many = growing.modules(ROWS + ADDED)
        print(f"first run {cold.seconds:.2f} s; modules: {len(few)} with nothing to do, {len(many)} with rows to add")
        parts: list[tuple[float, float, float]] = []
        for _ in range(ROUNDS):
            added = growing.run(growing.rows + ADDED).seconds
            idle = growing.run(growing.rows).seconds
            imports = import_seconds(many, growing.folder) - import_seconds(few, growing.folder)
            parts.append((added, idle, imports))
    added, idle, imports = (statistics.median(column) for column in zip(*parts, strict=True))
    extra = added - idle - imports
    print("adding, idle, imports:", "; ".join(" ".join(f"{part:.2f}" for part in row) for row in parts))
    print(f"adding {ADDED} rows {added:.2f} s, nothing to do {idle:.2f} s, imports between them {imports:.2f} s")
    against = f"first run of {ROWS:,} rows, {cold.seconds:.2f} s (claim: {CLAIM:g}, computed exactly {ADDED})"
    emit(f"adding {ADDED} rows of 2 ms, seconds", extra, extra / cold.seconds, against, ROWS, computed=ADDED)


if __name__ == "__main__":
    main()
