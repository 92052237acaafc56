"""Timing shared by all benchmarks: alternate two ways of doing the same work in one process and compare medians.

Absolute times move by a factor of two with the load of a machine; the ratio of two medians taken turn by turn moves
much less. Every claim is therefore a ratio, and its benchmark ends with one line of JSON: {name, value, ratio, against,
n, machine}. Run a benchmark with one BLAS thread where the claim is about one core.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Work = Callable[[], Any]
RESULTS = Path(os.environ.get("BENCHMARK_RESULTS", Path(__file__).parent / "results"))
"""Where results are kept; the environment names another folder for runs whose numbers are not to be told."""


def alternate(a: Work, b: Work, rounds: int = 7) -> tuple[float, float]:
    """Median seconds of `a` and of `b`, run turn by turn after one warm-up of each; the order flips every round."""
    ours, theirs = in_turn([a, b], rounds)
    return ours, theirs


def in_turn(works: Sequence[Work], rounds: int = 7) -> list[float]:
    """Median seconds of each work, as `alternate` has them."""
    if rounds < 5:
        raise ValueError(f"{rounds} rounds are too few for a median; expected at least 5")
    for work in works:
        work()
    seconds: list[list[float]] = [[] for _ in works]
    for turn in range(rounds):
        for number in range(len(works)) if turn % 2 == 0 else reversed(range(len(works))):
            start = time.perf_counter()
            works[number]()
            seconds[number].append(time.perf_counter() - start)
    return [statistics.median(found) for found in seconds]


def machine() -> str:
    """Processor, usable cores, Python and system, in words and without a name of the computer."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
        model = names[0] if names else model
    except OSError:
        pass  # not Linux: the name that Python knows is enough
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores, Python {platform.python_version()}, {platform.system()}"


def emit(name: str, value: float, ratio: float, against: str, n: int, **facts: float) -> None:
    """Print the result and keep it in `results/`: `value` in the unit that `name` states, `ratio` against a named peer.

    n is the number of items; `facts` are further numbers of the same run. The file is named after the program.
    """
    result = {"name": name, "value": round(value, 6), "ratio": round(ratio, 3), "against": against, "n": n}
    result |= facts | {"machine": machine()}
    program = Path(sys.argv[0]).stem
    RESULTS.mkdir(exist_ok=True)
    kept = result | {"date": time.strftime("%Y-%m-%d")}
    (RESULTS / f"{program}.json").write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))
