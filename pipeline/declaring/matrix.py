"""Matrices: one entry of `nodes` that makes several nodes, one for each combination of its axes.

An axis is a list of words and numbers, or the name of another entry, whose nodes it goes over, or `{of: [A, B]}`, which
are several of these; they may stand anywhere in the file and may be matrices themselves. `{axis}` is then the name of
such a node, and `{axis.inner}` what stands for the axis `inner` of its own matrix.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from pipeline.declaring.document import Document, Place
from pipeline.sentences import describe, nearest

NODE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
MOST_NODES = 10_000
"""Nodes of a pipeline, all matrices together."""


@dataclass(frozen=True)
class Instance:
    """A node before its stage is known: the entry, its settings with the axes filled in, and the cell of the matrix."""

    entry: str
    raw: dict[str, Any]
    cell: Mapping[str, Any]


def expand(entries: Mapping[str, Any], document: Document) -> dict[str, Instance]:
    """Instances by name, in the order of the file. Raises ConfigError with the line that is wrong."""
    over: dict[str, list[str]] = {}
    for entry, raw in entries.items():
        place: Place = ("nodes", entry)
        if not NODE_NAME.fullmatch(entry):
            raise document.error(place, "is not a node name; use letters, digits and _, beginning with a letter")
        if not isinstance(raw, dict):
            raise document.error(place, f"is {describe(raw)}; expected a mapping, e.g. {entry}: {{stage: ...}}")
        if "stage" not in raw:
            raise document.error(place, "lacks 'stage'")
        axes = raw.get("matrix")
        if axes is not None:
            _check_axes(axes, entry, entries, document)
            over[entry] = [other for values in axes.values() for other in _entries(values)]
    made: dict[str, dict[str, Instance]] = {entry: {entry: Instance(entry, entries[entry], {})} for entry in entries}
    count = len(entries) - len(over)
    for entry in _in_order(over, document):
        axes = entries[entry]["matrix"]
        columns = [
            [name for other in _entries(values) for name in made[other]] if _entries(values) else values
            for values in axes.values()
        ]
        count += math.prod(len(column) for column in columns)
        if count > MOST_NODES:
            raise document.error(
                ("nodes", entry, "matrix"),
                f"brings the pipeline to {count:,} nodes ({' x '.join(str(len(one)) for one in columns)} here), the "
                f"most is {MOST_NODES:,}; shorten a list, or split the pipeline",
            )
        body = {key: value for key, value in entries[entry].items() if key != "matrix"}
        made[entry] = {
            name: Instance(entry, substitute(body, cell, document, ("nodes", entry)), cell)
            for name, cell in _cells(entry, axes, columns, document, made).items()
        }
    return {name: instance for instances in made.values() for name, instance in instances.items()}


def _entries(values: Any) -> list[str]:
    """Entries whose nodes an axis goes over; none of a list of values."""
    if isinstance(values, Mapping):
        named = values.get("of", [])
        return [named] if isinstance(named, str) else list(named)
    return [values] if isinstance(values, str) else []


def _in_order(over: Mapping[str, list[str]], document: Document) -> list[str]:
    """Entries with a matrix, each after those that it goes over. Raises ConfigError for a circle."""
    try:
        return [entry for entry in TopologicalSorter(over).static_order() if entry in over]
    except CycleError as error:
        circle = error.args[1][::-1]  # the library names each one before what it waits for
        first = min(range(len(circle) - 1), key=lambda place: list(over).index(circle[place]))
        circle = [*circle[first:-1], *circle[:first], circle[first]]
        raise document.error(
            ("nodes", circle[0], "matrix"), f"goes around in a circle of matrices: {' -> '.join(circle)}"
        ) from None


def _check_axes(axes: Any, entry: str, entries: Mapping[str, Any], document: Document) -> None:
    place: Place = ("nodes", entry, "matrix")
    if not isinstance(axes, dict) or not axes:
        raise document.error(place, f"is {describe(axes)}; expected a mapping of names to lists, and not empty")
    body = json.dumps({key: value for key, value in entries[entry].items() if key != "matrix"}, ensure_ascii=False)
    for axis, values in axes.items():
        if isinstance(values, str | dict):
            _check_entries(values, entry, entries, document, (*place, axis))
        elif not isinstance(values, list) or not values:
            raise document.error((*place, axis), f"is {describe(values)}; expected a list that is not empty, or a node")
        elif any(isinstance(value, dict | list) or value is None for value in values):
            raise document.error((*place, axis), "may hold words, numbers and true or false only")
        if not re.search(rf"\{{{re.escape(axis)}(\.[^{{}}]+)?\}}", body):
            raise document.error((*place, axis), f"is used nowhere in '{entry}'; write {{{axis}}} where it belongs")


def _check_entries(values: Any, entry: str, entries: Mapping[str, Any], document: Document, place: Place) -> None:
    """An axis over other entries: one name, or a mapping with `of` and nothing else."""
    named = _entries(values)
    if isinstance(values, dict) and (set(values) != {"of"} or not named):
        raise document.error(place, f"is {describe(values)}; expected a list, a node, or {{of: [NODE, NODE]}}")
    for other in named:
        if other == entry:
            raise document.error(place, "names its own node; a matrix goes over another node or a list")
        if other not in entries:
            raise document.error(place, f"names '{other}', which is no node{nearest(str(other), entries)}")


def _cells(
    entry: str,
    axes: Mapping[str, Any],
    columns: list[list[Any]],
    document: Document,
    made: Mapping[str, Mapping[str, Instance]],
) -> dict[str, dict[str, Any]]:
    """Axes and their values for each instance of a matrix, by the instance's name."""
    result: dict[str, dict[str, Any]] = {}
    for combination in itertools.product(*columns):
        words, cell = [], {}
        for (axis, values), value in zip(axes.items(), combination, strict=True):
            cell[axis] = value
            whole, inner = _word(value), _word(value).partition("[")[2].rstrip("]")
            of = next((made[other][value] for other in _entries(values) if value in made[other]), None)
            if of is not None:
                cell |= {f"{axis}.{name}": one for name, one in of.cell.items()}
                if isinstance(values, Mapping):  # of several entries: the word says of which
                    inner = f"{of.entry}-{inner}" if inner else whole
            words.append(inner or whole)
        name = f"{entry}[{'-'.join(words)}]"
        if name in result:
            raise document.error(("nodes", entry, "matrix"), f"makes the instance {name} twice; rename a value")
        result[name] = cell
    return result


def _word(value: Any) -> str:
    """A value of an axis as it is written in the file."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def substitute(value: Any, cell: Mapping[str, Any], document: Document | None = None, place: Place = ()) -> Any:
    """`{axis}` replaced in all strings; a string that is nothing but `{axis}` becomes the value itself."""
    if isinstance(value, dict):
        return {key: substitute(inner, cell, document, (*place, key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [substitute(inner, cell, document, (*place, number)) for number, inner in enumerate(value)]
    if not isinstance(value, str):
        return value
    for axis, replacement in cell.items():
        if value == "{" + axis + "}":
            return replacement
        value = value.replace("{" + axis + "}", _word(replacement))
    unknown = re.search(r"\{(\w+(?:\.\w+)*)\}", value)
    if unknown and document:
        raise document.error(place, f"uses {{{unknown[1]}}}, which is no axis of the matrix{nearest(unknown[1], cell)}")
    return value
