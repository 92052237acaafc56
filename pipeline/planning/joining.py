"""Rows whose fields several nodes of a view hold, joined by id and source, for a fit or reduce that reads them all.

Nothing is copied: a joined branch is a plan's word for rows that lie in the shards of its sides. Its chain is made of
theirs, so that an artifact's key depends on all that is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pipeline import ids
from pipeline.declaring.stage_names import load_stage
from pipeline.digests import digest
from pipeline.planning.recipes import chain_of, make_recipe
from pipeline.planning.selection import Branch, Selection, Side, fitting, measured
from pipeline.steps import JOIN, JOINING, MOST_JOINED


def has_all(found: Iterable[Selection], fields: Iterable[str]) -> bool:
    """Whether each of some selections of one side has all these fields."""
    wanted = set(fields)
    return all(wanted <= set(one.sides[0].branch.schema) for one in found)


def joined(found: list[Selection], fields: tuple[str, ...], recipes: Iterable[str]) -> list[Selection]:
    """The rows of plain selections with all these fields, each field from the node that has it.

    Of several nodes with a field those count whose rows were made by one of `recipes`. None (an empty list) where a
    row lacks a field or has one twice.
    """
    known = frozenset(recipes)
    holders = [fitting(found, (name,), known) for name in fields]
    if not all(has_all(some, (name,)) for some, name in zip(holders, fields, strict=True)):
        return []
    whole = holders[0]
    for some in holders[1:]:
        whole = [both for one in whole for other in some if len(both := _common(one, other.sides[0]))]
    rows = sum(map(len, whole))
    if any(rows != sum(map(len, some)) for some in holders):  # else each row has one of each
        return []
    if any(len({id(side.branch) for side in one.sides}) > MOST_JOINED for one in whole):
        return []
    return [_joined(dict(sorted(zip(fields, one.sides, strict=True), key=lambda pair: pair[0]))) for one in whole]


def _common(one: Selection, other: Side) -> Selection:
    """Rows that both have, by id and source, with one side more."""
    order = ids.order(other.ids)
    places = ids.lookup(other.ids[order], one.sides[0].ids)
    mine = np.flatnonzero(places >= 0)
    positions = other.positions[order[places[mine]]]
    same = one.table().source[mine] == other.branch.rows.source[positions]
    return Selection((*one.take(mine[same]).sides, Side(other.branch, positions[same])))


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
    made_by = {name: measured(side.branch)["recipe"] for name, side in places.items()}
    rows = sides[0].branch.rows.take(sides[0].positions)
    above = {step["recipe"]: step for side in sides for step in side.branch.steps}
    branch = Branch(
        " + ".join(dict.fromkeys(side.branch.node for side in sides)), stage, config,
        chain_of(recipe.digest, chains), recipe, schema, rows, tuple(sides),
        steps=(*above.values(), _step(made_by, recipe.components["env"])), joins=numbers,
    )  # fmt: skip
    return Selection((Side(branch, np.arange(len(rows))),))


def _step(made_by: Mapping[str, str], environment: Mapping[str, Any]) -> dict[str, Any]:
    """The step of a join: one recipe for rows whose fields were made alike, whatever variant of an image they show."""
    recipe = digest("join", dict(made_by)).hex()
    told = {name: one[:12] for name, one in made_by.items()}
    return {"stage": JOIN, "config": told, "files": {}, "artifacts": {}, "environment": dict(environment),
            "origin": False, "content": False, "variant": False, "recipe": recipe}  # fmt: skip
