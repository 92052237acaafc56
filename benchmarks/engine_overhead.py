"""Claim: where each row is a PNG file and 2 ms of processor time, the engine costs at most 6 % over a plain loop.

The loop reads and decodes each file, works on it, keeps 352 bytes and saves one file at the end; the engine does the
same in a stage, with a look at the folder, ids, digests, checksums, flushes and atomic publishing. Both are whole
processes, imports included, from nothing, and use one thread for the work; the work keeps a processor busy, so that
publishing cannot hide behind a pause. The same is measured without files.

    python -m benchmarks.engine_overhead
"""

from __future__ import annotations

import itertools
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import alternate, emit
from benchmarks.peers.pictures import write_pictures
from benchmarks.processes import PROJECT, run_process, touchstone, write_pipeline

ROWS, ROUNDS, CLAIM = 5_000, 5, 1.06

PIPELINE = f"""\
nodes:
  numbers: {{stage: "benchmarks.stand_ins:Seeds", count: {ROWS}}}
  work: {{stage: "benchmarks.stand_ins:Work", of: numbers}}
  photos: {{stage: ingest, folder: photos}}
  pictured: {{stage: "benchmarks.stand_ins:Pictured", of: photos}}
"""

LOOPS = {
    "work": f"""\
import numpy as np
from benchmarks.stand_ins import profile_of
np.save("profiles.npy", np.stack([profile_of(number) for number in range({ROWS})]))
""",
    "pictured": """\
from pathlib import Path
import numpy as np
from benchmarks.stand_ins import decoded_sum, profile_of
files = sorted(Path("photos").iterdir())
np.save("profiles.npy", np.stack([profile_of(decoded_sum(path.read_bytes())) for path in files]))
""",
}


def compare(folder: Path, node: str) -> tuple[float, float]:
    """Seconds of the engine and of the loop for one node from nothing."""
    counter = itertools.count()

    def engine() -> None:
        store = f"store{next(counter)}"
        touchstone("run", node, "--workers", "1", "--set", f"store={store}", folder=folder)
        shutil.rmtree(folder / store)

    def loop() -> None:
        run_process([sys.executable, "-c", LOOPS[node]], folder, {"PYTHONPATH": str(PROJECT)})

    ours, plain = alternate(engine, loop, ROUNDS)
    print(f"{node}: engine {ours:.2f} s, plain loop {plain:.2f} s for {ROWS:,} rows")
    return ours, plain


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pipeline(folder, PIPELINE)
        write_pictures(folder / "photos", 0, ROWS)
        bare, bare_loop = compare(folder, "work")
        ours, plain = compare(folder, "pictured")
    against = f"plain loop with the same work, {plain:.2f} s (claim: {CLAIM:g})"
    emit(
        f"run of {ROWS:,} PNG files and 2 ms of work each, one worker, seconds", ours, ours / plain, against, ROWS,
        without_files=round(bare / bare_loop, 3), row_ms=round(1000 * bare_loop / ROWS, 2),
    )  # fmt: skip


if __name__ == "__main__":
    main()
