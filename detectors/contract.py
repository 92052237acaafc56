"""What all detector families share: features in, score out, and a state that is named tensors and plain data.

A family is a module with a `Config` (a `DetectorConfig`), `NETWORK` (runs on torch), `describe(config) -> str`,
`fit(config, train, val, control) -> State` and `score(config, state, features, device) -> float32 (n,)`, higher = more
fake, in [0, 1]. Families never see a file, a shard or an id: `train` and `val` are `Examples`, and `control` carries
the seed, the device and the way to survive a kill.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict


class DetectorConfig(BaseModel):
    """Base of all families' configs: frozen, unknown keys rejected. `feature` names the field that is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)

    family: str
    feature: str

    @property
    def fit_fields(self) -> Mapping[str, str]:
        """Setting -> field that it names: all that a fit reads. A score reads `feature` alone."""
        return {"feature": self.feature}

    @property
    def standardizes(self) -> bool:
        """Whether a fit takes mean and variance of each coefficient over the training rows, or is given them."""
        return False

    @property
    def resamples(self) -> bool:
        """Whether rows of another size than those of the training are brought to one size, and so can be scored."""
        return False


@dataclass(frozen=True)
class State:
    """A trained detector (or the progress of one): all that `score` needs."""

    tensors: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    plain: Mapping[str, Any] = field(default_factory=dict)  # JSON data


class Batches(Protocol):
    """Endless supply of shuffled training batches: one pass per iteration, a new order each time."""

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Pairs of torch tensors: features (n, ...) as stored, labels (n,) uint8."""
        ...

    def state(self) -> Mapping[str, Any]:
        """Where the order stands; plain data."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None: ...


class Examples(Protocol):
    """Features of one split with their labels, in a fixed order."""

    labels: NDArray[np.uint8]  # (n,) 1 = fake, 0 = real
    shape: tuple[int, ...]  # of one row's feature
    axes: tuple[str, ...]  # what they are, e.g. ("channel", "row", "column"); empty: nobody says

    def __len__(self) -> int: ...

    def array(self) -> NDArray[Any]:
        """All features at once, (n, *shape), as stored."""
        ...

    def blocks(self, size: int) -> Iterable[NDArray[Any]]:
        """The same features in blocks of at most `size` rows, in order."""
        ...

    def batches(self, size: int, seed: int, balanced: bool, device: str) -> Batches: ...

    def field(self, name: str) -> Examples:
        """Another field of the same rows."""
        ...


def _forget(state: State) -> None:
    del state


@dataclass
class Control:
    """What a fit may know of the run. `save` may raise, to stop the fit at a point from which it can go on."""

    seed: int = 0
    device: str = "cpu"
    restore: Callable[[], State | None] = lambda: None
    save: Callable[[State], None] = _forget
    report: Callable[[int, int], None] = lambda done, total: None
    moments: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None  # mean and variance to standardize with
