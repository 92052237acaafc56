"""Networks by name, and trainings killed and whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from detector_examples import Killed, MemoryExamples

from detectors import deep
from detectors.contract import Control, State


def patterned(count: int, seed: int, dtype: str = "uint8", shape: tuple[int, ...] = (32, 32, 3)) -> MemoryExamples:
    """Noise; that of a fake repeats every second row."""
    random = np.random.default_rng(seed)
    labels = (np.arange(count) % 2).astype(np.uint8)
    values = random.normal(0, 1, (count, *shape))
    axis = 1 if dtype == "uint8" else 2
    values = np.moveaxis(values, axis, 0)
    values[::2, labels == 1] += 1
    values = np.moveaxis(values, 0, axis)
    return MemoryExamples((128 + 30 * values if dtype == "uint8" else abs(values)).clip(0, 255).astype(dtype), labels)


def killed_and_whole(config: Any, train: MemoryExamples, val: MemoryExamples) -> tuple[State, State]:
    """A training that is killed after each epoch until it ends, and one that is not."""
    kept: list[State] = []

    def save(state: State) -> None:
        kept[:] = [state]
        raise Killed

    control = Control(seed=3, restore=lambda: kept[0] if kept else None, save=save)
    for _ in range(config.training.epochs):
        with pytest.raises(Killed):
            deep.fit(config, train, val, control)
    return deep.fit(config, train, val, control), deep.fit(config, train, val, Control(seed=3))
