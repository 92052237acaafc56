"""Claim: a small CNN's epoch from shards is at least 2.5 times as fast as one from a folder of the same pictures.

One side is a training as `train` runs it, batches gathered from shards each time. The other is what is written most
often: torchvision's ImageFolder over PNG files, ToTensor and Normalize, a DataLoader without workers, the same network
and optimizer. Both have one thread.

    python -m benchmarks.training_folder [--rows N]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch starts its threads

import argparse
import tempfile
from pathlib import Path

import torch
from PIL import Image
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from benchmarks.measure import alternate, emit
from benchmarks.random_gather import make_dataset
from benchmarks.training_epoch import BATCH, NETWORKS, ROUNDS, SCHEMA, Streamed, learning, made
from detectors.training import Course
from stages.training.networks import prepare

CLASSES = ("0_real", "1_fake")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2048, help="of an epoch")
    rows = parser.parse_args().rows
    prepare("cpu", 1)
    network = NETWORKS["small_cnn"][0]
    images, labels = made(rows)
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures"
        for name in CLASSES:
            (pictures / name).mkdir(parents=True)
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            Image.fromarray(image).save(pictures / CLASSES[label] / f"{number:06}.png")
        examples = Streamed(make_dataset(Path(folder) / "store", images, labels, SCHEMA), "image")
        trained, twin = (learning(network, examples, "cpu") for _ in range(2))
        scaled = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)])
        loader = DataLoader(datasets.ImageFolder(str(pictures), scaled), BATCH, shuffle=True)

        def from_folder() -> None:
            twin.network.train()
            for batch, wanted in loader:
                logits = twin.network.network(batch.contiguous(memory_format=torch.channels_last))[:, 0]
                loss = binary_cross_entropy_with_logits(logits, wanted.float())
                twin.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                twin.optimizer.step()

        ours, theirs = alternate(lambda: trained.epoch(Course()), from_folder, ROUNDS)
    peer = "ImageFolder and DataLoader on PNG files of the same pictures, one thread each"
    emit("small CNN from shards, rows per second", rows / ours, theirs / ours, peer, rows)


if __name__ == "__main__":
    main()
