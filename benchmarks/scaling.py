"""How well 1 to 16 workers share a pipeline's cold run: the scheduler on a virtual clock, with recorded task times.

For each number of workers the pipeline is planned on an empty store, cut into works as a run would, and handed out by
the run's own loop (`simulated_schedule`). A shard takes its rows by the speed that a run has recorded for its stage, an
artifact what it took last; both come from the store of a run (`--store`), or from those that results keep. Not in it:
the start of the workers, and what they take from each other (memory bandwidth, disk): an upper bound, and the shape.

    python -m benchmarks.scaling [--pipeline FILE] [--store DIR]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS
from benchmarks.processes import PROJECT
from benchmarks.simulated_schedule import critical_path, simulate
from pipeline.declaring.config import load_pipeline
from pipeline.planning.plan import make_plan
from pipeline.planning.planned import Work
from pipeline.planning.rates import Rates, read_rates
from pipeline.running.run import open_scan
from pipeline.running.works import works_of
from pipeline.storage.store import Store

WORKERS = (1, 2, 4, 8, 16)


def works_from_nothing(file: Path, workers: int) -> list[Work]:
    """Works of a cold run."""
    with tempfile.TemporaryDirectory() as folder:
        pipeline = load_pipeline(file, [f"store={folder}/store"])
        plan = make_plan(pipeline, Store(pipeline.store), open_scan(pipeline, writable=False))
        return works_of(plan, workers)


def seconds_of(work: Work, rates: Rates) -> float:
    """What a work takes by what was recorded; nothing where nothing was."""
    if work.branch is not None:
        rate = rates.rows.get(work.branch.stage.name)
        return work.rows / rate if rate else 0.0
    assert work.artifact is not None
    return rates.seconds_of_fit(work.node, work.artifact.node.stage.name) or 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", type=Path, default=PROJECT / "pipeline.yaml")
    parser.add_argument("--store", type=Path, help="of a run of this pipeline; default: the recorded times of results")
    given = parser.parse_args()
    kept = RESULTS / "scaling.json"
    rates = read_rates(given.store) if given.store else Rates(**json.loads(kept.read_text(encoding="utf-8"))["rates"])
    rows: list[dict[str, Any]] = []
    seconds = partial(seconds_of, rates=rates)
    for workers in WORKERS:
        works = works_from_nothing(given.pipeline, workers)
        steps = simulate(works, seconds, workers)
        total, last = sum(map(seconds, works)), max(step.end for step in steps)
        path = critical_path(works, seconds)
        rows.append({
            "workers": workers, "works": len(works), "tasks": len(steps), "work_s": round(total, 1),
            "run_s": round(last, 1), "longest_chain_s": round(path, 1), "efficiency": round(total / last / workers, 3),
        })  # fmt: skip
        print(json.dumps(rows[-1]))
    results = {"pipeline": given.pipeline.name, "rows": rows, "rates": asdict(rates), "date": time.strftime("%Y-%m-%d")}
    RESULTS.mkdir(exist_ok=True)
    kept.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
