"""Code closure of a node: which source files its values depend on, and a digest of each that ignores spelling.

The closure is the stage's file, the implementation modules that its config selects, and what those import: of
Touchstone inside `stages` and `detectors`, of a user's code every module that is not installed. Digests are taken from
the syntax tree: comments, docstrings and formatting do not count, nor do the words of Touchstone's own modules
(`pipeline.planning.wording`); a changed helper does. The `__init__` of a user's package counts for each of its modules,
since it runs first and may change them. One of Touchstone's counts where a name is taken from it; those of `stages` and
`detectors` never do: they are registries, and adding a detector must not touch the models of another one.
"""

from __future__ import annotations

import ast
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pipeline import loaded
from pipeline.contents import kept_while_same
from pipeline.declaring import user_code
from pipeline.declaring.user_code import Uses, refuse_hidden, refuse_unseen, uses_of
from pipeline.errors import StageError
from pipeline.importing import VALUES, is_installed, is_own, user_folders
from pipeline.module_paths import compiled_path, import_folders, is_followed, parents, source_path, submodules
from pipeline.parsing import parse
from pipeline.planning import source_facts, wording
from pipeline.planning.wording import counted_fields, is_apart, nodes, without_words

REGISTRIES = frozenset(VALUES)
"""Packages whose `__init__` lists what there is: adding an entry must not change what the others compute."""

READERS: Any = (sys.modules[__name__], wording, user_code)
"""Modules that say what a source means: what is kept of sources holds for these."""

Result = TypeVar("Result")

_look: ContextVar[dict[tuple[tuple[str, ...], bool], dict[str, str]]] = ContextVar("closures of this look")

BODIES = frozenset({ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef})
"""Statements that may begin with a docstring."""


def closure(modules: tuple[str, ...], declared: bool = False) -> dict[str, str]:
    """Module name -> digest (32 hex digits) for `modules` and all of what they import that is not installed.

    declared: their stage names in `modules` what its code imports or reads by other ways than import statements.
    Raises StageError for a user's code that does so undeclared, or imports what another module hides.
    """
    known = _look.get({})
    if (modules, declared) not in known:
        known[modules, declared] = _closure(modules, declared)
    return dict(known[modules, declared])


@contextmanager
def one_look() -> Iterator[None]:
    """Within the block, sources are taken for what they were at the first look: all nodes of a plan mean the same."""
    token = _look.set({})
    try:
        yield
    finally:
        _look.reset(token)


def _closure(modules: tuple[str, ...], declared: bool) -> dict[str, str]:
    named = frozenset(name.partition(".")[0] for name in modules)
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found or name in REGISTRIES:
            continue
        top = name.partition(".")[0]
        if top not in REGISTRIES and top not in named and not is_followed(top):
            continue
        path = _own_path(name) if top in REGISTRIES else source_path(name)
        if top not in REGISTRIES:
            waiting += parents(name)
        if path is None or not (top in named or top in REGISTRIES or _is_users(path)):
            continue
        try:
            fact = _counted_facts(path, name)
        except FileNotFoundError:  # removed since it was found
            fact = None
        if fact is None:
            continue
        digest, imported = fact
        _check_loaded(name, digest)
        found[name] = digest
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        if top in REGISTRIES:
            waiting += _own_imports(imported, package)
        else:
            others = _resolved(imported, package, named)
            waiting += others
            if _is_users(path):
                _refuse(path, name, others, named, declared)
    return dict(sorted(found.items()))


def _is_users(path: Path) -> bool:
    """Whether a file is neither installed nor Touchstone's own."""
    return not (is_own(str(path)) or is_installed(str(path)))


def _refuse(path: Path, name: str, imported: tuple[str, ...], named: frozenset[str], declared: bool) -> None:
    """Raise StageError for what a module of a user's does that cannot be followed.

    Code that lies neither beside the pipeline file nor beside a stage's is read, but nobody is told to rewrite it.
    """
    refuse_hidden(path, name, imported)
    folders = [folder + os.sep for folder in user_folders()]
    folders += [folder for top in named for folder in import_folders(top)]
    if not declared and str(path).startswith(tuple(folders)):
        refuse_unseen(path, _uses(path, name), [other for other in imported if is_followed(other.partition(".")[0])])


@kept_while_same(None)
def _uses(path: Path, name: str) -> Uses:
    source = path.read_bytes()
    mark = source_facts.mark(source, name, "uses")
    found: Uses | None = source_facts.recall(mark)
    if found is None:
        found = uses_of(source, name)
        source_facts.learn(mark, found)
    return found


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
    loaded.wait_for(found)
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
    marks = (_facts_of_file(path, module)[0], _facts(source, module)[0])
    if digest not in marks or marks[0] == marks[1]:
        return f"the source of {module}"
    now, before = _definitions(path.read_bytes(), module), _definitions(source, module)
    different = [
        (line, name)
        for name, (mark, line) in {**before, **now}.items()
        if before.get(name, ("",))[0] != now.get(name, ("",))[0] or before.get(name) is None
    ]
    line, name = min(different, default=(0, ""))
    return f"the source of {module} ({name}, line {line})" if name else f"the source of {module}"


