"""Augmented batches of a training: what works on the processor does so in threads, some batches ahead of the device.

A row's draws belong to (seed, row id, epoch, augmentation, name) and to nothing else, and batches come out in their
order, so neither threads nor batches nor a kill change a value.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detectors.contract import Batches
from detectors.draws import uniforms
from detectors.parts import Augmentation
from detectors.transfers import sent

AHEAD = 2
"""Batches in work while one is used."""

MOST_THREADS = 16


def divided(augmentations: Sequence[Augmentation]) -> tuple[Sequence[Augmentation], Sequence[Augmentation]]:
    """Those up to the last that works beside the device, and those behind it, which work on the device."""
    count = max((number + 1 for number, one in enumerate(augmentations) if one.beside), default=0)
    return augmentations[:count], augmentations[count:]


def place(augmentations: Sequence[Augmentation], device: str) -> str:
    """Device where rows are wanted first."""
    return "cpu" if divided(augmentations)[0] else device


def applied(
    augmentations: Sequence[Augmentation], seed: int, epoch: int, rows: Tensor, ids: NDArray[np.void]
) -> Tensor:
    """Rows (n, *shape) as the augmentations leave them, one after another; ids: (n,) V16."""
    for one in augmentations:
        if one.beside and rows.dtype != torch.uint8:
            raise ValueError(
                f"the augmentation '{one.augmentation}' acts on images of 8 bits, but the rows are {rows.dtype}; "
                "remove it, or store images"
            )

        def draw(name: str, count: int = 1, word: str = one.augmentation) -> NDArray[np.float64]:
            return uniforms(seed, ids, epoch, f"{word}/{name}", count)

        rows = import_module(one.code()).apply(one, rows, draw)
    return rows


def augmented(
    batches: Batches, augmentations: Sequence[Augmentation], seed: int, epoch: int, device: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows and labels of each batch, on the device."""
    beside, behind = divided(augmentations)
    for rows, labels, ids in _ahead(batches, beside, seed, epoch) if beside else batches:
        yield applied(behind, seed, epoch, sent(rows, device), ids), sent(labels, device)


def _ahead(
    batches: Batches, augmentations: Sequence[Augmentation], seed: int, epoch: int
) -> Iterator[tuple[Tensor, Tensor, NDArray[np.void]]]:
    """The same batches, each cut into parts that threads work on."""
    threads = min(MOST_THREADS, os.cpu_count() or 1)
    waiting: deque[tuple[list[Future[Tensor]], Tensor, NDArray[np.void]]] = deque()

    def first() -> tuple[Tensor, Tensor, NDArray[np.void]]:
        parts, labels, ids = waiting.popleft()
        return torch.cat([part.result() for part in parts]), labels, ids

    pool = ThreadPoolExecutor(threads, "augmentation")
    try:
        for rows, labels, ids in batches:
            size = -(-len(ids) // threads)
            parts = [slice(start, start + size) for start in range(0, len(ids), size)]
            made = [pool.submit(applied, augmentations, seed, epoch, rows[part], ids[part]) for part in parts]
            waiting.append((made, labels, ids))
            if len(waiting) > AHEAD:
                yield first()
        while waiting:
            yield first()
    finally:
        pool.shutdown(cancel_futures=True)
