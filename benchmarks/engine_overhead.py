"""Claim: at 2 ms of work per row the engine costs at most 15 % over a plain loop, with one worker.

The loop waits 2 ms per row, keeps 352 bytes and saves one file at the end; the engine does the same work in a stage,
with ids, digests, checksums, flushes and atomic publishing. Both are whole processes, imports included, from nothing.

    python -m benchmarks.engine_overhead
"""

from __future__ import annotations

import itertools
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import alternate, emit
from benchmarks.processes import PROJECT, run_process, touchstone, write_pipeline

ROWS, SECONDS, ROUNDS, CLAIM = 5_000, 0.002, 5, 1.15

PIPELINE = f"""\
nodes:
  numbers: {{stage: "benchmarks.stand_ins:Seeds", count: {ROWS}}}
  waits: {{stage: "benchmarks.stand_ins:Wait", of: numbers, seconds: {SECONDS}}}
"""

LOOP = f"""\
import numpy as np
from benchmarks.stand_ins import profile_after
np.save("profiles.npy", np.stack([profile_after({SECONDS}, number) for number in range({ROWS})]))
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pipeline(folder, PIPELINE)
        counter = itertools.count()

        def engine() -> None:
            store = f"store{next(counter)}"
            touchstone("run", "--workers", "1", "--set", f"store={store}", folder=folder)
            shutil.rmtree(folder / store)

        def loop() -> None:
            run_process([sys.executable, "-c", LOOP], folder, {"PYTHONPATH": str(PROJECT)})

        ours, plain = alternate(engine, loop, ROUNDS)
    print(f"engine {ours:.2f} s, plain loop {plain:.2f} s for {ROWS:,} rows")
    against = f"plain loop with the same work, {plain:.2f} s (claim: {CLAIM:g})"
    emit(f"run of {ROWS:,} rows at 2 ms, one worker, seconds", ours, ours / plain, against, ROWS)


if __name__ == "__main__":
    main()
