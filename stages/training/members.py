"""Trained detectors as members of another one: what planning checks and promises of them, and how they are loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from detectors.choosing import family_module
from detectors.contract import DetectorConfig, Member
from pipeline.errors import StageError
from pipeline.stage import Artifact, Promise, Rows, Schema
from pipeline.steps import JOIN, measured_step, unlike
from stages.evaluation.detector_file import load_detector
from stages.training.feature_fields import check_feature

INPUT = "members"
"""Input of the stage `train` that names them."""

PROMISED = ("feature", "feature_shape", "resamples", "runs_network", "libraries")
"""What a training promises of a member."""


def promises(inputs: Mapping[str, Any]) -> list[Promise]:
    """Of the members, in their order; inputs: as in `Stage.schema`."""
    return [one for name, one in inputs.items() if name.partition(".")[0] == INPUT]


def check_members(config: DetectorConfig, inputs: Mapping[str, Any], rows: Schema) -> None:
    """Raise ValueError with one sentence unless a fusion has members that can score these rows, and nobody else has."""
    found = promises(inputs)
    if not config.fuses:
        if found:
            raise ValueError(f"'{INPUT}' has no effect on the family '{config.family}'; remove it, or choose 'fusion'")
        return
    if len(found) < 2:
        raise ValueError(f"a fusion needs two members or more, but '{INPUT}' names {len(found)}; name 'train' nodes")
    for one in found:
        if INPUT in one.facts:
            raise ValueError(f"{one} is a fusion itself; name its members in '{INPUT}' instead")
        check_feature(one, "the rows of 'on'", rows)


def promised_members(config: DetectorConfig, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What a fusion promises: as `promised` of one detector, and each member's promise."""
    found = promises(inputs)
    return {
        "feature": config.feature,
        "feature_shape": [],
        "resamples": False,
        "runs_network": any(one.facts["runs_network"] for one in found),
        "libraries": sorted({name for one in found for name in one.facts["libraries"]}),
        INPUT: [{"node": one.node, **{name: one.facts[name] for name in PROMISED}} for one in found],
    }


def load_members(artifacts: Sequence[Artifact], rows: Rows) -> tuple[Member, ...]:
    """The detectors in the artifacts of `train` nodes, each with its whole card, node and key.

    rows: those that they are to score. Raises StageError where these have other features than a member learned from.
    """
    _check_made(rows, artifacts)
    found = [(one, load_detector(one.path)) for one in artifacts]
    return tuple(
        Member(
            family_module(one.config.family), one.config, one.state, {**one.card, "node": made.node, "key": made.key}
        )
        for made, one in found
    )


def _check_made(rows: Rows, artifacts: Sequence[Artifact]) -> None:
    """Raise StageError where a member would meet features that were made otherwise than those it has learned from.

    Rows of several nodes are joined so that each member has its own.
    """
    met = {step["recipe"]: step for part in rows.parts if part.steps for step in [measured_step(part.steps)]
           if "recipe" in step and step["stage"] != JOIN}  # fmt: skip
    for one in artifacts:
        learned = one.info.get("made_from", {})
        if told := unlike(learned.values(), [met[name] for name in sorted(met) if learned and name not in learned]):
            raise StageError(
                f"the member {one.node} has learned from other features than the rows of 'on' have ({told}); name rows "
                "that it can read, too, or train it on these"
            )


def kept_promises(members: Iterable[Member]) -> dict[str, Promise]:
    """What the members have promised, under the names that planning has for it."""
    return {f"{INPUT}.{number}": Promise(one.card["node"], one.card) for number, one in enumerate(members)}


def fields_of(config: DetectorConfig, members: Iterable[Member]) -> tuple[str, ...]:
    """Names of the fields that a detector reads, each once."""
    return tuple(dict.fromkeys(one.config.feature for one in members)) or (config.feature,)


def sources_of(members: Iterable[Member]) -> set[str]:
    """Sources of fakes that a member learned from."""
    return {source for one in members for source in one.card["trained_on"]}
