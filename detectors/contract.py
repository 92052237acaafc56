"""What all detector families share: features in, score out, and a state that is named tensors and plain data.

A family is a module with a `Config` (a `DetectorConfig`), `describe(config) -> str`, `shapes(config, feature, plain)`
and `NUMBERS` (what a state holds, see `misfit`), `fit(config, train, val, control) -> State` and `score(config, state,
features, device) -> float32 (n,)`, higher = more fake, in [0, 1]. Where a state of the right shapes may still be none,
the family has `flaw(config, state) -> str`, a clause as that of `misfit`. Families never see a file, a shard or an id:
`train` and `val` are `Examples`, and `control` carries the seed, the device and the way to survive a kill.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import RLock
from typing import Any, ClassVar, Protocol, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict


class DetectorConfig(BaseModel):
    """Base of all families' configs: frozen, unknown keys rejected. `feature` names the field that is read.

    on_device  it is a network on torch: then device, threads and kernels are fixed before, and stand in recipes
    libraries  whose version can change what it learns or scores, beside those of every training
    fuses      it is made of trained detectors, `Control.members`
    learns     it reads training rows; else validation rows alone
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False, defer_build=True
    )

    on_device: ClassVar[bool] = False
    libraries: ClassVar[tuple[str, ...]] = ()
    fuses: ClassVar[bool] = False
    learns: ClassVar[bool] = True

    family: str
    feature: str

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules whose code decides what this config learns and scores; what they import counts with them."""
        return (type(self).__module__,)

    def check(self, shape: tuple[int, ...], axes: tuple[str, ...]) -> None:
        """Look at the feature of a row before anything runs; raises ValueError with one sentence if it does not fit.

        axes: what the row's axes are (`Examples.axes`); empty where nobody says.
        """

    def check_fields(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """The same of all fields that a fit reads together; shapes: setting -> shape of a row (see `fit_fields`)."""

    def environment(self) -> Mapping[str, str]:
        """Facts of the machine, beside libraries' versions, that change what is learned, e.g. libjpeg's version."""
        return {}

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


@dataclass(frozen=True, eq=False)
class State:
    """A trained detector (or the progress of one): all that `score` needs."""

    tensors: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    plain: Mapping[str, Any] = field(default_factory=dict)  # JSON data


Built = TypeVar("Built")
_BUILT: WeakKeyDictionary[State, dict[Hashable, Any]] = WeakKeyDictionary()
_BUILDING = RLock()


def built(state: State, key: Hashable, build: Callable[[], Built]) -> Built:
    """What `build` makes of a state, mostly its network on a device: made once, and kept as long as the state."""
    with _BUILDING:
        kept = _BUILT.setdefault(state, {})
        if key not in kept:
            kept[key] = build()
        made: Built = kept[key]
    return made


Shapes = Mapping[str, tuple[int | str, ...]]
"""Name of a tensor -> its shape; a side that has a name instead of a length is as long wherever the name stands."""


def misfit(state: State, shapes: Shapes, numbers: Iterable[str]) -> str:
    """What of a state that was read from a file cannot be: a clause, or "". numbers: names of plain data."""
    for name in numbers:
        value: Any = state.plain.get(name)
        if type(value) not in (int, float) or not math.isfinite(value):
            return f"its '{name}' is {str(value)[:40]}, expected a finite number"
    if state.tensors.keys() != shapes.keys():
        found = [", ".join(sorted(names)) or "none" for names in (state.tensors, shapes)]
        return f"its tensors are {found[0]}, expected {found[1]}"
    lengths: dict[str, int] = {}
    for name, shape in shapes.items():
        array = state.tensors[name]
        known = zip(shape, array.shape, strict=False)
        sides = [lengths.setdefault(side, length) if isinstance(side, str) else side for side, length in known]
        if len(shape) != array.ndim or tuple(sides) != array.shape:
            return f"its tensor '{name}' is {array.shape}, expected {tuple(sides) + shape[len(sides) :]}"
        if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
            return f"its tensor '{name}' ({array.dtype}) has values that are no finite numbers"
    return ""


def check_state(family: Any, config: DetectorConfig, state: State, feature: tuple[int, ...] | None) -> None:
    """Raise ValueError with a clause where a state that was read from a file cannot be one of this family.

    family: its module; feature: shape of a row that the detector learned from, if its card says so.
    """
    clause = misfit(state, family.shapes(config, feature, state.plain), family.NUMBERS)
    if not clause and hasattr(family, "flaw"):
        clause = family.flaw(config, state)
    if clause:
        raise ValueError(clause)


@dataclass(frozen=True)
class Member:
    """A trained detector as a part of another one: its family's module, what it learned, and its card (plain data)."""

    family: Any
    config: Any
    state: State
    card: Mapping[str, Any]

    @property
    def feature_shape(self) -> tuple[int, ...] | None:
        """Of a row that it learned from, if its card says so."""
        shape = self.card.get("feature_shape")
        return tuple(shape) if isinstance(shape, list) else None


class Batches(Protocol):
    """Endless supply of shuffled training batches: one pass per iteration, a new order each time."""

    def __iter__(self) -> Iterator[tuple[Any, Any, NDArray[np.void]]]:
        """Features (n, ...) as stored and labels (n,), both torch tensors; ids of the rows (n,) V16."""
        ...

    def state(self) -> Mapping[str, Any]:
        """Where the order stands; plain data."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None: ...


class Diverged(ArithmeticError):
    """A training has numbers that are not finite; one sentence."""


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


def _forget(_: Any) -> None:
    pass


def _interrupt() -> None:
    raise KeyboardInterrupt


@dataclass
class Control:
    """What a fit may know of the run, and the way to survive a kill.

    restore    the state that was saved last, or None
    save       keep a state from which the fit can go on; it may raise, to end the fit there
    stopping   whether the run wants to end: then a fit saves and, unless it is done, calls `interrupt`, which raises
    report     (done, total) steps
    log        all entries so far of the training's log, one mapping of numbers each
    moments    mean and variance to standardize with, in place of those of the training rows
    members    trained detectors of which this one is made
    weights    tensors of a published detector's file, which is calibrated, or from which a training goes on
    """

    seed: int = 0
    device: str = "cpu"
    restore: Callable[[], State | None] = lambda: None
    save: Callable[[State], None] = _forget
    stopping: Callable[[], bool] = lambda: False
    interrupt: Callable[[], None] = _interrupt
    report: Callable[[int, int], None] = lambda done, total: None
    log: Callable[[Sequence[Mapping[str, float]]], None] = _forget
    moments: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    members: tuple[Member, ...] = ()
    weights: Mapping[str, NDArray[Any]] | None = None
