"""The project's own programs on the device: its tests that are marked gpu, and the benchmarks that take `--device`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.gpu.results import Acceptance

ROOT = Path(__file__).resolve().parents[2]
TESTS = (
    "tests/test_loader.py",
    "tests/test_paths.py",
    "tests/detectors/test_captured.py",
    "tests/training/test_course.py",
    "tests/generators/test_spectral_losses.py",
)
"""Files with tests that are marked gpu, named because others read golden vectors that do not travel."""


def tests(run: Acceptance) -> dict[str, Any]:
    """Exit code and last lines of the tests marked gpu; of those of recorded steps that need none in a dry run."""
    marks, chosen = ("gpu", TESTS) if run.on_gpu else ("not stress and not gpu", TESTS[2:3])
    command = [sys.executable, "-m", "pytest", "-m", marks, "-q", "-p", "no:cacheprovider", "--tb=short", *chosen]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return {"rc": made.returncode, "tail": made.stdout[-3000:], "errors": made.stderr[-1000:]}


def programs(run: Acceptance) -> dict[str, Any]:
    """Sampling (goal 0.95 of the bare generator) and residuals (goal 0.9 of the bare networks)."""
    small = str(ROOT / "manifests" / "weights" / "stylegan2-small-raw.safetensors")
    commands = {
        "sample_256_micro_batch_8": ["sample_speed", "--micro-batch", "8"],
        "sample_256_micro_batch_32": ["sample_speed", "--micro-batch", "32"],
        "sample_64_small_micro_batch_8": ["sample_speed", "--checkpoint", small],
        "residual_forward": ["residual_forward"],
    }
    if run.quick:
        commands = {"sample_64_small_micro_batch_8": [*commands["sample_64_small_micro_batch_8"], "--images", "16"]}
    found: dict[str, Any] = {}
    for name, (program, *settings) in commands.items():
        command = [sys.executable, "-m", f"benchmarks.{program}", *settings, "--device", run.device]
        results = {"BENCHMARK_RESULTS": str(run.out.resolve())}
        made = subprocess.run(command, cwd=ROOT, env=os.environ | results, capture_output=True, text=True, check=False)
        lines = [line for line in made.stdout.splitlines() if line.startswith("{")]
        found[name] = json.loads(lines[-1]) if lines else {"rc": made.returncode, "error": made.stderr[-800:]}
        run.keep("programs", found)
        print(name, found[name], flush=True)
    return found
