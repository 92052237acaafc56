"""Claim: the residual stage runs at 90 % or more of the bare forward passes of its networks.

One side is `Residual.compute` on a batch: means of blocks, the re-synthesizer, the perceptual network, differences,
their means, float16. The other calls the networks alone on tensors that are ready, in the same micro-batches and the
same memory order. Both compute in float32 on the device given, with one thread on a CPU, with the shipped networks.

    python -m benchmarks.residual_forward [--device cuda]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch starts its threads

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import alternate, emit
from pipeline.running.memory import keep_freed_memory
from pipeline.stage import ID, Batch, Context
from stages.residual import LEVELS, Residual, ResidualConfig, micro_batch
from stages.resynthesis import perceptual, weights
from stages.resynthesis.scale import SCALE
from stages.training.networks import prepare

ROUNDS, CLAIM = 7, 0.90
WEIGHTS = Path(__file__).parents[1] / "manifests" / "weights"
FILES = {"model": WEIGHTS / "rdn-small-SR.safetensors", "perceptual": WEIGHTS / "perceptual-small.safetensors"}
ROWS = {"cpu": {64: 64, 128: 16, 256: 8}, "cuda": {64: 4096, 128: 1024, 256: 256}}  # pixels per side -> rows
ALL = ("pixel", "stage1", "stage2", "stage3", "stage4", "stage5")


def bare_forward(levels: tuple[str, ...], rows: int, size: int, device: str) -> Callable[[], None]:
    """The networks alone, on random tensors."""
    model = weights.load(FILES["model"], device)
    network: Any = perceptual.load(FILES["perceptual"], device) if len(levels) > 1 else None
    step = micro_batch((size, size), device)
    wanted = [LEVELS.index(level) for level in levels if level != "pixel"]

    def ready(count: int, side: int) -> Tensor:
        random = torch.Generator().manual_seed(side)
        return torch.rand((count, 3, side, side), generator=random).to(device, memory_format=torch.channels_last)

    small, large = ready(step, size // SCALE), ready(2 * step, size)

    def forward() -> None:
        with torch.inference_mode():
            for _ in range(0, rows, step):
                model(small)
                if network is not None:
                    network.stages(large, wanted)
        if device != "cpu":
            torch.cuda.synchronize()

    return forward


def compare(levels: tuple[str, ...], size: int, device: str) -> tuple[float, float]:
    """Images per second of the stage, and its speed over that of the bare networks."""
    rows = ROWS["cuda" if device != "cpu" else "cpu"][size]
    images = np.random.default_rng(size).integers(0, 256, (rows, size, size, 3), dtype=np.uint8)
    ids = np.zeros(rows, ID)
    batch = Batch(ids, (ids,), ({"image": images},))
    files = FILES if len(levels) > 1 else {"model": FILES["model"]}
    given = {"levels": list(levels), **{name: str(file) for name, file in files.items()}}
    config = ResidualConfig.model_validate(given)
    stage, context = Residual(), Context(seed=0, stage="residual", device=device, files=files)
    ours, theirs = alternate(
        lambda: stage.compute(config, batch, context), bare_forward(levels, rows, size, device), ROUNDS
    )
    return rows / ours, theirs / ours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    device = parser.parse_args().device
    prepare(device, 1)
    keep_freed_memory()  # as a run does; both sides gain
    ratios: dict[str, float] = {}
    worst: tuple[float, float, str, int] | None = None
    for size, rows in ROWS["cuda" if device != "cpu" else "cpu"].items():
        for levels in (("pixel",), ALL):
            rate, ratio = compare(levels, size, device)
            what = f"{'pixel' if levels == ('pixel',) else 'all levels'} at {size} px"
            print(f"{what}: {rate:.1f} images/s, ratio {ratio:.3f}")
            ratios[what.replace(" ", "_")] = round(ratio, 3)
            if worst is None or ratio < worst[0]:
                worst = (ratio, rate, what, rows)
    assert worst is not None
    ratio, rate, what, rows = worst
    where = "the CPU" if device == "cpu" else torch.cuda.get_device_name()
    against = f"bare forward of the networks, the least favorable of all: {what} (claim: {CLAIM:g})"
    emit(f"residual stage, images per second, on {where}", rate, ratio, against, rows, **ratios)


if __name__ == "__main__":
    main()
