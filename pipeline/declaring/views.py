"""Views: selections of rows without data of their own, as written in `pipeline.yaml`.

photos                                             all rows of a node (of all its instances)
fakes[progan-raw]                                  one instance of a matrix
[photos, fakes]                                    union
{of: images, where: label = fake and split != test}
{of: images, take: 1000}                           the first 1000 by rank of a hash: stable when rows are added
{of: images, balance: label}                       of the more numerous class, in each split, as many as of the other
{of: images, pair: perturbed, on: group}           join two views on id or group
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.declaring.document import Document, Place
from pipeline.errors import ConfigError
from pipeline.sentences import describe, nearest
from pipeline.spelling import normalized
from pipeline.stage import SPLITS

FIELDS = ("label", "split", "domain", "source", "group")
LABELS = {"real": 0, "fake": 1}

_FIELD = r"\s*(\w+)"
_OPERATOR = r"\s*(==|=|!=|not\s+in\b|in\b)"
_AND = r"\s*and(?=\s)"
_OPEN, _COMMA, _CLOSE = r"\s*\[", r"\s*,", r"\s*\]"
_VALUE = r"""(?x) \s*(?: '(?P<single>(?:[^']|'')*)' | "(?P<double>(?:[^"]|"")*)"
          | (?P<word>[^\s\[\],='"][^\s\[\],=]*(?:\[[^\]]*\])?) )"""
"""Patterns as text: most files have no condition, and to compile these took longer than to read such a file."""

Resolve = Callable[[str, Place], tuple[str, ...]]
"""Names of node instances behind a name in the file; raises ConfigError."""


@dataclass(frozen=True)
class Term:
    """`field = value`, `field in [values]`, or the negation."""

    field: str
    values: tuple[str, ...]
    negated: bool


@dataclass(frozen=True)
class View:
    """A parsed view. `nodes` (a leaf) or `parts` (a union), then filters in the order where, pair, balance, take."""

    nodes: tuple[str, ...] = ()
    parts: tuple[View, ...] = ()
    where: tuple[Term, ...] = ()
    balance: bool = False
    take: int | None = None
    pair: View | None = None
    on: str = "id"

    def references(self) -> set[str]:
        """Names of all node instances that the view reads."""
        found = set(self.nodes)
        for part in self.parts:
            found |= part.references()
        return found | (self.pair.references() if self.pair else set())


def parse(value: Any, place: Place, document: Document, resolve: Resolve) -> View:
    """A view from plain data."""
    if isinstance(value, str):
        return View(nodes=resolve(value, place))
    if isinstance(value, list):
        if not value:
            raise document.error(place, "is an empty list; name at least one node")
        return View(parts=tuple(parse(item, (*place, i), document, resolve) for i, item in enumerate(value)))
    if not isinstance(value, dict):
        raise document.error(place, f"is {describe(value)}; a view is a node name, a list, or a mapping with 'of'")
    return _mapping(value, place, document, resolve)


def _mapping(value: Mapping[str, Any], place: Place, document: Document, resolve: Resolve) -> View:
    allowed = ("of", "where", "balance", "take", "pair", "on")
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
    if value.get("balance", "label") != "label":
        raise document.error((*place, "balance"), f"is {describe(value['balance'])}; rows are balanced by label")
    on = value.get("on", "id")
    if on not in ("id", "group"):
        raise document.error((*place, "on"), f"is {describe(on)}; views are paired on id or on group")
    pair = parse(value["pair"], (*place, "pair"), document, resolve) if "pair" in value else None
    where = _conditions(value["where"], (*place, "where"), document) if "where" in value else ()
    return View(parts=(inner,), where=where, balance="balance" in value, take=take, pair=pair, on=on)


def _conditions(text: Any, place: Place, document: Document) -> tuple[Term, ...]:
    """Terms of `label = fake and domain in ['salt and pepper', cats]`."""
    if not isinstance(text, str):
        raise document.error(place, f"is {describe(text)}; expected a condition such as label = fake and split = test")
    reader = _Reader(text, place, document)
    terms = [_term(reader)]
    while not reader.ended():
        reader.take(_AND, "'and' or the end")
        terms.append(_term(reader))
    for term in terms:
        if term.field not in FIELDS:
            raise reader.error(f"asks for '{term.field}'{nearest(term.field, FIELDS)}")
        legal = LABELS if term.field == "label" else SPLITS if term.field == "split" else ()
        for word in term.values:
            if legal and word not in legal:
                raise reader.error(f"compares {term.field} with '{word}'{nearest(word, legal)}")
    return tuple(terms)


def _term(reader: _Reader) -> Term:
    name = reader.take(_FIELD, "a field")[1]
    operator = reader.take(_OPERATOR, "=, !=, in or not in")[1]
    many = operator.endswith("in")
    if many != reader.sees("[") and not reader.ended():
        raise reader.error(f"has {reader.shown()}; 'in' wants a list [A, B], '=' one value")
    values = _list(reader) if many else (_value(reader),)
    return Term(name, tuple(map(normalized, values)), operator == "!=" or operator.startswith("not"))


def _list(reader: _Reader) -> tuple[str, ...]:
    reader.take(_OPEN, "[")
    values = [_value(reader)]
    while not reader.sees("]"):
        reader.take(_COMMA, "a comma or ]")
        values.append(_value(reader))
    reader.take(_CLOSE, "]")
    return tuple(values)


def _value(reader: _Reader) -> str:
    """A word, or a text in quotes, which it holds doubled: 'it''s'."""
    found = reader.take(_VALUE, "a value")
    for quote, inside in (("'", found["single"]), ('"', found["double"])):
        if inside is not None:
            return str(inside).replace(2 * quote, quote)
    return str(found["word"])


class _Reader:
    """A condition, read from left to right."""

    def __init__(self, text: str, place: Place, document: Document) -> None:
        self.text = text
        self.at = 0
        self.place = place
        self.document = document

    def ended(self) -> bool:
        return not self.text[self.at :].strip()

    def sees(self, mark: str) -> bool:
        return self.text[self.at :].lstrip().startswith(mark)

    def take(self, pattern: str, expected: str) -> re.Match[str]:
        """What stands next. Raises ConfigError if it is something else."""
        found = re.compile(pattern).match(self.text, self.at)
        if found is None:
            rest = self.text[self.at :].strip()
            raise self.error(
                f"has {self.shown()}; expected FIELD = VALUE, != VALUE, in [A, B] or not in [A, B], joined by 'and', "
                f"values of several words in quotes: {expected} at {describe(rest) if rest else 'the end'}"
            )
        self.at = found.end()
        return found

    def shown(self) -> str:
        return describe(self.text)

    def error(self, sentence: str) -> ConfigError:
        return self.document.error(self.place, sentence)
