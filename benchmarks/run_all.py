"""Runs the benchmarks one after the other and writes their last results into the table of README.md.

Each is a process of its own (`python -m benchmarks.NAME`) that keeps its result in `results/NAME.json`. The table is
made from these files, so that a number in it can always be traced to a run, its machine and its day.

    python -m benchmarks.run_all [NAME ...] [--table]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
BEGIN, END = "<!-- results: written by run_all -->", "<!-- end of results -->"


@dataclass(frozen=True)
class Claim:
    """What a benchmark shows, in words for the table."""

    program: str
    claim: str
    goal: str


CLAIMS = (
    Claim("noop_100k", "a run with nothing to do over 100,000 files is quick and small",
          "at most 0.15 of DVC 3.67 and 0.20 of Metaxy 0.1.11; 150 MiB; 10 us per further row; 0.1 s per further node"),
    Claim("noop_nodes", "a plan, and a run with nothing to do, of 55 nodes are quick; so is one changed row",
          "at most 0.53 of what 405c3e9 takes (0.45 s where it took 0.85 s); 0.30 for a changed row"),
    Claim("plan_1m", "a million rows are planned in seconds", "at most 1.5 s and 300 MiB"),
    Claim("engine_overhead", "the engine costs little beside a PNG file and 2 ms of processor time per row",
          "at most 1.06 of a plain loop"),
    Claim("add_one_percent", "1 % more rows cost 1 % of the work, whole processes, nothing subtracted",
          "at most 0.016 of the first run where 405c3e9 takes 0.020, exactly the new rows computed"),
    Claim("profile_speed", "batched azimuthal profiles are faster than the published loops", "at least 10 times"),
    Claim("feature_loops", "batched high-pass residuals, DCT-2d and FFT-2d are faster than loops over images",
          "at least 10 times at 256 px, 2 times at 64 px, 1.5 times at 256 px"),
    Claim("large_images", "all frequency features at 1024 px fit into memory with two workers", "at most 2048 MiB"),
    Claim("feature_kernels", "the stages of spectra and PRNU add little to their kernels",
          "at least 0.85 of the bare kernel"),
    Claim("residual_forward", "the residual stage adds little to its networks",
          "at least 0.9 of the bare forward passes"),
    Claim("feature_shards", "what a spectrum shard through the engine, flushed to the disk, costs beside its kernel",
          "no goal: the disk is measured"),
    Claim("sample_speed", "sampling through the stage keeps the generator busy",
          "at least 0.95 of the bare generator on a GPU; a CPU cannot show it"),
    Claim("random_gather", "random batches come from shards about as from a file in memory",
          "at least 0.85 of a memory map; small rows 1.0 and 0.5 of an Arrow table"),
    Claim("small_cnn_epoch", "an epoch from shards takes as long as from memory", "at most 1.10 of memory"),
    Claim("training_epoch", "a detector's epoch from shards takes as long as a bare loop over float32 tensors",
          "at most 1.05 for the small CNN and 1.04 for ResNet-18"),
    Claim("training_folder", "a detector's epoch from shards is quicker than one from a folder of pictures",
          "at least 2.5 times ImageFolder and DataLoader"),
    Claim("patch_scoring", "scoring with a patch network adds little to its forward passes",
          "at least 0.9 of the bare forward"),
    Claim("evaluate_speed", "detectors over the same rows are scored in one pass that reads each row once",
          "at most 1.10 of their bare forwards; SVM, forest and linear evaluated on 100,000 rows within 10 s each"),
    Claim("predict_speed", "`predict` adds little to decoding and to the model, and answers at once",
          "at least 0.9 of a bare script; first answer within 3 s without torch, 6 s with"),
    Claim("random_reads", "images come from LMDB, Parquet and tar in any order about as fast as by the bare library",
          "at least 0.8 of the bare library; 100,000 TFRecord records listed within 3 s of CPU time"),
    Claim("audit_speed", "an audit takes minutes, in bounded memory", "2,000 pairs at 256 px within 180 s"),
)  # fmt: skip


def last_result(program: str) -> dict[str, Any] | None:
    path = FOLDER / "results" / f"{program}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def table() -> str:
    """One line per claim, and below it the further numbers of the runs and their machines."""
    lines = ["| claim | command | goal | result | ratio | against | n | day |", "|---|---|---|---|---|---|---|---|"]
    details = []
    for one in CLAIMS:
        found = last_result(one.program)
        command = f"`python -m benchmarks.{one.program}`"
        if found is None:
            lines.append(f"| {one.claim} | {command} | {one.goal} | not run yet | | | | |")
            continue
        against = found["against"].partition(" (claim")[0]
        shown = f"{found['value']:,.3g}" if found["value"] < 1000 else f"{found['value']:,.0f}"
        lines.append(
            f"| {one.claim} | {command} | {one.goal} | {shown} ({found['name']}) | {found['ratio']:g} | {against} | "
            f"{found['n']:,} | {found['date']} |"
        )
        known = {"name", "value", "ratio", "against", "n", "machine", "date"}
        further = ", ".join(f"{key} {value:g}" for key, value in found.items() if key not in known)
        details.append(f"- `{one.program}`: {found['machine']}{f'; {further}' if further else ''}")
    return "\n".join([*lines, "", "Machines, and further numbers of the same runs:", "", *details])


def replace_block(begin: str, end: str, text: str) -> None:
    """Replace what stands between two marks in README.md."""
    path = FOLDER / "README.md"
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{path.name} lacks the lines '{begin}' and '{end}'; put them around the table")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    programs = [one.program for one in CLAIMS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(programs)}")
    parser.add_argument("--table", action="store_true", help="only write the table again")
    given = parser.parse_args()
    if unknown := set(given.names) - set(programs):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(programs)}")
    failed = []
    for program in [] if given.table else given.names or programs:
        print(f"== {program}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{program}"], cwd=FOLDER.parent).returncode != 0:
            failed.append(program)
    replace_block(BEGIN, END, table())
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}; their last results stand in the table")


if __name__ == "__main__":
    main()
