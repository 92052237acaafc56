"""An epoch of a small CNN fed from shards against one fed from tensors in memory (12 KiB rows, CPU, one thread).

Run: python -m benchmarks.small_cnn_epoch. Goal: at most 1.10 times the epoch from memory. Both use the same loader,
hence the same order; only where the rows come from differs.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.measure import alternate, emit
from benchmarks.random_gather import make_dataset
from detectors.seeding import seeded
from pipeline.loader import Loader

ROWS, BATCH = 2048, 64


def main() -> None:
    import torch
    from torch import nn

    torch.set_num_threads(1)
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (ROWS, 3, 64, 64), dtype=np.uint8)
    labels = random.integers(0, 2, ROWS).astype(np.uint8)
    with seeded(0):
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 1),
        )  # fmt: skip
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)

    def epoch(loader: Loader) -> None:
        for batch in loader:
            scores = network(batch["image"].float() / 255)[:, 0]
            loss = nn.functional.binary_cross_entropy_with_logits(scores, batch["label"].float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    with tempfile.TemporaryDirectory() as folder:
        dataset = make_dataset(Path(folder), images, labels)
        shards = Loader(dataset, ["image"], BATCH, seed=0, preload=False)
        memory = Loader({"image": images, "label": labels}, ["image"], BATCH, seed=0, preload=True)
        ours, limit = alternate(lambda: epoch(shards), lambda: epoch(memory), rounds=9)
    emit("small CNN from shards, seconds per epoch", ours, ours / limit, "the same epoch from tensors in memory", ROWS)


if __name__ == "__main__":
    main()
