"""What images of a Glow are made from: normal numbers, and the random change of an attribute of Chai et al. 2020.

Either each image has a stream of random numbers of its own, or all are cut from one, as the published program does it.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.contents import kept_while_same
from stages.weights.weights_file import WeightsError

BATCH = 16  # images that the published program makes at a time
ATTRIBUTES = 40  # of CelebA, in the order of its list
NARROW_EYES, NO_BEARD, YOUNG = 23, 24, 39

FloatArray = NDArray[np.floating[Any]]


@kept_while_same(1)
def read_directions(path: Path, values: int) -> FloatArray:
    """Directions (40, values) of an .npy file, with the signs and the scale of the published program.

    values: of a latent. Raises WeightsError.
    """
    try:
        with np.errstate(all="ignore"):
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, MemoryError, OverflowError, TypeError) as error:
        raise WeightsError(f"{path} is no .npy file of directions: {str(error)[:200]}") from None
    shape = getattr(array, "shape", ())
    if not shape or shape[0] != ATTRIBUTES or array.size != ATTRIBUTES * values or array.dtype.kind != "f":
        found = f"{shape} of {getattr(array, 'dtype', type(array).__name__)}"
        raise WeightsError(f"{path} has the shape {found}; expected ({ATTRIBUTES}, {values}) floating-point numbers")
    found_directions = np.array(array, dtype=np.float64).reshape(ATTRIBUTES, values)
    if not np.isfinite(found_directions).all():
        raise WeightsError(f"{path} has values that are not finite")
    found_directions[[NO_BEARD, YOUNG]] *= -1
    found_directions[NARROW_EYES] *= 1.2
    return found_directions


def of_own_stream(seed: int, values: int, directions: FloatArray | None) -> tuple[FloatArray, int, float]:
    """Normal numbers (values,) float64, then attribute and amount, of numpy's RandomState(seed)."""
    state = np.random.RandomState(seed)
    normals = state.standard_normal(values)
    if directions is None:
        return normals, 0, 0.0
    return normals, int(state.randint(len(directions))), float(state.uniform(-1, 1))


class SharedStream:
    """Images of one stream, of RandomState(seed); attributes and amounts of a batch are those of RandomState(seed + 1).

    Any image may be asked for, by any thread; those in order cost no more than their own batch.
    """

    def __init__(self, seed: int, values: int) -> None:
        self.values, self.lock = values, threading.Lock()
        first = np.random.RandomState(seed), np.random.RandomState((seed + 1) % (1 << 32))
        self.states = [tuple(one.get_state() for one in first)]  # before each batch
        self.last: tuple[int, Any] = (-1, None)

    def image(self, number: int) -> tuple[FloatArray, int, float]:
        """As `of_own_stream`, of image `number` of the stream."""
        with self.lock:
            for batch in range(min(number // BATCH, len(self.states) - 1), number // BATCH + 1):
                if self.last[0] != batch:
                    self.last = batch, self._batch(batch)
            normals, tags, amounts = self.last[1]
        return normals[number % BATCH], int(tags[number % BATCH]), float(amounts[number % BATCH])

    def _batch(self, batch: int) -> tuple[FloatArray, NDArray[np.int64], FloatArray]:
        normal, attribute = np.random.RandomState(0), np.random.RandomState(0)
        for state, before in zip((normal, attribute), self.states[batch], strict=True):
            state.set_state(before)
        made = (
            normal.standard_normal((BATCH, self.values)),
            attribute.randint(ATTRIBUTES, size=BATCH),
            attribute.uniform(-1, 1, size=BATCH),
        )
        if len(self.states) == batch + 1:
            self.states.append((normal.get_state(), attribute.get_state()))
        return made


@lru_cache(maxsize=2)
def shared(seed: int, values: int) -> SharedStream:
    """The one stream of a process."""
    return SharedStream(seed, values)
