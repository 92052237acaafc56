"""Code closure of a node: which source files its values depend on, and a digest of each that ignores spelling.

The closure is the stage's file, the implementation modules that its config selects, and what those import inside the
same top-level packages. Digests are taken from the syntax tree: comments, docstrings and formatting do not count; a
changed helper does. A package's `__init__` counts where a name is taken from it; those of `stages` and `detectors`
never do: they are registries, and adding a detector must not touch the models of another one.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.errors import StageError

REGISTRIES = frozenset({"stages", "detectors"})
"""Packages whose `__init__` lists what there is: adding an entry must not change what the others compute."""

SKIPPED_FIELDS = frozenset({"ctx", "type_comment", "kind", "type_ignores"})


def closure(modules: tuple[str, ...]) -> dict[str, str]:
    """Module name -> digest (32 hex digits) for `modules` and all they import inside `stages` and `detectors`.

    A module outside these two packages (a stage of the user's own) brings its own top-level package.
    """
    roots = {"stages", "detectors"} | {name.partition(".")[0] for name in modules}
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        path = source_path(name)
        if path is None or name in REGISTRIES:
            continue
        stat = path.stat()
        digest, imported, _ = _facts(str(path), stat.st_mtime_ns, stat.st_size, name)
        _check_loaded(name, digest)
        found[name] = digest
        waiting += [other for other in imported if other.partition(".")[0] in roots]
    return dict(sorted(found.items()))


def source_digest(module: str) -> str | None:
    """Digest of a module's source as it stands now; None if there is no such file any more."""
    path = source_path(module)
    if path is None:
        return None
    stat = path.stat()
    return _facts(str(path), stat.st_mtime_ns, stat.st_size, module)[0]


_LOADED: dict[str, tuple[Any, str]] = {}
"""Module -> (the module object, digest of its source when it was first seen): what this process really runs."""


def _check_loaded(name: str, digest: str) -> None:
    """Raise StageError if this process runs an older version of a module than the one on disk."""
    module = sys.modules.get(name)
    if module is None:
        return
    known = _LOADED.get(name)
    if known is None or known[0] is not module:
        _LOADED[name] = (module, digest)
    elif known[1] != digest:
        raise StageError(f"the source of {name} was changed after this process had loaded it; start the process again")


def functions(module: str) -> dict[str, tuple[str, int]]:
    """Top-level definition -> (digest, line), so that `explain` can name the one that changed."""
    path = source_path(module)
    if path is None:
        return {}
    stat = path.stat()
    return _facts(str(path), stat.st_mtime_ns, stat.st_size, module)[2]


def source_path(name: str) -> Path | None:
    """Source file of a module; parents are located, not imported."""
    top, *rest = name.split(".")
    places = _top_places(top)
    for place in places:
        path = place.joinpath(*rest) if place.is_dir() else place
        for candidate in (path.with_name(path.name + ".py") if rest else path, path / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None


@cache
def _top_places(top: str) -> tuple[Path, ...]:
    spec = importlib.util.find_spec(top)
    if spec is None:
        return ()
    if spec.submodule_search_locations:
        return tuple(Path(place) for place in spec.submodule_search_locations)
    return (Path(spec.origin),) if spec.origin else ()


@cache
def _facts(path: str, modified: int, size: int, name: str) -> tuple[str, tuple[str, ...], dict[str, tuple[str, int]]]:
    """Digest, imported module names, and top-level definitions of one file; `modified` and `size` are cache keys."""
    del modified, size
    tree = ast.parse(Path(path).read_text(encoding="utf-8"), path)
    definitions: dict[str, tuple[str, int]] = {}
    whole = hashlib.sha256()
    for statement in _without_texts(tree.body):
        digest = hashlib.sha256(serialize(statement).encode()).hexdigest()[:32]
        whole.update(bytes.fromhex(digest))
        definitions[_label(statement)] = (digest, statement.lineno)
    return whole.hexdigest()[:32], tuple(sorted(_imports(tree, name))), definitions


def _label(statement: ast.stmt) -> str:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return statement.name
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return statement.target.id
    return f"line {statement.lineno}"


def _imports(tree: ast.Module, name: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = name.split(".")[: -node.level]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:  # a submodule, or else a name of the module (or package) itself
                whole = f"{base}.{alias.name}"
                found.add(whole if source_path(whole) else base)
    return found


def serialize(node: Any) -> str:
    """Text of a syntax tree without positions, docstrings and empty fields: the same on every Python from 3.11."""
    if isinstance(node, ast.AST):
        parts = []
        for field in sorted(node._fields):
            value = getattr(node, field, None)
            if field == "body" and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                value = _without_texts(node.body)
            if field in SKIPPED_FIELDS or value is None or value == []:
                continue
            parts.append(f"{field}={serialize(value)}")
        return f"{type(node).__name__}({','.join(parts)})"
    if isinstance(node, list):
        return f"[{','.join(serialize(item) for item in node)}]"
    return f"{type(node).__name__}:{node!r}"


def _without_texts(body: list[ast.stmt]) -> list[ast.stmt]:
    """Statements without docstrings, also those below an assignment: a bare text does nothing."""
    return [
        statement
        for statement in body
        if not (
            isinstance(statement, ast.Expr)
            and isinstance(statement.value, ast.Constant)
            and isinstance(statement.value.value, str)
        )
    ]
