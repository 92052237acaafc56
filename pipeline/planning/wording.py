"""What stands in Touchstone's own modules and can change no value: words, and modules that hold nothing else.

A recipe names the code that values depend on. The text of an error and the description of a setting are read by people,
and a registry says what there is: an edit of these must not make everything stale that was ever computed. So words are
taken out of a syntax tree before its digest, and a module with the line `IN_RECIPES = False` is left out of all
closures, with what only it imports. Such a module computes nothing (a test reads them all). Modules of a user are taken
as they are: nobody proves of them what their words do.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pipeline.contents import kept_while_same
from pipeline.parsing import parse

OWN = frozenset({"stages", "detectors"})
MARK = "IN_RECIPES"
SKIPPED_FIELDS = frozenset({"ctx", "type_comment", "kind", "type_ignores"})
SETTINGS = frozenset({"setting", "row_setting", "file_setting", "Input", "Field", "NetworkKind"})
"""Functions and classes whose `description` people read."""


def is_own(module: str) -> bool:
    """Whether a module is one of Touchstone's."""
    return module.partition(".")[0] in OWN


def is_apart(module: str, path: Path) -> bool:
    """Whether a module says that it is part of no recipe."""
    return is_own(module) and _marked(path)


@kept_while_same(None)
def _marked(path: Path) -> bool:
    source = path.read_bytes()
    return MARK.encode() in source and any(_is_mark(statement) for statement in parse(source).body)


def _is_mark(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.Assign) or not isinstance(statement.value, ast.Constant):
        return False
    names = [target.id for target in statement.targets if isinstance(target, ast.Name)]
    return names == [MARK] and statement.value.value is False


def without_words(tree: ast.Module, module: str) -> ast.Module:
    """A tree without the arguments of exceptions that are raised and the descriptions of settings; changed in place."""
    if is_own(module):
        for node in nodes(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                node.exc.args, node.exc.keywords = [], []
            elif isinstance(node, ast.Call) and _called(node.func) in SETTINGS:
                node.keywords = [keyword for keyword in node.keywords if keyword.arg != "description"]
    return tree


def nodes(tree: ast.Module) -> Iterator[ast.AST]:
    """All nodes of a tree but contexts, each before its children: `ast.walk` in half the time."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        values = vars(node)
        for field in counted_fields(type(node)):  # type: ignore[arg-type]  # a class is hashable
            value = values.get(field)
            if isinstance(value, list):
                waiting += [item for item in value if isinstance(item, ast.AST)]
            elif isinstance(value, ast.AST):
                waiting.append(value)


@cache
def counted_fields(kind: type[ast.AST]) -> tuple[str, ...]:
    """Fields of a kind of node that say what it does, sorted."""
    return tuple(field for field in sorted(kind._fields) if field not in SKIPPED_FIELDS)


def _called(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
