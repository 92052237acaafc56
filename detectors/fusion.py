"""Fusion of trained detectors by the mean of their probabilities (He et al. 2021, Eq. 4: one half each).

The paper says "final scores"; here they are the members' calibrated probabilities of being fake, or by choice their
logits. Nothing is learned but calibration and threshold, on validation rows. Members read the same rows, each its own
field, so a row comes as one entry of a structured array; a row is never joined by its position in a list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from detectors.calibration import calibrated, logistic, platt
from detectors.choosing import detector_config, family_module
from detectors.contract import Control, DetectorConfig, Examples, Member, Shapes, State, check_state

NUMBERS = ("slope", "intercept")
"""Of a state's plain data."""

LEAST = 2.0**-24
"""Of a probability, and of its distance to one: the resolution of a float32 score."""

BLOCK_ROWS = 512


class Config(DetectorConfig):
    """How the members' probabilities become one."""

    fuses: ClassVar[bool] = True
    learns: ClassVar[bool] = False

    family: Literal["fusion"] = Field("fusion", description="the family; written out unless `preset` is")
    feature: Literal["members"] = Field("members", description="the fields that the members read")
    weights: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=2)] | None = Field(
        None, description="one per member, of sum 1; null: all alike"
    )
    mean: Literal["probability", "logit"] = Field("probability", description="of what the mean is taken")

    @field_validator("weights")
    @classmethod
    def _sum(cls, weights: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if weights is not None:
            checked_weights(len(weights), weights)
        return weights

    @property
    def fit_fields(self) -> Mapping[str, str]:
        """None but those of the members."""
        return {}


def describe(config: Config) -> str:
    """Name of the detector in a table."""
    return "fusion of members" + (" (logits)" if config.mean == "logit" else "")


def member(card: Any) -> Member:
    """The member of a card (plain data), without its tensors. Raises ValueError where it is none."""
    found, plain = (card.get(name) if isinstance(card, Mapping) else None for name in ("config", "state"))
    family = found.get("family") if isinstance(found, Mapping) else None
    if not isinstance(family, str) or family == "fusion" or not isinstance(plain, Mapping):
        raise ValueError("its 'members' are no cards of detectors")
    try:
        module, config = family_module(family), detector_config(found)
    except ValueError as error:
        raise ValueError(f"the card of its member '{family}' does not fit this version: {error}") from None
    return Member(module, config, State({}, plain), card)


def members(state: State) -> list[Member]:
    """The members of a state with their tensors. Raises ValueError where they are none."""
    cards = state.plain.get("members")
    if not isinstance(cards, list) or len(cards) < 2:
        raise ValueError("its 'members' are no list of two cards or more")
    result = []
    for number, card in enumerate(cards):
        one, prefix = member(card), f"{number}/"
        mine = {name.removeprefix(prefix): value for name, value in state.tensors.items() if name.startswith(prefix)}
        result.append(Member(one.family, one.config, State(mine, one.state.plain), one.card))
    return result


def fields(state: State) -> tuple[str, ...]:
    """Names of the fields that the members read, each once."""
    return tuple(dict.fromkeys(one.config.feature for one in members(state)))


def shapes(config: Config, feature: tuple[int, ...] | None, plain: Mapping[str, Any]) -> Shapes:
    """Of a state's tensors, those of member k with `k/` before their names and the names of their sides."""
    result: dict[str, tuple[int | str, ...]] = {}
    for number, one in enumerate(members(State({}, plain))):
        for name, sides in one.family.shapes(one.config, one.feature_shape, one.state.plain).items():
            result[f"{number}/{name}"] = tuple(f"{number}/{s}" if isinstance(s, str) else s for s in sides)
    return result


def flaw(config: Config, state: State) -> str:
    """What of a state cannot be: a clause, or "". Raises ValueError with one for what of a member cannot be."""
    found = members(state)
    if config.weights is not None and len(config.weights) != len(found):
        return f"it has {len(found)} members and {len(config.weights)} weights"
    for number, one in enumerate(found):
        try:
            check_state(one.family, one.config, one.state, one.feature_shape)
        except ValueError as error:
            raise ValueError(f"of its member {number}, {error}") from None
    return ""


def fit(config: Config, train: Examples, val: Examples, control: Control) -> State:
    """The members' tensors, `k/` before their names, and cards; calibrated on `val`. Training rows are not read."""
    del train
    if config.weights is not None and len(config.weights) != len(control.members):
        raise ValueError(
            f"'weights' has {len(config.weights)} numbers for {len(control.members)} members; expected one for each"
        )
    tensors = {
        f"{number}/{name}": value
        for number, one in enumerate(control.members)
        for name, value in one.state.tensors.items()
    }
    state = State(tensors, {"members": [dict(one.card) for one in control.members]})
    parts, done = [], 0
    for block in val.blocks(BLOCK_ROWS):
        parts.append(decision(config, state, block, control.device))
        done += len(block)
        control.report(done, len(val))
    slope, intercept = platt(np.concatenate(parts), val.labels)
    return State(tensors, dict(state.plain) | {"slope": slope, "intercept": intercept})


def fused(config: Config, probabilities: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Mean (n,) of the members' probabilities (members, n), or of their logits."""
    values = np.asarray(probabilities, dtype=np.float64)
    if config.mean == "probability":
        return mean_probability(values, config.weights)
    values = values.clip(LEAST, 1 - LEAST)
    return weighted_mean(np.log(values) - np.log1p(-values), config.weights)


def decision(config: Config, state: State, features: NDArray[Any], device: str = "cpu") -> NDArray[np.float64]:
    """Mean of the members (n,) float64 before calibration; features: structured, or of the one field that all read."""
    scores = []
    for one in members(state):
        mine = features[one.config.feature] if features.dtype.names else features
        scores.append(one.family.score(one.config, one.state, np.ascontiguousarray(mine), device))
    return fused(config, np.stack(scores))


def score(config: Config, state: State, features: NDArray[Any], device: str = "cpu") -> NDArray[np.float32]:
    """Probability of being fake (n,) float32 for rows (n,) whose fields are the members' features as stored."""
    return calibrated(decision(config, state, features, device), state.plain)


def mean_probability(probabilities: NDArray[np.float64], weights: Sequence[float] | None = None) -> NDArray[np.float64]:
    """Weighted mean (n,) of the members' probabilities of fake (members, n), in the same order of rows; default equal.

    Raises ValueError unless there is a weight for each, none below 0, and they sum to 1.
    """
    return weighted_mean(probabilities, weights)


def probability_of_mean_logit(
    logits: NDArray[np.float64], weights: Sequence[float] | None = None
) -> NDArray[np.float64]:
    """The same of logits of fake (members, n): the probability (n,) of their mean."""
    return logistic(weighted_mean(logits, weights))


def weighted_mean(values: NDArray[np.float64], weights: Sequence[float] | None) -> NDArray[np.float64]:
    """(n,) of the members' numbers (members, n), row by row. weights: as above."""
    found = checked_weights(len(values), weights)
    result: NDArray[np.float64] = (values * found[:, None]).sum(axis=0)
    return result


def checked_weights(members: int, weights: Sequence[float] | None) -> NDArray[np.float64]:
    """(members,) weights that sum to 1."""
    found = np.full(members, 1 / members) if weights is None else np.asarray(weights, np.float64)
    if found.shape != (members,) or found.min() < 0 or abs(found.sum() - 1) > 1e-9:
        raise ValueError(f"weights are {found.tolist()}; expected {members} numbers of at least 0 that sum to 1")
    return found
