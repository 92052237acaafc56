"""Modules of a user's that a pipeline file names: what they define, without running them; importing them."""

from __future__ import annotations

import ast
import importlib
import os
import traceback
from collections.abc import Iterator
from types import ModuleType

from pipeline.importing import OWN, user_folders
from pipeline.module_paths import is_followed, source_path
from pipeline.parsing import parse


def names_of_users(module: str) -> set[str] | None:
    """Names that a user's module binds at its top; None if there is no such module of a user's.

    Raises ValueError if its source is no valid Python.
    """
    top = module.partition(".")[0]
    if not all(part.isidentifier() for part in module.split(".")) or top in OWN or not is_followed(top):
        return None
    path = source_path(module)
    if path is None:
        return None
    try:
        tree = parse(path.read_bytes(), str(path))
    except SyntaxError as error:
        raise ValueError(f"{path}:{error.lineno or 1} is no valid Python: {error.msg}") from None
    return set(_bound(tree))


def _bound(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def imported(module: str, what: str) -> ModuleType:
    """A module that is to be `what`. Raises ValueError if it cannot be imported, or another one is taken for it."""
    for folder in user_folders()[:1]:
        sentence = hidden(module, folder) if module else ""
        if sentence:
            raise ValueError(f"cannot be imported as {what}: {sentence}")
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever a user's module raises, it is the module's
        missing = isinstance(error, ModuleNotFoundError) and module.startswith(str(error.name))
        way_out = "; it is looked for beside the pipeline file and in PYTHONPATH" if missing else _place(error)
        if missing and module.partition(".")[0] in OWN:
            way_out = f"; '{module.partition('.')[0]}' is Touchstone's own package, give yours another name"
        kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
        raise ValueError(f"cannot be imported as {what}: {kind}{error}{way_out}") from None


def _place(error: BaseException) -> str:
    """` (FILE:LINE)` of the last line of a module that was reached."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if len(frames) > 1 else ""


def hidden(name: str, folder: str) -> str:
    """ "FILE stands behind OTHER FILE of that name; rename it", if Python takes a module from elsewhere, else ""."""
    base = os.path.join(folder, *name.split("."))
    for candidate in (os.path.join(base, "__init__.py"), f"{base}.py"):
        if not os.path.isfile(candidate):
            continue
        taken = source_path(name)
        if taken is not None and os.path.samefile(taken, candidate):
            return ""
        top = name.partition(".")[0]
        if top in OWN:
            return f"{candidate} has the name of Touchstone's own package '{top}'; rename it"
        other = taken or source_path(top) or "a module of Python"
        return f"{candidate} has the name of {other}, which is taken for it; rename it"
    return ""
