"""Claim: planning 1,000,000 rows takes at most 1.5 s and 300 MiB, and less than Metaxy, which plans rows too.

Seeds, a map over all of them, a second map over a filtered selection, and a third over a join of the first two on
their ids. The store holds the rows of all but the last. Measured is the whole process of `touchstone plan`, on an empty
store, on the full one, and with 1 % more seeds; the slowest counts. Metaxy 0.1.11 finds in turn what is new or stale of
as many rows and of two features above them, all of which its store has. Where it cannot be installed, the ratio is
against what it took on the machine of the results once: RECORDED_S.

    python -m benchmarks.plan_1m [--environments DIR]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.measure import emit, in_turn
from benchmarks.peers.environments import FOLDER
from benchmarks.peers.versions import Metaxy, metaxy
from benchmarks.processes import Ran, touchstone, write_pipeline

ROWS, MORE, ROUNDS = 1_000_000, 1_010_000, 5
GOAL_S, GOAL_MIB = 1.5, 300
RECORDED_S = 7.8
"""Processor seconds of Metaxy 0.1.11 for this, and 1.29 GiB."""

PIPELINE = f"""\
nodes:
  numbers: {{stage: "benchmarks.stand_ins:Seeds", count: {ROWS}}}
  halves: {{stage: "benchmarks.stand_ins:Half", of: numbers}}
  chosen:
    stage: "benchmarks.stand_ins:Half"
    of: {{of: numbers, where: split != test, take: {ROWS // 2}}}
  joined: {{stage: "benchmarks.stand_ins:Half", of: {{of: numbers, pair: halves}}}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, default=FOLDER, help="folder of the environments of peers")
    environments = parser.parse_args().environments.absolute()
    peaks: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pipeline(folder, PIPELINE)

        def plan(*arguments: str) -> Ran:
            ran = touchstone("plan", *arguments, folder=folder)
            peaks.append(ran.peak_mib)
            return ran

        empty = plan()
        print(f"empty store: {empty.seconds:.2f} s, {empty.peak_mib:.0f} MiB")
        filled = touchstone("run", "halves", "chosen", folder=folder)
        print(f"first run: {filled.seconds:.1f} s, {filled.peak_mib:.0f} MiB")
        peer: Metaxy | str = metaxy(folder, str(ROWS), environments)
        others = [] if isinstance(peer, str) else [peer.plan]
        same, more, *rest = in_turn([plan, lambda: plan("--set", f"nodes.numbers.count={MORE}"), *others], ROUNDS)
    seconds = max(same, more, empty.seconds)
    print(f"plan {same:.2f} s, with 1 % more rows {more:.2f} s, peak {max(peaks):.0f} MiB")
    facts = {"peak_mib": round(max(peaks), 1), "of_goal": round(seconds / GOAL_S, 3)}
    goals = f"(claim: {GOAL_S:g} s, {GOAL_MIB} MiB)"
    if isinstance(peer, str):
        theirs, against = RECORDED_S, f"Metaxy 0.1.11 as it was once, {RECORDED_S:g} s of one core; {peer} {goals}"
    else:
        theirs, against = rest[0], f"Metaxy 0.1.11 on as many rows and two features, {rest[0]:.2f} s {goals}"
        facts |= {"metaxy_cpu_s": peer.cpu_s, "metaxy_peak_mib": peer.peak_mib}
    emit(f"plan of {ROWS:,} rows and three maps, seconds", seconds, seconds / theirs, against, ROWS, **facts)


if __name__ == "__main__":
    main()
