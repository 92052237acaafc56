"""Two sets of evaluations: which cells moved beyond chance, and which component of which recipe changed.

A cell is a detector on the fakes of one source in one variant. Where the scores of both sides are at hand and of the
same rows, it moved if the interval of the difference, from resamples of whole groups that both share, excludes zero;
else if the two intervals have no number in common, which asks for more.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stages.evaluation.pairing import Scored, compared

Results = Mapping[str, Any]
Spot = tuple[str, str, str]
"""Node of the detector, variant, source of fakes; a second evaluation of the same is of `NODE (2)`."""

BY_ROWS, BY_INTERVALS, NOT_TOLD = "same rows", "intervals", "cannot tell"
CAUSES = {"config": "config", "code": "code", "files": "artifact", "artifact": "artifact", "env": "env",
          "schema": "schema", "format": "code", "seed": "config"}  # fmt: skip
"""Component of a recipe -> cause, as `explain` calls them."""

DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{20}\b")

COMPONENTS = ("config", "environment", "files", "artifacts", "seed")
"""Of a step that results name; whatever else its recipe has is its code, its format or its schema."""


@dataclass(frozen=True)
class Side:
    """One set of evaluations.

    cells   spot -> value, and low and high end of its 95 % interval; None where a class was missing
    made    as `made` gives it, or None: of a report that does not say how its evaluations were made
    scored  spot -> the evaluation with the scores of its rows, where they are at hand
    """

    name: str
    cells: Mapping[Spot, Sequence[float] | None]
    made: Mapping[str, Any] | None
    scored: Mapping[Spot, Scored] = field(default_factory=dict)


@dataclass(frozen=True)
class Moved:
    """A cell that both sides have; by: how it was decided."""

    spot: Spot
    old: Sequence[float]
    new: Sequence[float]
    by: str
    moved: bool

    def as_data(self) -> dict[str, Any]:
        names = dict(zip(("detector", "variant", "source"), self.spot, strict=True))
        return {**names, "old": list(self.old), "new": list(self.new), "by": self.by, "moved": self.moved}


def told_apart(spots: Iterable[Spot]) -> list[Spot]:
    """The same, each once."""
    counts: Counter[Spot] = Counter()
    found = []
    for spot in spots:
        counts[spot] += 1
        found.append((_numbered(spot[0], counts[spot]), *spot[1:]))
    return found


def _numbered(node: str, number: int) -> str:
    return node if number == 1 else f"{node} ({number})"


def made(evaluations: Sequence[Results], recipes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How evaluations were made, as plain data: all steps once, and of each evaluation of a detector's node what it
    came from.

    recipes: components of each evaluation's own recipe; an empty mapping where nobody knows
    """
    steps: dict[str, dict[str, Any]] = {}
    nodes: dict[str, dict[str, Any]] = {}
    counts: Counter[str] = Counter()
    for result, recipe in zip(evaluations, recipes, strict=True):
        for chain in result["steps"].values():
            for step in chain:
                if "recipe" in step:
                    steps[step["recipe"]] = {"stage": step["stage"], **{k: step[k] for k in COMPONENTS if k in step}}
        model = result["model"]
        counts[model["node"]] += 1
        nodes[_numbered(model["node"], counts[model["node"]])] = {
            "detector": model["node"],
            "model": {"key": model["key"], "config": model["config"], "trained_on": sorted(model["trained_on"]),
                      "counts": model["counts"], "chains": sorted(model.get("chains") or ())},
            "evaluation": dict(recipe),
            "parts": sorted(
                {(variant, source, *(step["recipe"] for step in result["steps"][part["chain"]] if "recipe" in step))
                 for variant, facts in result["variants"].items() for part in facts["parts"]
                 for source in part["sources"]}
            ),
        }  # fmt: skip
    return {"steps": dict(sorted(steps.items())), "nodes": dict(sorted(nodes.items()))}


def cells_compared(old: Side, new: Side, metric: str) -> list[Moved]:
    """All cells that both have, in the order of the old ones."""
    found = []
    for spot, before in old.cells.items():
        after = new.cells.get(spot)
        if before is not None and after is not None:
            by, moved = _decided(old, new, spot, metric, before, after)
            found.append(Moved(spot, before, after, by, moved))
    return found


