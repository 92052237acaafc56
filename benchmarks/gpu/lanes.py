"""A run over several GPUs: a process for each of them against one process, and whether the rows are the same."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.results import Acceptance

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "manifests" / "weights"
PIPELINE = """
nodes:
  fakes: {{stage: sample, checkpoint: {weights}/stylegan2-small-raw.safetensors, count: {count}, shard_rows: {shard}}}
  residuals: {{stage: residual, of: fakes, model: {weights}/rdn-small-SR.safetensors, shard_rows: {shard}}}
"""
NODES = ("fakes", "residuals")


def lanes(run: Acceptance) -> dict[str, Any]:
    """Seconds of `touchstone run`, start included, in one process, with a process for one GPU and one for each."""
    from pipeline.running.devices import visible_gpus

    gpus = visible_gpus() if run.on_gpu else []
    first = {"CUDA_VISIBLE_DEVICES": gpus[0]} if gpus else {}
    ways: dict[str, tuple[list[str], dict[str, str]]] = {
        "one_process": (["--workers", "1"], first),
        "first_gpu": ([], first),
    }
    if len(gpus) > 1:
        ways["all_gpus"] = ([], {})
    count, shard = (24, 8) if run.quick else (16384, 512)
    found: dict[str, Any] = {"gpus": len(gpus), "rows": len(NODES) * count}
    digests = set()
    for name, (words, surroundings) in ways.items():
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "pipeline.yaml")
            file.write_text(PIPELINE.format(weights=WEIGHTS, count=count, shard=shard), encoding="utf-8")
            found[f"{name}_seconds"] = _seconds(run, file, words, surroundings)
            digests.add(_digest(file, run.device))
    return found | {"equal": len(digests) == 1}


def _seconds(run: Acceptance, file: Path, words: list[str], surroundings: dict[str, str]) -> float:
    """Of one command in a process of its own. Raises RuntimeError with its last words where it fails."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "pipeline", "run", "--device", run.device, *words]
    started = time.perf_counter()
    made = subprocess.run(
        command, cwd=file.parent, env=os.environ | {"PYTHONPATH": paths} | surroundings, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if made.returncode:
        raise RuntimeError(f"{' '.join(words) or 'run'} ended with {made.returncode}: {made.stderr[-600:]}")
    return time.perf_counter() - started


def _digest(file: Path, device: str) -> str:
    """Of the values of all rows; a plan needs no GPU."""
    from pipeline.open import Opened

    opened = Opened(file, device=device)
    return hashlib.sha256(b"".join(opened[node].digests().tobytes() for node in NODES)).hexdigest()
