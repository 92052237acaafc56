"""Claim: a plan, and a run with nothing to do, of 55 nodes take half of what they once took; a changed row a third.

`nodes_55.yaml` is the embedded default as it once was. Its store is complete: all rows and artifacts are published by
the engine, with zeros for values, which no plan reads. Measured are whole processes, imports included, turn by turn.
The changed row is one more of 1,000 with 2 ms of work each, against a run of the same pipeline with nothing to do.
The peer is this project at 405c3e9, which took 0.85 s and 0.2 s more where the goals were set, 0.45 and 0.06 s.

    python -m benchmarks.noop_nodes
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.add_one_percent import Growing
from benchmarks.before import COMMIT, Before
from benchmarks.measure import emit
from benchmarks.processes import PROJECT, Ran, run_process, touchstone

GOAL, FURTHER_GOAL, ROUNDS, ROWS = 0.45 / 0.85, 0.06 / 0.2, 7, 1000
FILE = Path(__file__).with_name("nodes_55.yaml")


def fill(file: Path) -> None:
    """Complete the store of a pipeline file in this process; every value is zero, and every artifact an empty file."""
    from pipeline.declaring.config import load_pipeline
    from pipeline.running import compute, make_artifact
    from pipeline.running.run import run
    from pipeline.stage import Batch

    def zeros(step: compute.Step, batch: Batch) -> tuple[compute.Arrays, dict[int, str]]:
        return compute._empty(step.schema, len(batch)), {}

    def nothing(tasks: Sequence[Any], views: Mapping[str, Any], contexts: Sequence[Any], stop: Any) -> None:
        for context in contexts:
            (context.out / "nothing").touch()

    compute._call = zeros
    make_artifact._fit = nothing
    run(load_pipeline(file), [])


class Complete:
    """The pipeline of 55 nodes with nothing to do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "pipeline.yaml").write_bytes(FILE.read_bytes())
        (folder / "manifests").symlink_to(PROJECT / "manifests")
        code = "import sys; from pathlib import Path; from benchmarks.noop_nodes import fill; fill(Path(sys.argv[1]))"
        run_process([sys.executable, "-c", code, "pipeline.yaml"], folder, {"PYTHONPATH": str(PROJECT)})
        self.nodes, self.rows = self.facts()

    def facts(self) -> tuple[int, int]:
        """Nodes, and rows and artifacts in all. Ends the benchmark if anything is left to do."""
        words = self.run().text.replace(",", "").split()
        return int(words[words.index("nodes") - 1]), int(words[words.index("rows") - 1])

    def run(self) -> Ran:
        ran = touchstone("run", folder=self.folder)
        if "nothing to compute" not in ran.text:
            raise SystemExit(f"expected nothing to compute, the run said: {ran.text}")
        return ran


def turns(folder: Path, plain: Growing, command: Callable[..., Ran]) -> list[Ran]:
    """A plan, a run with nothing to do of the 55 nodes; one of the growing pipeline, and one with a row more."""
    nothing = [command(verb, folder=folder) for verb in ("plan", "run")]
    if words := [ran.text for ran in nothing if "nothing to compute" not in ran.text]:
        raise SystemExit(f"expected nothing to compute, but it said: {words[0]}")
    return [*nothing, plain.run(plain.rows), plain.run(plain.rows + 1)]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        complete, before = Complete(Path(name) / "nodes"), Before(Path(name) / "before")
        before.complete(Path(name) / "nodes before")
        growing = [Growing(Path(name) / "row"), Growing(Path(name) / "row before", before.touchstone)]
        for one in growing:
            one.run(ROWS)
        sides = [
            (complete.folder, growing[0], touchstone),
            (Path(name) / "nodes before", growing[1], before.touchstone),
        ]
        rounds = [[turns(*side) for side in sides] for _ in range(ROUNDS)]
    now, then = (
        [[statistics.median(getattr(ran, unit) for ran in column) for column in zip(*side, strict=True)]
         for unit in ("seconds", "cpu_seconds")]
        for side in zip(*rounds, strict=True)
    )  # fmt: skip
    (planned, ran, idle, changed), cpu = now
    further, further_then = cpu[3] - cpu[2], then[1][3] - then[1][2]
    facts = {
        "plan_s": round(planned, 3),
        "run_s": round(ran, 3),
        "plan_cpu_s": round(cpu[0], 3),
        "run_cpu_s": round(cpu[1], 3),
        "plan_ratio": round(planned / then[0][0], 3),
        "run_ratio": round(ran / then[0][1], 3),
        "changed_row_s": round(changed - idle, 3),
        "changed_row_cpu_s": round(further, 3),
        "changed_row_ratio": round(further / further_then, 3),
        "peak_mib": round(max(one[0][1].peak_mib for one in rounds), 1),
    }
    print(facts)
    slower, slower_then = max(planned, ran), max(then[0][:2])
    against = f"{COMMIT}, {slower_then:.2f} s (claim: {GOAL:.2f}, and {FURTHER_GOAL:.2f} of its time for a changed row)"
    name = f"plan, or run with nothing to do, of {complete.nodes} nodes and {complete.rows:,} rows, seconds"
    emit(name, slower, slower / slower_then, against, complete.nodes, **facts)


if __name__ == "__main__":
    main()
