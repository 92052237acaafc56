"""Claim: a detector learns from shards nearly as fast as a bare loop does from float32 tensors that lie ready.

One side is a training as `train` runs it: batches of uint8 gathered from shards (not preloaded), preprocessing,
network, optimizer. The other has the whole set as float32 tensors that are scaled and in the network's memory order,
picks batches of them in the same order and does the same steps. Validation is left out on both sides; blur and JPEG
are off; one thread on a CPU.

    python -m benchmarks.training_epoch [--device cuda] [--rows N]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch starts its threads

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import alternate, emit
from benchmarks.random_gather import make_dataset
from detectors.choosing import detector_config
from detectors.composed import Learning
from detectors.contract import Control
from detectors.training import Course
from pipeline.loader import Loader
from pipeline.stage import PICTURE, Field
from stages.evaluation.detector_file import FeatureRows, LoaderBatches
from stages.training.networks import prepare

SIDE, BATCH, ROUNDS = 64, 64, 7
SCHEMA = {"image": Field("uint8", (SIDE, SIDE, 3), "RGB, 0 to 255", PICTURE)}
NETWORKS: dict[str, tuple[dict[str, Any], int, float]] = {
    "small_cnn": ({"architecture": "small_cnn", "places": "mean"}, 2048, 1.05),
    "resnet18": ({"architecture": "resnet", "depth": 18}, 512, 1.04),
}
"""Name -> network, rows of an epoch on the CPU, goal."""


class Streamed(FeatureRows):
    """Rows whose batches come from the shards each time."""

    def batches(self, size: int, seed: int, balanced: bool, device: str) -> LoaderBatches:
        """As those of a training whose set does not fit into memory."""
        loader = Loader(self.dataset, [self.feature], size, seed, device, balanced=balanced, preload=False)
        return LoaderBatches(loader, self.feature, self.dataset.ids)


def made(rows: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Pictures of noise, and labels half of which are 1."""
    images = np.random.default_rng(1).integers(0, 256, (rows, SIDE, SIDE, 3), dtype=np.uint8)
    return images, (np.arange(rows) % 2).astype(np.uint8)


def learning(network: dict[str, Any], rows: FeatureRows, device: str) -> Learning:
    """A training of this network without augmentation, whose epochs do not validate."""
    config: Any = detector_config({
        "family": "deep", "feature": "image", "network": network, "preprocessing": {"scaling": "symmetric"},
        "training": {"batch": BATCH},
    })  # fmt: skip
    found = Learning(config, rows, rows, Control(device=device))
    found.validation = dict  # type: ignore[method-assign]
    return found


def resident(
    network: dict[str, Any], rows: FeatureRows, images: np.ndarray[Any, Any], device: str
) -> Callable[[], None]:
    """The same steps on tensors that lie ready."""
    twin = learning(network, rows, device)
    ready = (torch.from_numpy(images).to(device).movedim(-1, 1).float() / 127.5 - 1).contiguous(
        memory_format=torch.channels_last
    )
    labels = torch.from_numpy(rows.labels).to(device).float()
    order, epochs = Loader(rows.dataset, ["image"], BATCH, 0, balanced=True), iter(range(1 << 30))

    def epoch() -> None:
        twin.network.train()
        for places in torch.from_numpy(order.order(next(epochs))).to(device).split(BATCH):
            loss = twin.config.head.loss(twin.network.network(ready[places]), labels[places])
            twin.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            twin.optimizer.step()
        _wait(device)

    return epoch


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def ratio(name: str, device: str, count: int | None) -> tuple[float, float, int]:
    """(seconds of an epoch from shards, the same over seconds of the bare loop, rows)."""
    network, rows, _ = NETWORKS[name]
    rows = count or (rows if device == "cpu" else 32 * rows)
    images, labels = made(rows)
    with tempfile.TemporaryDirectory() as folder:
        examples = Streamed(make_dataset(Path(folder), images, labels, SCHEMA), "image")
        trained = learning(network, examples, device)

        def from_shards() -> None:
            trained.epoch(Course())
            _wait(device)

        ours, limit = alternate(from_shards, resident(network, examples, images, device), ROUNDS)
    return ours, ours / limit, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rows", type=int, help="of an epoch, to try it out")
    given = parser.parse_args()
    prepare(given.device, 1)
    found = {name: ratio(name, given.device, given.rows) for name in NETWORKS}
    worst = max(found, key=lambda name: found[name][1] / NETWORKS[name][2])
    seconds, times, rows = found[worst]
    ratios = {name: round(one[1], 3) for name, one in found.items()}
    against = f"bare loop over float32 tensors, the least favorable of both: {worst}"
    emit(f"epoch of {worst} from shards, seconds, on {given.device}", seconds, times, against, rows, **ratios)


if __name__ == "__main__":
    main()
