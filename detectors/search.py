"""Settings that validation rows choose: one fit per point of a grid, resumable between points.

The criterion is the balanced accuracy of the validation rows at their best threshold, the number that a card shows as
`balanced_accuracy`; among equals the point that is listed first wins, so the listing says what is preferred.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.calibration import best_threshold, calibrated, platt
from detectors.contract import Control, State

Point = Mapping[str, Any]
"""Setting -> value, plain data."""


def listed(value: Any) -> tuple[Any, ...]:
    """The values to try of a setting that may be one value or several."""
    return value if isinstance(value, tuple) else (value,)


def grid(**settings: Iterable[Any]) -> list[dict[str, Any]]:
    """All combinations; the last setting varies first."""
    return [dict(zip(settings, values, strict=True)) for values in itertools.product(*settings.values())]


def balanced_accuracy(plain: Point, decisions: NDArray[np.float64], labels: NDArray[np.uint8]) -> float:
    """Of validation decisions (n,), once calibrated by `plain`, at their best threshold."""
    scores = calibrated(decisions, plain)
    is_fake = scores >= best_threshold(scores, labels)
    return float((is_fake[labels == 1].mean() + (~is_fake[labels == 0]).mean()) / 2)


def searched(
    points: Sequence[Point],
    attempt: Callable[[Point], State],
    decide: Callable[[State], NDArray[np.float64]],
    labels: NDArray[np.uint8],
    control: Control,
) -> State:
    """The best of the states that `attempt` makes of the points, calibrated.

    decide: validation decisions (n,) of a state; labels: of these rows. Where there are several points, the plain data
    get the `chosen` one and all that were `searched` with their balanced accuracies.
    """
    best, tried = State(), []
    saved = control.restore()
    if saved is not None:
        best, tried = State(saved.tensors, saved.plain["best"]), list(saved.plain["searched"])
    for number in range(len(tried), len(points)):
        state = attempt(points[number])
        decisions = decide(state)
        slope, intercept = platt(decisions, labels)
        plain = dict(state.plain) | {"slope": slope, "intercept": intercept}
        reached = balanced_accuracy(plain, decisions, labels)
        if all(reached > one["balanced_accuracy"] for one in tried):
            best = State(state.tensors, plain if len(points) == 1 else plain | {"chosen": dict(points[number])})
        tried.append({**points[number], "balanced_accuracy": reached})
        if number + 1 < len(points):
            control.save(State(best.tensors, {"best": dict(best.plain), "searched": tried}))
        control.report(number + 1, len(points))
    return best if len(points) == 1 else State(best.tensors, dict(best.plain) | {"searched": tried})
