"""Rows whose fields several nodes of a view hold, joined by id, source and variant, for a fit or reduce that reads all.

Nothing is copied: a joined branch is a plan's word for rows that lie in the shards of its sides. Its chain is made of
theirs, so that an artifact's key depends on all that is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline import ids
from pipeline.declaring.stage_names import load_stage
from pipeline.digests import digest
from pipeline.planning.recipes import chain_of, make_recipe
from pipeline.planning.selection import Branch, Evaluator, Selection, Side, covers, measured, origin, variants
from pipeline.steps import JOIN, JOINING, MOST_JOINED

if TYPE_CHECKING:
    from pipeline.declaring.views import View
    from pipeline.errors import ConfigError
    from pipeline.planning.planned import ArtifactPlan

TOLD = 12
"""Digits of a recipe in the settings of a join."""

Kind = tuple[int, tuple[bytes, ...]]
"""Number of the source, and what made the variant: rows of one kind and one id show the same picture."""


def has_all(found: Iterable[Selection], fields: Iterable[str]) -> bool:
    """Whether each of some selections of one side has all these fields."""
    wanted = set(fields)
    return all(wanted <= set(one.sides[0].branch.schema) for one in found)


class Joins:
    """Rows that were joined for one plan: the nodes of a matrix often read the same."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self.known: dict[Any, tuple[list[Selection], str]] = {}

    def of(
        self,
        view: View,
        fields: tuple[str, ...],
        models: Iterable[ArtifactPlan],
        problem: Callable[[str], ConfigError],
    ) -> tuple[list[Selection], str]:
        """`joined` rows of a view. models: those that are to read them; problem: as the evaluator wants it."""
        known: dict[str, frozenset[str]] = dict.fromkeys(fields, frozenset())
        for one in models:
            for name in {name for names in one.reads.values() for name in names} or fields:
                known[name] = known.get(name, frozenset()) | learned(one.made_from, name)
        key = view, fields, tuple(sorted(known.items()))
        if key not in self.known:
            lost = {name: self.evaluator.lost(view, (name,)) for name in fields}
            self.known[key] = joined(self.evaluator.evaluate(view, problem), fields, known, lost)
        return self.known[key]


def learned(made_from: Mapping[str, Mapping[str, Any]], field: str) -> frozenset[str]:
    """Recipes of the rows that a model learned a field of. made_from: recipe -> step, of an artifact."""
    joins = [step["config"] for step in made_from.values() if step["stage"] == JOIN]
    told = [str(join.get(field)) for join in joins]
    return frozenset(one for one in made_from if not joins or any(text.endswith(one[:TOLD]) for text in told))


def joined(
    found: list[Selection],
    fields: tuple[str, ...],
    known: Mapping[str, frozenset[str]],
    lost: Mapping[str, NDArray[np.void]],
) -> tuple[list[Selection], str]:
    """The rows of plain selections with all these fields, each field from the node that has it; or a clause, why not.

    Of several nodes with a field those count whose rows were made by one of the recipes that are known of it. Rows that
    are lost to a field (ids) are left out. Nothing is joined where another row lacks a field or has one twice.
    """
    holding = {name: _holding(found, name, known[name], lost[name]) for name in fields}
    absent = [name for name, some in holding.items() if not some]
    if absent and has_all(found, {*fields} - {*absent}):
        return [], ""  # whoever reads them says so
    for name, some in holding.items():
        problem = _lacking(found, some, name, lost[name]) or repeated(some, name)
        if problem:
            return [], problem
    holders = {name: _by_kind(some) for name, some in holding.items()}
    whole = [one for mine in holders[fields[0]].values() for one in mine]
    for name in fields[1:]:
        whole = [
            both
            for one in whole
            for other in holders[name].get(_kind(one), ())
            if len(both := _common(one, other.sides[0]))
        ]
    if any(len({id(side.branch) for side in one.sides}) > MOST_JOINED for one in whole):
        return [], f"whose fields lie in more than {MOST_JOINED} nodes; compute several in one"
    return [_joined(dict(sorted(zip(fields, one.sides, strict=True), key=lambda pair: pair[0]))) for one in whole], ""


def _holding(found: list[Selection], field: str, recipes: frozenset[str], lost: NDArray[np.void]) -> list[Selection]:
    having = [one for one in found if field in one.sides[0].branch.schema]
    alike = [one for one in having if measured(one.sides[0].branch)["recipe"] in recipes]
    return alike if covers(alike, having, lost) else having


