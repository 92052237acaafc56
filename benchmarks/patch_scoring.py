"""Claim: scoring with a patch network runs at 90 % or more of the bare forward passes of its network.

One side is `deep.decision` on rows as stored: building the network from its state, batches padded to one size,
preprocessing, the mean over cells. The other calls the network alone on tensors that lie ready, in the same batches.

    python -m benchmarks.patch_scoring [--device cuda] [--rows N]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch starts its threads

import argparse
from typing import Any

import numpy as np
import torch

from benchmarks.measure import alternate, emit
from detectors import deep
from detectors.choosing import detector_config
from detectors.composed import new
from detectors.contract import Control, State
from detectors.training import tensors_of
from pipeline.stage import PICTURE
from stages.training.networks import prepare

SIDE, ROUNDS = 128, 7
ROWS = {"cpu": 128, "cuda": 8192}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=list(ROWS), default="cpu")
    parser.add_argument("--rows", type=int, help="to score")
    given = parser.parse_args()
    rows, device = given.rows or ROWS[given.device], given.device
    prepare(device, 1)
    config: Any = detector_config({
        "family": "deep", "feature": "image", "preprocessing": {"scaling": "symmetric"}, "head": {"kind": "patches"},
        "network": {"architecture": "resnet", "depth": 18, "stages": 2, "patches": True},
    })  # fmt: skip
    images = np.random.default_rng(1).integers(0, 256, (rows, SIDE, SIDE, 3), dtype=np.uint8)
    network = new(config, images.shape[1:], PICTURE, {}, Control(device=device)).eval()
    state = State(tensors_of(network), {"shape": list(images.shape[1:]), "axes": list(PICTURE)})
    ready = (torch.from_numpy(images).to(device).movedim(-1, 1).float() / 127.5 - 1).contiguous(
        memory_format=torch.channels_last
    )

    def bare() -> None:
        with torch.inference_mode():
            for batch in ready.split(config.micro_batch):
                network.network(batch)
        if device != "cpu":
            torch.cuda.synchronize()

    ours, limit = alternate(lambda: deep.decision(config, state, images, device), bare, ROUNDS)
    name = f"rows scored by a ResNet-18 to stage 2 at {SIDE} px, per second, on {device}"
    emit(name, rows / ours, limit / ours, "its network alone on tensors that lie ready", rows)


if __name__ == "__main__":
    main()
