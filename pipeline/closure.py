"""Code closure of a node: which source files its values depend on, and a digest of each that ignores spelling.

The closure is the stage's file, the implementation modules that its config selects, and what those import inside the
same top-level packages. Digests are taken from the syntax tree: comments, docstrings and formatting do not count, nor
do the words of Touchstone's own modules (`pipeline.wording`); a changed helper does. A package's `__init__` counts
where a name is taken from it; those of `stages` and `detectors` never do: they are registries, and adding a detector
must not touch the models of another one.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Any

from pipeline import loaded
from pipeline.errors import StageError
from pipeline.wording import is_apart, without_words

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
        if path is None or name in REGISTRIES or is_apart(name, path):
            continue
        digest, imported, _ = _facts_of_file(path, name)
        _check_loaded(name, digest)
        found[name] = digest
        waiting += [other for other in imported if other.partition(".")[0] in roots]
    return dict(sorted(found.items()))


def source_digest(module: str) -> str | None:
    """Digest of a module's source as it stands now; None if there is no such file any more."""
    path = source_path(module)
    return None if path is None else _facts_of_file(path, module)[0]


def loaded_digest(module: str) -> str | None:
    """Digest of the source that this process runs of a module; None if it has not imported it.

    Raises StageError where a module that was imported before `pipeline` is no longer what its file says.
    """
    found = sys.modules.get(module)
    if found is None:
        return None
    source = loaded.source_of(module)
    if source is not None:
        return _facts(source, module)[0]
    path = source_path(module)
    if path is None:
        return None
    text = path.read_bytes()
    unlike = loaded.unlike_source(found, text) if loaded.is_plain(found) else loaded.touched_since_start(path)
    if unlike is not None:
        raise StageError(
            f"'{unlike}' of {module} is not what {path.name} says: it was changed after this process had loaded it, or "
            "replaced in memory; start the process again"
        )
    return _facts(text, module)[0]


def _check_loaded(name: str, digest: str) -> None:
    """Raise StageError if this process runs another version of a module than the one on disk."""
    running = loaded_digest(name)
    if running is not None and running != digest:
        raise StageError(
            f"{changed_definition(name, digest)} was changed after this process had loaded it; start the process again"
        )


def changed_definition(module: str, digest: str) -> str:
    """ "the source of MODULE (function NAME, line N)": where loaded code and file differ, as far as can be told."""
    path, source = source_path(module), loaded.source_of(module)
    if path is None or source is None:
        return f"the source of {module}"
    now, before = _facts_of_file(path, module), _facts(source, module)
    if digest not in (now[0], before[0]) or now[0] == before[0]:
        return f"the source of {module}"
    different = [
        (line, name)
        for name, (mark, line) in {**before[2], **now[2]}.items()
        if before[2].get(name, ("",))[0] != now[2].get(name, ("",))[0] or before[2].get(name) is None
    ]
    line, name = min(different, default=(0, ""))
    return f"the source of {module} ({name}, line {line})" if name else f"the source of {module}"


def functions(module: str) -> dict[str, tuple[str, int]]:
    """Top-level definition -> (digest, line), so that `explain` can name the one that changed."""
    path = source_path(module)
    return {} if path is None else _facts_of_file(path, module)[2]


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


Facts = tuple[str, tuple[str, ...], dict[str, tuple[str, int]]]
"""Digest of a source, the modules that it imports, and its top-level definitions."""


def _facts_of_file(path: Path, name: str) -> Facts:
    return _facts_of_stamp(str(path), loaded.file_stamp(path), name)


@cache
def _facts_of_stamp(path: str, stamp: tuple[int, ...], name: str) -> Facts:
    del stamp  # the file is read again when it was touched
    return _facts(Path(path).read_bytes(), name)


@cache
def _facts(source: bytes, name: str) -> Facts:
    """Facts of a module's source text."""
    tree = without_words(ast.parse(source, name), name)
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