def functions(module: str) -> dict[str, tuple[str, int]]:
    """Top-level definition -> (digest, line), so that `explain` can name the one that changed."""
    path = source_path(module)
    return {} if path is None else _read(path, module, _definitions)


def use_facts_of(store: Path, learn: bool = False) -> None:
    """Take what earlier runs have found out about sources from a store; with `learn`, add what this process did."""
    reader = b"".join(loaded.source_of(module.__name__) or Path(module.__file__).read_bytes() for module in READERS)
    (source_facts.save if learn else source_facts.load)(store, reader)


@cache
def _own_path(name: str) -> Path | None:
    """`source_path` of a module of Touchstone's own: no file comes while a process runs."""
    return source_path(name)


@kept_while_same(None)
def _counted_facts(path: Path, name: str) -> source_facts.Fact | None:
    """Facts of a file, None if it says that it is part of no recipe: both for one look at the file's stamp."""
    return None if is_apart(name, path) else _facts_of_file(path, name)


@kept_while_same(None)
def _facts_of_file(path: Path, name: str) -> source_facts.Fact:
    return _read(path, name, _facts)


def _read(path: Path, name: str, understand: Callable[[bytes, str], Result]) -> Result:
    try:
        return understand(path.read_bytes(), name)
    except (SyntaxError, ValueError) as error:
        raise StageError(f"{path}:{getattr(error, 'lineno', None) or 1} is no valid Python: {error}") from None


@cache
def _facts(source: bytes, name: str) -> source_facts.Fact:
    """Digest of a module's source text, and what it imports."""
    mark = source_facts.mark(source, name)
    found: source_facts.Fact | None = source_facts.recall(mark)
    if found is None:
        tree = without_words(parse(source, name), name)
        whole = hashlib.sha256()
        for statement in _without_texts(tree.body):
            whole.update(_digest(statement))
        found = whole.hexdigest()[:32], tuple(sorted(_imports(tree)))
        source_facts.learn(mark, found)
    return found


@cache
def _definitions(source: bytes, name: str) -> dict[str, tuple[str, int]]:
    """Top-level definitions of a source text -> digest and line."""
    statements = _without_texts(without_words(parse(source, name), name).body)
    return {_label(statement): (_digest(statement).hex(), statement.lineno) for statement in statements}


def _digest(statement: ast.stmt) -> bytes:
    return hashlib.sha256(serialize(statement).encode()).digest()[:16]


def _label(statement: ast.stmt) -> str:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return statement.name
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return statement.target.id
    return f"line {statement.lineno}"


def _imports(tree: ast.Module) -> set[str]:
    """What a module imports, as it is written: `numpy.fft`, or `.shapes:square` for a name from a module."""
    found: set[str] = set()
    for node in nodes(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{'.' * node.level}{node.module or ''}:{alias.name}" for alias in node.names}
    return found


def _resolved(imported: tuple[str, ...], package: str, named: frozenset[str]) -> tuple[str, ...]:
    """Modules behind the imports of a module that lies in `package` (of an `__init__`: the package itself).

    What is imported from a package that is not followed is the package. named: top-level names that are followed too.
    """
    found: set[str] = set()
    for text in imported:
        base, separator, name = text.partition(":")
        level = len(base) - len(base.lstrip("."))
        if level:
            above = package.split(".")[: len(package.split(".")) - level + 1]
            base = ".".join([*above, base[level:]] if base[level:] else above)
        top = base.partition(".")[0]
        if not base:
            continue
        if not separator or not (top in named or is_followed(top)):
            found.add(base)
        elif name == "*":  # of a package: its `__init__`, which may say that all of its modules are meant
            found |= {base, *submodules(base)}
        else:  # a submodule, or else a name of the module (or package) itself
            whole = f"{base}.{name}"
            found.add(whole if not _is_own_module(base) and (source_path(whole) or compiled_path(whole)) else base)
    return tuple(sorted(found))


def _is_own_module(name: str) -> bool:
    """Whether a name is a module of Touchstone's own and no package: nothing lies below it."""
    path = _own_path(name) if name.partition(".")[0] in REGISTRIES else None
    return path is not None and path.name != "__init__.py"


@cache
def _own_imports(imported: tuple[str, ...], package: str) -> tuple[str, ...]:
    """The same for a module of Touchstone's own, without what is not followed: no file comes while a process runs."""
    found = _resolved(imported, package, REGISTRIES)
    return tuple(name for name in found if name.partition(".")[0] in REGISTRIES and name not in REGISTRIES)


def serialize(node: Any) -> str:
    """Text of a syntax tree without positions, docstrings and empty fields: the same on every Python from 3.11."""
    if isinstance(node, list):
        return f"[{','.join([serialize(item) for item in node])}]"
    kind = type(node)
    if not isinstance(node, ast.AST):
        return f"{kind.__name__}:{node!r}"
    values, parts = vars(node), []
    for field in counted_fields(kind):  # type: ignore[arg-type]  # a class is hashable
        value = values.get(field)
        if field == "body" and kind in BODIES:
            value = _without_texts(value or [])
        if value is not None and value != []:
            parts.append(f"{field}={serialize(value)}")
    return f"{kind.__name__}({','.join(parts)})"


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
