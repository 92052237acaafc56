"""Views: selections of rows without data of their own, as written in `pipeline.yaml`.

photos                                             all rows of a node (of all its instances)
fakes[progan-raw]                                  one instance of a matrix
[photos, fakes]                                    union
{of: images, where: label = fake and split != test}
{of: images, take: 1000}                           the first 1000 by rank of a hash: stable when rows are added
{of: images, pair: perturbed, on: group}           join two views on id or group
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.document import Document, Place, describe, nearest
from pipeline.stage import SPLITS

FIELDS = ("label", "split", "domain", "source", "group")
LABELS = {"real": 0, "fake": 1}

_TERM = re.compile(
    r"\s*(\w+)\s*(==|=|!=|not\s+in\b|in\b)\s*(\[(?:[^\[\]]|\[[^\]]*\])*\]|[^\s\[\],=]+(?:\[[^\]]*\])?)\s*"
)

_WORD = re.compile(r"""[^\s,\[\]'"]+(?:\[[^\]]*\])?""")


@dataclass(frozen=True)
class Term:
    """`field = value`, `field in [values]`, or the negation."""

    field: str
    values: tuple[str, ...]
    negated: bool


@dataclass(frozen=True)
class View:
    """A parsed view. `nodes` (a leaf) or `parts` (a union), then filters in the order where, pair, take."""

    nodes: tuple[str, ...] = ()
    parts: tuple[View, ...] = ()
    where: tuple[Term, ...] = ()
    take: int | None = None
    pair: View | None = None
    on: str = "id"

    def references(self) -> set[str]:
        """Names of all node instances that the view reads."""
        found = set(self.nodes)
        for part in self.parts:
            found |= part.references()
        return found | (self.pair.references() if self.pair else set())


def parse(value: Any, place: Place, document: Document, resolve: Callable[[str, Place], tuple[str, ...]]) -> View:
    """A view from plain data; `resolve` turns a name into instances or raises."""
    if isinstance(value, str):
        return View(nodes=resolve(value, place))
    if isinstance(value, list):
        if not value:
            raise document.error(place, "is an empty list; name at least one node")
        return View(parts=tuple(parse(item, (*place, i), document, resolve) for i, item in enumerate(value)))
    if not isinstance(value, dict):
        raise document.error(place, f"is {describe(value)}; a view is a node name, a list, or a mapping with 'of'")
    return _mapping(value, place, document, resolve)


def _mapping(
    value: Mapping[str, Any], place: Place, document: Document, resolve: Callable[[str, Place], tuple[str, ...]]
) -> View:
    allowed = ("of", "where", "take", "pair", "on")
    for key in value:
        if key not in allowed:
            raise document.error((*place, key), f"is not a part of a view{nearest(key, allowed)}")
    if "of" not in value:
        raise document.error(place, "lacks 'of': the nodes that the view selects from")
    if "on" in value and "pair" not in value:
        raise document.error((*place, "on"), "has no effect without 'pair'")
    inner = parse(value["of"], (*place, "of"), document, resolve)
    take = value.get("take")
    if take is not None and (isinstance(take, bool) or not isinstance(take, int) or take < 1):
        raise document.error((*place, "take"), f"is {describe(take)}; expected a whole number of rows, 1 or more")
    on = value.get("on", "id")
    if on not in ("id", "group"):
        raise document.error((*place, "on"), f"is {describe(on)}; views are paired on id or on group")
    pair = parse(value["pair"], (*place, "pair"), document, resolve) if "pair" in value else None
    where = _conditions(value["where"], (*place, "where"), document) if "where" in value else ()
    return View(parts=(inner,), where=where, take=take, pair=pair, on=on)


def _conditions(text: Any, place: Place, document: Document) -> tuple[Term, ...]:
    if not isinstance(text, str):
        raise document.error(place, f"is {describe(text)}; expected a condition such as label = fake and split = test")
    return tuple(_term(part, place, document) for part in re.split(r"\s+and\s+", text.strip()))


def _term(text: str, place: Place, document: Document) -> Term:
    match = _TERM.fullmatch(text)
    if match is None:
        raise document.error(place, f"has '{text}'; expected FIELD = VALUE, != VALUE, in [A, B] or not in [A, B]")
    name, operator, values_text = match.groups()
    if name not in FIELDS:
        raise document.error(place, f"asks for '{name}'{nearest(name, FIELDS)}")
    many = "in" in operator
    if many != values_text.startswith("["):
        raise document.error(place, f"has '{text}'; 'in' wants a list [A, B], '=' one value")
    inside = _WORD.findall(values_text[1:-1]) if many else [values_text]
    values = tuple(word.strip("'\"") for word in inside)
    legal = LABELS if name == "label" else SPLITS if name == "split" else ()
    for word in values:
        if legal and word not in legal:
            raise document.error(place, f"compares {name} with '{word}'{nearest(word, legal)}")
    return Term(name, values, operator == "!=" or operator.startswith("not"))
