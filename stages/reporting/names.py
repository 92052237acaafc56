"""What a reader calls each evaluation's detector: no two are called alike, in tables, figures and legends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from stages.evaluation.class_differences import text
from stages.reporting.section import Results

LONGEST = 60
"""Letters of settings that still read as a name; longer ones are told apart by their nodes."""


class Name(NamedTuple):
    """A detector with what tells it from its namesakes, and the sources of fakes that it was trained on."""

    detector: str
    trained_on: str

    def __str__(self) -> str:
        return f"{self.detector}, trained on {self.trained_on}" if self.trained_on else self.detector


def named(evaluations: Sequence[Results]) -> list[Name]:
    """A name for each evaluation: the settings that differ stand behind those that would read alike, or the nodes."""
    models = [one["model"] for one in evaluations]
    names = [Name(model["detector"], ", ".join(model["trained_on"])) for model in models]
    for more in (_settings, _nodes, _numbers):
        alike: dict[Name, list[int]] = {}
        for place, name in enumerate(names):
            alike.setdefault(name, []).append(place)
        for name, places in alike.items():
            words = more([models[place] for place in places]) if len(places) > 1 else []
            for place, word in zip(places, words, strict=False):
                names[place] = Name(f"{name.detector} ({word})", name.trained_on)
    return names


def _settings(models: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings that differ, where they tell all of the models apart in few words."""
    flat = [dict(_flat(model["config"])) for model in models]
    differing = [key for key in dict.fromkeys(key for one in flat for key in one)
                 if len({one.get(key) for one in flat}) > 1]  # fmt: skip
    words = [", ".join(f"{key} {one[key]}" for key in differing if key in one) for one in flat]
    return words if all(words) and len(set(words)) == len(words) and max(map(len, words)) <= LONGEST else []


def _nodes(models: Sequence[Mapping[str, Any]]) -> list[str]:
    words = [str(model["node"]) for model in models]
    return words if len(set(words)) > 1 else []


def _numbers(models: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"evaluation {number}" for number in range(1, len(models) + 1)]


def _flat(config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        elif value is not None:
            yield f"{above}{name}", text(value)
