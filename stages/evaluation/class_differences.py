"""What differs between real and fake rows besides their origin: read from lineage, measured on rows, held against what
the config declares.

The commonest defect of this field's data sets is a class-dependent codec, size or resampling filter, which a detector
learns instead of the generator (DIRE issue 11; Durall et al. 2019 with 178 x 218 reals against 128 x 128 fakes). So
each difference has a topic, and one that no declaration covers is flagged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

NOTHING = "(not done)"
NO_MOVES: Mapping[str, Sequence[str]] = MappingProxyType({})
STORED_LUMA = "the Y plane of JPEG files, computed gray of all others"

Step = Mapping[str, Any]
"""One entry of a lineage as the engine writes it. Steps up to the last one that is an `origin` gave a row its pixels,
which is what is studied; those after it are processing."""


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same for both classes. `topic` is what a declaration names: `perturb`, `equalize.size`,
    `reduction`, `order`, or a check of the audit."""

    topic: str
    real: str
    fake: str
    variants: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    declared: str = ""


def processing(steps: Sequence[Step]) -> list[Step]:
    """Steps after the origin of a row."""
    return list(steps[origin(steps) + 1 :])


def origin(steps: Sequence[Step]) -> int:
    """Position of the step that gave a row its pixels."""
    return max((number for number, step in enumerate(steps) if step["origin"]), default=0)


def origins(evaluations: Iterable[Mapping[str, Any]]) -> dict[tuple[int, str], Step]:
    """(label, source) of all rows that were evaluated -> the step that gave them their pixels; reals first."""
    found: dict[tuple[int, str], Step] = {}
    for results in evaluations:
        for part in (part for facts in results["variants"].values() for part in facts["parts"]):
            steps = results["steps"][part["chain"]]
            for label, kind in enumerate(("real", "fake")):
                if part[kind] and steps:
                    found |= {(label, source): steps[origin(steps)] for source in part["sources"]}
    return {pair: found[pair] for pair in sorted(found)}


def compare(real: Sequence[Step], fake: Sequence[Step]) -> list[Difference]:
    """Differences between the processing steps of a real and of a fake chain."""
    numbered = [_numbered(processing(steps)) for steps in (real, fake)]
    found = []
    for key in dict.fromkeys([*numbered[0], *numbered[1]]):
        mine, other = numbered[0].get(key), numbered[1].get(key)
        if mine is None or other is None:
            found.append(Difference(key[0], _told(mine), _told(other)))
            continue
        for kind in ("config", "files", "artifacts", "environment"):
            found += _unequal(key[0] if kind == "config" else f"{key[0]}.{kind}", mine.get(kind), other.get(kind))
    shared = [[key for key in one if key in two] for one, two in (numbered, numbered[::-1])]
    if shared[0] != shared[1]:
        real_order, fake_order = (" → ".join(key[0] for key in keys) for keys in shared)
        found.append(Difference("order", real_order, fake_order))
    return found


def _numbered(steps: Sequence[Step]) -> dict[tuple[str, int], Step]:
    seen: Counter[str] = Counter()
    result = {}
    for step in steps:
        result[step["stage"], seen[step["stage"]]] = step
        seen[step["stage"]] += 1
    return result


def _unequal(topic: str, mine: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> list[Difference]:
    mine, other = mine or {}, other or {}
    names = sorted(name for name in {*mine, *other} if mine.get(name) != other.get(name))
    return [Difference(f"{topic}.{name}", text(mine.get(name)), text(other.get(name))) for name in names]


def _told(step: Step | None) -> str:
    if step is None:
        return NOTHING
    config = step.get("config") or {}
    return text({name: value for name, value in config.items() if not _nested(value)})


def _nested(value: Any) -> bool:
    """Settings of settings are left to the lineage section."""
    return isinstance(value, Mapping) or (
        isinstance(value, list | tuple) and any(isinstance(v, Mapping) for v in value)
    )


def text(value: Any) -> str:
    """Plain data as a reader would write them."""
    if isinstance(value, Mapping):
        return (
            ", ".join(f"{name} {text(inner)}" for name, inner in value.items() if inner not in (None, [], ())) or "done"
        )
    if isinstance(value, list | tuple):
        return ", ".join(text(item) for item in value)
    return "none" if value is None else str(value)


def of_results(results: Mapping[str, Any]) -> list[Difference]:
    """Differences in one evaluation's lineage, variant by variant."""
    found = []
    for variant, facts in results["variants"].items():
        steps = results["steps"]
        reals = [part for part in results["variants"][facts["reals_from"]]["parts"] if part["real"]]
        fakes = [part for part in facts["parts"] if part["fake"]]
        for real in reals:
            for fake in fakes:
                pair = steps[real["chain"]], steps[fake["chain"]]
                for one in [*compare(*pair), *_by_codec(pair), *_left(*pair)]:
                    found.append(Difference(one.topic, one.real, one.fake, (variant,), tuple(fake["sources"])))
    return found


def _left(real: Sequence[Step], fake: Sequence[Step]) -> list[Difference]:
    """What the steps that gave rows their pixels left in one class alone."""
    mine, other = (steps[origin(steps)].get("leaves", {}) if steps else {} for steps in (real, fake))
    topics = sorted(topic for topic in {*mine, *other} if mine.get(topic) != other.get(topic))
    return [Difference(topic, mine.get(topic, "nothing"), other.get(topic, "nothing")) for topic in topics]


def _by_codec(pair: Sequence[Sequence[Step]]) -> list[Difference]:
    """A setting that treats files by their codec is a difference though it is the same for both classes."""
    colors = {(step.get("config") or {}).get("color") for steps in pair for step in processing(steps)}
    return [Difference("equalize.color", STORED_LUMA, STORED_LUMA)] if "stored_luma" in colors else []


def counted(values: Iterable[str], most: int = 4) -> str:
    """`PNG (30), JPEG (2)`: the commonest values first, then by name."""
    ranked = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))
    rest = sum(number for _, number in ranked[most:])
    return ", ".join(f"{value} ({number})" for value, number in ranked[:most]) + (f", others ({rest})" if rest else "")


def covering(topic: str, declared: Mapping[str, str], moves: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The declarations that cover a topic: its own, those above it (`perturb` covers `perturb.protocol`), and those of
    stages that may move it, if it is a check of the audit."""
    return {
        name: text
        for name, text in declared.items()
        if topic == name or topic.startswith(name + ".") or topic in moves.get(name, ())
    }


def declare(
    differences: Iterable[Difference], declared: Mapping[str, str], moves: Mapping[str, Sequence[str]] = NO_MOVES
) -> tuple[list[Difference], dict[str, str]]:
    """Equal differences merged, each with the sentences that cover it; and the declarations that cover none.

    moves: topic -> checks of the audit that it covers.
    """
    merged: dict[tuple[str, str, str], Difference] = {}
    for one in differences:
        key = (one.topic, one.real, one.fake)
        before = merged.get(key, one)
        variants = tuple(dict.fromkeys((*before.variants, *one.variants)))
        sources = tuple(dict.fromkeys((*before.sources, *one.sources)))
        merged[key] = Difference(*key, variants, sources)
    found, used = [], set[str]()
    for one in merged.values():
        covers = covering(one.topic, declared, moves)
        used.update(covers)
        sentence = " ".join(covers.values())
        found.append(Difference(one.topic, one.real, one.fake, one.variants, one.sources, sentence))
    found.sort(key=lambda one: (bool(one.declared), one.topic, one.real, one.fake))
    return found, {topic: text for topic, text in declared.items() if topic not in used}
