"""One step of the acceptance: `python -m benchmarks.gpu STEP --out FOLDER [--device cpu --quick]`.

`accept.sh` runs them all. A step is a process of its own, since a lost CUDA context ends with it. From the root of the
repository, with the project and its folder `tests` in PYTHONPATH.
"""

from __future__ import annotations

import argparse
import os
import time
import traceback
from pathlib import Path

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before the first call of cuBLAS

from benchmarks.gpu.feeding import feeding
from benchmarks.gpu.generator import generator
from benchmarks.gpu.lanes import lanes
from benchmarks.gpu.machine import machine
from benchmarks.gpu.paths import paths
from benchmarks.gpu.programs import programs, tests
from benchmarks.gpu.results import Acceptance, sentences

STEPS = {one.__name__: one for one in (machine, tests, paths, lanes, feeding, programs, generator)}


def main() -> None:
    """Run a step, keep its numbers in results.json; or say what all steps found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("step", choices=[*STEPS, "summary"])
    parser.add_argument("--device", default="cuda", help="cuda, or cpu for a dry run")
    parser.add_argument("--out", required=True, type=Path, help="folder of results.json and samples.png")
    parser.add_argument("--seconds", type=float, help="that the generator trains (default: 300; 2 if quick)")
    parser.add_argument("--only", default="", help="part of the names of paths that run")
    parser.add_argument("--quick", action="store_true", help="smallest sizes: shows that it works, measures nothing")
    given = parser.parse_args()
    seconds = given.seconds if given.seconds is not None else 2 if given.quick else 300
    run = Acceptance(given.device, given.out, given.quick, seconds, given.only)
    run.out.mkdir(parents=True, exist_ok=True)
    if given.step == "summary":
        print("\n".join(sentences(run.known())))
        return
    start = time.perf_counter()
    try:
        values = STEPS[given.step](run)
    except BaseException as error:
        traceback.print_exc()
        run.keep(f"{given.step}_failed", f"{type(error).__name__}: {error}"[:1500])
        raise SystemExit(1) from None
    run.keep(given.step, values | {"step_seconds": round(time.perf_counter() - start, 1)})
    print(f"{given.step} took {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
