"""The same two stages over the same pictures by this project and by six other tools: `make peers`.

5,000 small PNG files are decoded and made into curves, by one process at a time. Per tool and event: processor time and
wall time of the whole process, imports included, and how many pictures were decoded and curves made, counted where that
is done. Events, one after the other on what the last one left: a cold run, a run with nothing to do (the median of
several), 1 % more pictures, another parameter of the curve, and an edit of a helper that the curve calls, which changes
all of its values. Every tool has an environment of its own; one that cannot be installed or fails is a sentence.

    python -m benchmarks.peers [TOOL ...] [--pictures N] [--idle N] [--environments DIR] [--busy SENTENCE] [--keep DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS, machine
from benchmarks.peers.environments import FOLDER, environment
from benchmarks.peers.pictures import write_pictures
from benchmarks.peers.tools import PLAIN, PROGRAMS, SHARED, TOOLS, Tool, command_line, executables
from benchmarks.processes import Ran, run_process
from benchmarks.run_all import replace_block

BEGIN, END = "<!-- peers: written by benchmarks.peers -->", "<!-- end of peers -->"
EVENTS = ("cold", "nothing to do", "1 % more", "one parameter", "edited helper")
GAINS = (1.0, 2.0)


class Bench:
    """The folder of one tool, and what its command does in it."""

    def __init__(self, tool: Tool, python: Path, folder: Path, pictures: Path) -> None:
        self.tool, self.python, self.folder = tool, python, folder
        self.counter = folder / "computed"
        shutil.copytree(pictures, folder / "photos")
        for name in (*SHARED, tool.program):
            shutil.copy(PROGRAMS / name, folder)
        self.variables = {"PYTHONPATH": ""} | {name: self._place(value) for name, value in tool.variables.items()}
        self.set_gain(GAINS[0])
        for command in tool.first:
            run_process(executables(command, python), folder, self.variables)

    def _place(self, value: str) -> str:
        """Words that name something in the folder as whole paths."""
        return str(self.folder / value) if value in ("coco.db", ".datachain", "home") else value

    def set_gain(self, gain: float) -> None:
        self.gain = gain
        self.tool.write(self.folder, gain, self.python)

    def edit_helper(self) -> None:
        path = self.folder / "picture_rings.py"
        path.write_text(path.read_text(encoding="utf-8").replace("offset = 0.0", "offset = 1.0"), encoding="utf-8")

    def run(self) -> dict[str, float]:
        """Seconds, processor seconds, MiB at most, and what was computed."""
        self.counter.write_bytes(b"")
        variables = {**self.variables, "COUNT_FILE": str(self.counter)}
        ran: Ran = run_process(command_line(self.tool, self.python, self.gain), self.folder, variables)
        found = self.counter.read_bytes()
        return {
            "seconds": round(ran.seconds, 3), "cpu_s": round(ran.cpu_seconds, 3), "peak_mib": round(ran.peak_mib, 1),
            "decoded": found.count(b"d"), "curves": found.count(b"c"),
        }  # fmt: skip


def measure(bench: Bench, count: int, idle: int) -> dict[str, dict[str, float]]:
    """All events of one tool."""
    found = {"cold": bench.run()}
    if bench.tool is PLAIN:
        return found
    runs = [bench.run() for _ in range(idle)]
    found["nothing to do"] = {name: statistics.median(one[name] for one in runs) for name in runs[0]}
    write_pictures(bench.folder / "photos", count, max(count // 100, 1))
    found["1 % more"] = bench.run()
    bench.set_gain(GAINS[1])
    found["one parameter"] = bench.run()
    bench.edit_helper()
    found["edited helper"] = bench.run()
    return found


def compare(tools: Sequence[Tool], count: int, idle: int, environments: Path, base: Path) -> dict[str, Any]:
    """Tool -> events, or a sentence why there are none."""
    pictures = base / "pictures"
    write_pictures(pictures, 0, count)
    found: dict[str, Any] = {}
    for tool in tools:
        folder = base / tool.name.replace(" ", "_")
        print(f"== {tool.name}", flush=True)
        python: Path | str = Path(sys.executable)
        if tool.requirements:
            python = environment(tool.name.lower(), tool.requirements, environments)
        if isinstance(python, str):
            found[tool.name] = {"sentence": python}
        else:
            folder.mkdir()
            try:
                found[tool.name] = {"events": measure(Bench(tool, python, folder, pictures), count, idle)}
            except SystemExit as error:
                found[tool.name] = {"sentence": f"failed here: {str(error).strip().splitlines()[-1][:200]}"}
            if tool.last:
                run_process(executables(tool.last, python), folder)
        print(json.dumps(found[tool.name]), flush=True)
    return found


def table(results: dict[str, Any]) -> str:
    """Lines of the table from the kept results."""
    n = results["pictures"]
    heads = [f"{event}, CPU s (wall)" for event in EVENTS]
    lines = [f"| tool | {' | '.join(heads)} | pictures / curves at 1 % more | edited helper noticed | command |",
             f"|---|{'---|' * len(EVENTS)}---|---|---|"]  # fmt: skip
    for tool in (PLAIN, *TOOLS):
        found = results["tools"].get(tool.name)
        if found is None:
            continue
        title = " ".join((tool.name, *(one.partition("==")[2] for one in tool.requirements)))
        command = " ".join(Path(word).name if os.sep in word else word for word in tool.command).format(gain="GAIN")
        if "sentence" in found:
            lines.append(f"| {title} | {found['sentence']} |{' |' * (len(EVENTS) + 1)} `{command}` |")
            continue
        events = found["events"]
        cells = [_cell(one, events[one], n) if one in events else "" for one in EVENTS]
        more, edited = events.get("1 % more"), events.get("edited helper")
        again = f"{more['decoded']:,.0f} / {more['curves']:,.0f}" if more else ""
        seen = "" if not edited else "yes" if edited["curves"] >= n else "no: stale values are served"
        lines.append(f"| {title} | {' | '.join(cells)} | {again} | {seen} | `{command}` |")
    remarks = [f"- {tool.name}: {tool.remark}." for tool in (PLAIN, *TOOLS) if tool.remark]
    busy = f" {results['busy']}" if results["busy"] else ""
    head = f"{n:,} pictures, {results['date']}, {results['machine']}.{busy}"
    return "\n".join([head, "", *lines, "", *remarks])


def _cell(event: str, found: Mapping[str, float], count: int) -> str:
    """Times of an event, and a word where all curves should have been made again and were not."""
    missed = event == "one parameter" and found["curves"] < count
    return f"{found['cpu_s']:.2f} ({found['seconds']:.2f}){': not noticed' if missed else ''}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [tool.name for tool in TOOLS]
    parser.add_argument("tools", nargs="*", metavar="TOOL", help=f"default: all of {', '.join(names)}")
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--idle", type=int, default=5, help="runs with nothing to do, of which the median counts")
    parser.add_argument("--environments", type=Path, default=FOLDER, help="folder of the environments")
    parser.add_argument("--busy", default="", help="a sentence about what else the machine did, for the results")
    parser.add_argument("--table", action="store_true", help="only write the table again")
    given = parser.parse_args()
    if unknown := set(given.tools) - set(names):
        parser.error(f"there is no tool {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    path = RESULTS / "peers.json"
    if not given.table:
        chosen = [tool for tool in TOOLS if not given.tools or tool.name in given.tools]
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)  # a database server may have a user of its own
            place = given.environments.absolute()
            found = compare((PLAIN, *chosen), given.pictures, max(given.idle, 1), place, Path(folder))
        results = {
            "pictures": given.pictures, "idle_runs": given.idle, "busy": given.busy, "machine": machine(),
            "date": time.strftime("%Y-%m-%d"), "tools": found,
        }  # fmt: skip
        RESULTS.mkdir(exist_ok=True)
        path.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    replace_block(BEGIN, END, table(json.loads(path.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