def _by_kind(some: list[Selection]) -> dict[Kind, list[Selection]]:
    found: dict[Kind, list[Selection]] = {}
    for one in some:
        sources = one.table().source
        numbers = ids.distinct(sources).tolist()
        for number in numbers:
            part = one if len(numbers) == 1 else one.take(np.flatnonzero(sources == number))
            found.setdefault(_kind(part), []).append(part)
    return found


def _kind(one: Selection) -> Kind:
    side = one.sides[0]
    return int(side.branch.rows.source[side.positions[0]]), variants(side.branch)


def repeated(some: list[Selection], field: str) -> str:
    """A clause where rows of one kind and id are in several selections, all of which have a field; else ""."""
    for mine in _by_kind(some).values():
        known = mine[0].sides[0].ids
        for one in mine[1:]:
            again = np.flatnonzero(ids.isin(one.sides[0].ids, known))
            if len(again):
                return (
                    f"of which {len(again):,} {_have(again)} '{field}' more than once, in {_nodes(mine)} (first "
                    f"{_place(one, again)}); a row has one of each field, so name one of these nodes, and models that "
                    "read what it makes"
                )
            known = np.concatenate([known, one.sides[0].ids])
    return ""


def _lacking(found: list[Selection], some: list[Selection], field: str, lost: NDArray[np.void]) -> str:
    """A clause where rows are not in some selections, which have a field, and are not lost; else ""."""
    if not some:
        return f"none of which has '{field}'; add the node that computes it"
    kinds = _by_kind(some)
    for kind, theirs in _by_kind(found).items():
        known = np.concatenate([lost, *(one.sides[0].ids for one in kinds.get(kind, ()))])
        for one in theirs:
            gone = np.flatnonzero(~ids.isin(one.sides[0].ids, known))
            if len(gone):
                return (
                    f"of which {len(gone):,} of {_nodes([one])} {_have(gone)} no '{field}' in {_nodes(some)} (first "
                    f"{_place(one, gone)}); name nodes that were made of the same rows, each with the same `where` and "
                    "a `take` of its own"
                )
    return ""


def _have(rows: NDArray[np.int64]) -> str:
    return "has" if len(rows) == 1 else "have"


def _nodes(some: list[Selection]) -> str:
    names = list(dict.fromkeys(one.sides[0].branch.node for one in some))
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")


def _place(one: Selection, which: NDArray[np.int64]) -> str:
    """Where the first of some rows was born."""
    side = one.sides[0]
    return origin(side.branch, int(side.positions[which[0]]))


def _common(one: Selection, other: Side) -> Selection:
    """Rows of one kind that both have, by id, with one side more."""
    order = ids.order(other.ids)
    places = ids.lookup(other.ids[order], one.sides[0].ids)
    mine = np.flatnonzero(places >= 0)
    return Selection((*one.take(mine).sides, Side(other.branch, other.positions[order[places[mine]]])))


def _joined(places: Mapping[str, Side]) -> Selection:
    """Rows of one side. places: field -> where it is, in the order of names, which no view decides."""
    sides = list({side.branch.chain: side for side in places.values()}.values())
    if len(sides) == 1:
        return Selection((sides[0],))
    chains = [side.branch.chain for side in sides]
    numbers = {name: chains.index(side.branch.chain) for name, side in places.items()}
    stage = load_stage(JOINING)
    config = stage.Config.model_validate({"fields": numbers})
    schema = {name: side.branch.schema[name] for name, side in places.items()}
    recipe = make_recipe(stage, config, schema, {}, {}, {}, 0, "cpu", 1)
    made_by = {name: measured(side.branch) for name, side in places.items()}
    rows = sides[0].branch.rows.take(sides[0].positions)
    above = {step["recipe"]: step for side in sides for step in side.branch.steps}
    branch = Branch(
        " + ".join(dict.fromkeys(side.branch.node for side in sides)), stage, config,
        chain_of(recipe.digest, chains), recipe, schema, rows, tuple(sides),
        steps=(*above.values(), _step(made_by, recipe.components["env"])), joins=numbers,
    )  # fmt: skip
    return Selection((Side(branch, np.arange(len(rows))),))


def _step(made_by: Mapping[str, Mapping[str, Any]], environment: Mapping[str, Any]) -> dict[str, Any]:
    """The step of a join: one recipe for rows whose fields were made alike, whatever variant of an image they show."""
    recipe = digest("join", {name: one["recipe"] for name, one in made_by.items()}).hex()
    told = {name: f"{one['stage']} {one['recipe'][:TOLD]}" for name, one in made_by.items()}
    return {"stage": JOIN, "config": told, "files": {}, "artifacts": {}, "environment": dict(environment),
            "origin": False, "content": False, "variant": False, "recipe": recipe}  # fmt: skip
