"""Claim: a small CNN's epoch from shards is at least 2.5 times as fast as one from a folder of pictures.

One side is a training as `train` runs it, batches of 64 px gathered from shards each time. The other is what is written
most often: torchvision's ImageFolder over PNG files of 256 px as generators write them, Resize, ToTensor and Normalize,
a DataLoader without workers, the same network and optimizer. Both have one thread. `same_size` is the ratio where the
files were reduced to 64 px before, so that only opening and decoding are saved.

    python -m benchmarks.training_folder [--rows N]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch starts its threads

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from benchmarks.measure import alternate, emit
from benchmarks.random_gather import make_dataset
from benchmarks.training_epoch import BATCH, NETWORKS, ROUNDS, SCHEMA, SIDE, Streamed, learning
from detectors.training import Course
from stages.training.networks import prepare

CLASSES = ("0_real", "1_fake")
FULL = 256


def drawn(rows: int) -> np.ndarray[Any, Any]:
    """(rows, 256, 256, 3) uint8: blurred shapes with some noise, which PNG packs about as well as photographs."""
    random = np.random.default_rng(2)
    coarse = random.integers(0, 256, (rows, 12, 12, 3), dtype=np.uint8)
    smooth = np.stack(
        [np.asarray(Image.fromarray(one).resize((FULL, FULL), Image.Resampling.BICUBIC)) for one in coarse]
    )
    noise = random.normal(0, 3, smooth.shape).astype(np.float32)
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


def folder_of(place: Path, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> Path:
    """PNG files in one folder per class."""
    for name in CLASSES:
        (place / name).mkdir(parents=True)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        Image.fromarray(image).save(place / CLASSES[label] / f"{number:06}.png")
    return place


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=512, help="of an epoch")
    rows = parser.parse_args().rows
    prepare("cpu", 1)
    network = NETWORKS["small_cnn"][0]
    labels = (np.arange(rows) % 2).astype(np.uint8)
    full = drawn(rows)
    images = np.stack([np.asarray(Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for one in full])
    with tempfile.TemporaryDirectory() as folder:
        examples = Streamed(make_dataset(Path(folder) / "store", images, labels, SCHEMA), "image")
        trained, twin = (learning(network, examples, "cpu") for _ in range(2))

        def from_folder(loader: DataLoader[Any]) -> None:
            twin.network.train()
            for batch, wanted in loader:
                logits = twin.network.network(batch.contiguous(memory_format=torch.channels_last))[:, 0]
                loss = binary_cross_entropy_with_logits(logits, wanted.float())
                twin.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                twin.optimizer.step()

        scaled = [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
        reduced = [transforms.Resize(SIDE, transforms.InterpolationMode.BICUBIC), *scaled]
        loaders = [
            DataLoader(datasets.ImageFolder(str(place), transforms.Compose(steps)), BATCH, shuffle=True)
            for place, steps in (
                (folder_of(Path(folder) / "full", full, labels), reduced),
                (folder_of(Path(folder) / "small", images, labels), scaled),
            )
        ]
        ours, theirs = alternate(lambda: trained.epoch(Course()), lambda: from_folder(loaders[0]), ROUNDS)
        again, small = alternate(lambda: trained.epoch(Course()), lambda: from_folder(loaders[1]), ROUNDS)
    peer = "ImageFolder, Resize and DataLoader on PNG files of 256 px, one thread each"
    emit(
        "small CNN from shards, rows per second",
        rows / ours,
        theirs / ours,
        peer,
        rows,
        same_size=round(small / again, 3),
    )


if __name__ == "__main__":
    main()
