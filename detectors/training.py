"""The course of a training: steps are repeated until it ends; what was learned survives a kill; numbers are logged.

One course serves detectors (a step is an epoch), generators and re-synthesizers (a step is a batch). It knows named
arrays and plain data only; `Control` keeps them. A training that goes on from a saved state makes the same steps as one
that was never interrupted; on a CPU the weights are the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detectors.contract import Control, Diverged, State


class Learner(Protocol):
    """What is trained, and all of it that has to survive a kill.

    steps    steps so far
    numbers  further state
    random   generator of everything random, or None if nothing is drawn in an order
    advice   what to do about numbers that are not finite: the end of a sentence
    """

    steps: int
    numbers: dict[str, float]
    random: torch.Generator | None
    advice: str

    def networks(self) -> Mapping[str, nn.Module]:
        """By name, also those that only average."""
        ...

    def all_optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """By name."""
        ...

    def more(self) -> dict[str, Any]:
        """Further plain data."""
        ...

    def take_back(self, plain: Mapping[str, Any]) -> None:
        """Further plain data, as `more` gave it; may make new optimizers."""
        ...


@dataclass
class Course:
    """Where a training stands besides its tensors.

    seen  rows so far
    log   one entry per stretch of steps: means of their numbers
    best  arrays of all networks when `Pace.chooses` said so last
    """

    seen: int = 0
    log: list[dict[str, float]] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    best: dict[str, NDArray[Any]] = field(default_factory=dict)

    def add(self, numbers: Mapping[str, float]) -> None:
        """Numbers of a step, which need not be the same in all."""
        for name, number in numbers.items():
            self.sums[name] = self.sums.get(name, 0.0) + number
            self.counts[name] = self.counts.get(name, 0) + 1

    def close_entry(self, place: Mapping[str, float]) -> None:
        """One more entry of the log, which begins with where it ends."""
        means = {name: self.sums[name] / self.counts[name] for name in sorted(self.sums)}
        self.log.append({**place, **means})
        self.sums, self.counts = {}, {}

    def plain(self) -> dict[str, Any]:
        """All of it but the arrays."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "best"}


class Pace(Protocol):
    """What is due when. before, after: rows seen before and after a step."""

    def finished(self, course: Course) -> bool:
        """Whether there is no further step."""
        ...

    def place(self, course: Course) -> Mapping[str, float]:
        """Where an entry of the log ends."""
        ...

    def progress(self, course: Course) -> tuple[int, int]:
        """(done, total) for the user."""
        ...

    def closes(self, before: int, after: int) -> bool:
        """Whether an entry of the log ends with the step."""
        ...

    def saves(self, saved: int, after: int) -> bool:
        """Whether progress is saved; `saved`: rows seen when it was last."""
        ...

    def chooses(self, course: Course) -> bool:
        """Whether the networks of the entry that just closed are the best so far."""
        ...


def follow(
    learner: Learner,
    step: Callable[[Course], tuple[int, Mapping[str, float]]],
    pace: Pace,
    control: Control,
    after_step: Callable[[int, Course], None] = lambda before, course: None,
) -> Course:
    """Repeat `step` from the saved progress, if there is any, to the end.

    step        of the course: rows used, and numbers for the log
    after_step  of rows seen before the step and the course: pictures, mostly

    Raises Diverged where a number is not finite, and what `control.interrupt` raises when the run is to stop.
    """
    course, state = Course(), control.restore()
    if state is not None:
        course = restored(learner, state)
    saved = course.seen
    while not pace.finished(course):
        before = course.seen
        used, numbers = step(course)
        _check(learner, numbers, before)
        course.seen = before + used
        course.add(numbers)
        if pace.closes(before, course.seen):
            course.close_entry(pace.place(course))
            if pace.chooses(course):
                course.best = arrays(learner)
            control.log(course.log)
        after_step(before, course)
        control.report(*pace.progress(course))
        finished, stop = pace.finished(course), control.stopping()
        if stop or finished or pace.saves(saved, course.seen):
            control.save(progress(learner, course))
            saved = course.seen
        if stop and not finished:
            control.interrupt()
    return course


def _check(learner: Learner, numbers: Mapping[str, float], seen: int) -> None:
    for name, number in numbers.items():
        if not np.isfinite(number):
            raise Diverged(
                f"training diverged: '{name}' is {number} after {seen / 1000:.1f} thousand images; {learner.advice}"
            )


def tensors_of(network: nn.Module) -> dict[str, NDArray[Any]]:
    """Copies of a state dict as numpy arrays."""
    return {name: _array(tensor) for name, tensor in network.state_dict().items()}


def arrays(learner: Learner) -> dict[str, NDArray[Any]]:
    """Of all networks, `NETWORK/TENSOR`."""
    return {
        f"{name}/{key}": value for name, one in learner.networks().items() for key, value in tensors_of(one).items()
    }


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    return np.array(tensor.detach().cpu().numpy())


def progress(learner: Learner, course: Course) -> State:
    """All that a training needs to go on."""
    tensors = {f"network/{name}": value for name, value in arrays(learner).items()}
    for name, optimizer in learner.all_optimizers().items():
        for index, moments in optimizer.state_dict()["state"].items():
            for key, value in moments.items():
                tensors[f"optimizer/{name}/{index}/{key}"] = _array(torch.as_tensor(value))
    if learner.random is not None:
        tensors["random"] = _array(learner.random.get_state())
    tensors |= {f"best/{name}": value for name, value in course.best.items()}
    plain = {"steps": learner.steps, "numbers": learner.numbers, "more": learner.more(), "course": course.plain()}
    return State(tensors, plain)


def restored(learner: Learner, state: State) -> Course:
    """Bring a freshly made learner to where a state was saved."""
    plain = state.plain
    learner.steps, learner.numbers = plain["steps"], plain["numbers"]
    learner.take_back(plain["more"])
    for name, network in learner.networks().items():
        network.load_state_dict({key: _tensor(value) for key, value in _below(state, f"network/{name}/")})
    for name, optimizer in learner.all_optimizers().items():
        trained = [one for group in optimizer.param_groups for one in group["params"]]
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in _below(state, f"optimizer/{name}/"):
            index, _, moment = key.partition("/")
            moments.setdefault(int(index), {})[moment] = _laid_out(_tensor(value), trained[int(index)])
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    if learner.random is not None:
        learner.random.set_state(_tensor(state.tensors["random"]))
    return Course(**plain["course"], best=dict(_below(state, "best/")))


def _below(state: State, start: str) -> Iterable[tuple[str, NDArray[Any]]]:
    return ((name.removeprefix(start), value) for name, value in state.tensors.items() if name.startswith(start))


def _laid_out(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """In the memory order of the weight that it belongs to: with another one optimizers go weight by weight.

    A count of steps has no order and stays on the host, where each step reads it, also that of a single number.
    """
    ordered = value.ndim > 0 and value.shape == like.shape
    return torch.empty_like(like, dtype=value.dtype).copy_(value) if ordered else value


def _tensor(value: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.array(value))
