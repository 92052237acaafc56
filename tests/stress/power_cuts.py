"""Power cuts on a real journaled file system: what was published is there and whole, whatever the instant.

A file system in a file is mounted, a process publishes shards in it, and at a random instant the file system is shut
down without a flush of its journal (FS_IOC_SHUTDOWN), as by a power cut. It is mounted again, and every shard that is
there must be whole, every one that was said to be published must be there. Needs root, loop devices and mkfs.ext4:

    PYTHONPATH=tests python -m stress.power_cuts [--rounds 40] [--seed 0] [--unflushed]

`--unflushed` leaves the flushes out and must find damage, or the test tells nothing.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pipeline import atomic
from pipeline.errors import TouchstoneError
from pipeline.runs import this_run
from pipeline.stage import Field
from pipeline.storage.shards import Shard
from pipeline.storage.store import Store

SHUTDOWN, NOT_EVEN_THE_LOG = 0x8004587D, 2
CHAIN, SCHEMA = bytes(range(16)), {"image": Field("uint8", (3, 32, 32))}
MIB = 192


def publish(root: Path, told: int) -> None:
    """Publish shards until the file system is gone; a line to `told` for each that is there."""
    store, draw = Store(root, writable=True), np.random.default_rng(os.getpid())
    while True:
        ids = np.frombuffer(draw.bytes(16 * 24), "V16")
        arrays = {"image": draw.integers(0, 256, (24, 3, 32, 32), dtype=np.uint8)}
        name = store.stage_shard("spectrum", CHAIN, ids, arrays, SCHEMA, this_run())
        os.write(told, f"{name}\n".encode())


def child(root: Path) -> tuple[int, int]:
    """A process that publishes, and where it tells of it."""
    read, write = os.pipe()
    process = os.fork()
    if not process:
        try:
            publish(root, write)
        except (OSError, TouchstoneError):
            os._exit(0)
        os._exit(1)
    os.close(write)
    return process, read


def lines(descriptor: int) -> list[str]:
    with os.fdopen(descriptor) as file:
        return file.read().split()


def cut(image: Path, place: Path, after_s: float) -> list[str]:
    """Publish for a while, then cut the power; the shards that were said to be published."""
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    process, told = child(place / "store")
    time.sleep(after_s)
    root = os.open(place, os.O_RDONLY)
    fcntl.ioctl(root, SHUTDOWN, NOT_EVEN_THE_LOG.to_bytes(4, sys.byteorder))
    os.close(root)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    subprocess.run(["umount", place], check=True)
    return lines(told)


def problems(image: Path, place: Path, published: list[str]) -> tuple[list[str], int]:
    """What is wrong after the power is back, and how many shards there are."""
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    directory = place / "store" / "spectrum" / CHAIN[:8].hex()
    there = sorted(path for path in directory.glob("*.zarr") if not path.name.startswith("."))
    wrong = [f"{name} is gone" for name in published if directory / f"{name}.zarr" not in there]
    for path in there:
        try:
            Shard.open(path).verify()
        except TouchstoneError as error:
            wrong.append(str(error))
    subprocess.run(["umount", place], check=True)
    return wrong, len(there)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=40)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--unflushed", action="store_true")
    given = options.parse_args()
    if given.unflushed:
        atomic.flush = lambda path: None
    rng, damaged, shards = random.Random(given.seed), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        image, place = Path(folder, "disk"), Path(folder, "mounted")
        place.mkdir()
        for number in range(given.rounds):
            with image.open("wb") as file:
                file.truncate(MIB * 2**20)
            subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
            wrong, found = problems(image, place, cut(image, place, rng.uniform(0.2, 1.2)))
            damaged, shards = damaged + bool(wrong), shards + found
            print(f"{number}: {found} shards, {len(wrong)} wrong", *wrong[:2], sep="\n   ")
    print(f"{given.rounds} power cuts, {shards} shards, {damaged} times damaged")
    return 1 if bool(damaged) != given.unflushed else 0


if __name__ == "__main__":
    sys.exit(main())
