"""Numbers of an acceptance run: one JSON file that grows step by step, so that a step that dies costs nobody else."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.atomic import write_bytes


@dataclass(frozen=True)
class Acceptance:
    """Where and how a step runs.

    device   of torch: cuda, or cpu for a dry run
    out      folder of results.json and samples.png
    quick    the smallest sizes: shows that a step works, measures nothing
    seconds  that the generator trains
    only     part of the names of paths that run; empty: all
    """

    device: str
    out: Path
    quick: bool = False
    seconds: float = 300.0
    only: str = ""

    @property
    def on_gpu(self) -> bool:
        return self.device != "cpu"

    def wait(self) -> None:
        """Until the device is idle."""
        if self.on_gpu:
            torch.cuda.synchronize()

    def time(self, work: Callable[[], Any], rounds: int = 5, warm: int = 2) -> float:
        """Median seconds of calls that end with an idle device."""
        for _ in range(warm):
            work()
        found = []
        for _ in range(rounds):
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            found.append(time.perf_counter() - start)
        return statistics.median(found)

    def known(self) -> dict[str, Any]:
        """What the steps before have written."""
        path = self.out / "results.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def keep(self, step: str, values: Any) -> None:
        """Replace what is known of one step."""
        found = self.known() | {step: values}
        write_bytes(self.out / "results.json", (json.dumps(found, indent=1, default=str) + "\n").encode())


def sentences(found: dict[str, Any]) -> list[str]:
    """What a reader has to know of all steps, failures first. `found` is the content of results.json."""
    lines = [f"step {name.removesuffix('_failed')} failed: {found[name]}" for name in found if name.endswith("_failed")]
    for name, path in found.get("paths", {}).items():
        if isinstance(path, dict) and not path["ok"]:
            lines.append(f"path {name} failed: {path['error']} (at {' < '.join(reversed(path['where']))})")
        elif isinstance(path, dict) and not path["repeats"]:
            lines.append(f"path {name} gave other bytes the second time")
    for name, case in found.get("feeding", {}).items():
        if isinstance(case, dict):
            ratios = {key: round(value, 3) for key, value in case.items() if key.endswith("ratio")}
            lines.append(f"ResNet-50 on {name} from shards against resident tensors: {ratios} (goal 0.95)")
    if "lanes" in found:
        seconds = {name: round(value, 1) for name, value in found["lanes"].items() if name.endswith("_seconds")}
        equal = "the same rows" if found["lanes"]["equal"] else "OTHER ROWS"
        lines.append(f"a run on {found['lanes']['gpus']} GPUs: {seconds}, {equal}")
    for name, bench in found.get("programs", {}).items():
        if isinstance(bench, dict):
            lines.append(f"{name}: {bench.get('ratio', bench)}")
    if "generator" in found:
        shown = ("f32", "bf16", "repeats", "resumes", "run")
        lines.append(f"generator: { ({key: found['generator'].get(key) for key in shown}) }")
    return lines