def _decided(
    old: Side, new: Side, spot: Spot, metric: str, before: Sequence[float], after: Sequence[float]
) -> tuple[str, bool]:
    _, variant, source = spot
    if spot in old.scored and spot in new.scored:
        ones, twos = (side.scored[spot].rows(variant, source) for side in (old, new))
        if set(ones.keys) == set(twos.keys):
            both = compared(new.scored[spot], old.scored[spot], variant, source)
            if both.rows == len(ones.keys):
                _, (low, high) = both.differences[metric]
                return BY_ROWS, low > 0 or high < 0
    ends = (*before[1:], *after[1:])
    if len(ends) < 4 or any(end != end for end in ends):
        return NOT_TOLD, False
    return BY_INTERVALS, before[2] < after[1] or after[2] < before[1]


def changes(old: Side, new: Side) -> list[dict[str, Any]]:
    """Components that differ: `where` (a stage or a detector), `cause`, `what`, and the `detectors` that they reach."""
    found: dict[tuple[str, str, str], set[str]] = {}
    if old.made is None or new.made is None:
        return []
    for node, after in new.made["nodes"].items():
        before = old.made["nodes"].get(node)
        if before is not None:
            detector = after.get("detector", node)  # as a report of an earlier version says it
            for change in _of_node(old.made["steps"], new.made["steps"], before, after, detector):
                found.setdefault(change, set()).add(detector)
    return [{"where": where, "cause": cause, "what": what, "detectors": sorted(nodes)}
            for (where, cause, what), nodes in sorted(found.items())]  # fmt: skip


def _of_node(
    steps: Mapping[str, Any], others: Mapping[str, Any], old: Mapping[str, Any], new: Mapping[str, Any], node: str
) -> Iterator[tuple[str, str, str]]:
    """Of one detector: the steps of its test rows, then its training, then its evaluation."""
    chains: dict[tuple[str, str], list[list[str]]] = {}
    afterwards: dict[tuple[str, str], list[list[str]]] = {}
    for parts, kept in ((old["parts"], chains), (new["parts"], afterwards)):
        for variant, source, *recipes in parts:
            kept.setdefault((variant, source), []).append(recipes)
    for place, made in afterwards.items():
        # rows of one source that were made in several ways: those that both have are alike, whatever their order
        gone = [one for one in chains.get(place, []) if one not in made]
        come = [one for one in made if one not in chains.get(place, [])]
        for before, recipes in zip(gone, come, strict=False):
            yield from _of_chain([steps[one] for one in before], [others[one] for one in recipes], before, recipes)
    for name in ("config", "trained_on", "counts"):
        one, two = (side["model"][name] for side in (old, new))
        cause = "config" if name == "config" else "upstream"
        for _, what in differences({"config": {name: one}}, {"config": {name: two}}):
            yield node, cause, what.removeprefix("config.")
    if old["model"]["chains"] != new["model"]["chains"]:
        yield node, "upstream", "it was trained on rows that were made in another way"
    known = differences(old["evaluation"], new["evaluation"]) if old["evaluation"] and new["evaluation"] else []
    for cause, what in known:
        yield "evaluate", "parent" if cause == "artifact" else cause, DIGEST.sub(r"\1", what)


def _of_chain(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], old: Sequence[str], new: Sequence[str]
) -> Iterator[tuple[str, str, str]]:
    stages, others = [one["stage"] for one in before], [one["stage"] for one in after]
    if stages != others:
        yield others[-1], "upstream", f"steps {' > '.join(stages)} -> {' > '.join(others)}"
        return
    moved = False  # a step before: its rows may have another size
    for one, two, recipe, other in zip(before, after, old, new, strict=True):
        if recipe == other:
            continue
        parts = [{"config": side.get("config"), "env": side.get("environment"), "files": side.get("files"),
                  "artifact": side.get("artifacts"), "seed": side.get("seed")} for side in (one, two)]  # fmt: skip
        unknown = ("upstream", "rows of another size, or other code") if moved else ("code", "its code changed")
        for cause, what in list(differences(*parts)) or [unknown]:
            yield two["stage"], cause, what
        moved = True


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(cause, sentence) for each fact of two recipes that differs."""
    found = []
    for name, cause in CAUSES.items():
        before, after = (dict(_facts(side.get(name), name)) for side in (old, new))
        for fact in sorted(before | after):
            one, two = before.get(fact), after.get(fact)
            if one == two:
                continue
            if name == "code":
                both = one is not None and two is not None
                found.append((cause, f"{fact.removeprefix('code.')} {'changed' if both else 'came or went'}"))
            else:
                found.append((cause, f"{fact} {_short(one)} -> {_short(two)}"))
    return found


def _facts(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _facts(inner, f"{name}.{key}")
    elif value is not None:
        yield name, value


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
