"""What a user's code does that the code closure cannot follow, found in its syntax tree and refused when planning.

Modules that are imported by name, code that is read and run, and files beside the code decide values as well as the
code does, but an edit of them would be seen by nobody. Their declared ways are `Stage.modules` and file settings.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import StageError
from pipeline.importing import user_folders
from pipeline.module_paths import compiled_path, import_folders
from pipeline.parsing import parse
from pipeline.user_modules import hidden

BY_NAME = frozenset({
    "builtins.__import__", "builtins.eval", "builtins.exec", "importlib.__import__", "importlib.import_module",
    "importlib.machinery.SourceFileLoader", "importlib.util.module_from_spec", "importlib.util.spec_from_file_location",
    "pkgutil.extend_path", "pkgutil.iter_modules", "pkgutil.resolve_name", "pkgutil.walk_packages", "runpy.run_module",
    "runpy.run_path",
})  # fmt: skip
"""What imports or runs code that no import statement names."""

PLACES = frozenset({
    "__cached__", "__file__", "__loader__", "__path__", "__spec__", "importlib.resources", "importlib_resources",
    "inspect.getabsfile", "inspect.getfile", "inspect.getsourcefile", "pkgutil.get_data",
})  # fmt: skip
"""What tells where code lies, so that files beside it can be read."""

SETTINGS = frozenset({"pipeline.stage.file_setting", "pipeline.stage.row_setting"})
"""Calls whose texts may name files: content enters the recipe, or rows are all that the file decides."""

PAGE = "docs/writing_a_stage.md says more"


Uses = tuple[tuple[tuple[int, str], ...], tuple[tuple[int, str], ...]]
"""(line, word) for what a source uses of BY_NAME and PLACES, and (line, text) for texts that may name a file."""


def refuse_unseen(path: Path, found: Uses, imported: Iterable[str]) -> None:
    """Raise StageError if a module imports by name, reads files beside itself, or imports a compiled module.

    found: `uses_of` its source; imported: modules that it imports and whose edits have to be seen.
    """
    uses, texts = found
    for line, word in uses:
        if word in PLACES:
            raise StageError(f"{_shown(path)}:{line} {_unseen_file(word)}")
        raise StageError(
            f"{_shown(path)}:{line} uses {word.removeprefix('builtins.')}, and edits of what it loads would not be "
            f"seen; import by a statement, or name the modules in `modules` of the stage ({PAGE})"
        )
    for line, text in texts:
        for folder in (os.path.dirname(path), *user_folders(), os.getcwd()):
            if os.path.isfile(os.path.join(folder, text)):
                raise StageError(f"{_shown(path)}:{line} {_unseen_file(repr(text))}")
    for name in imported:
        compiled = compiled_path(name)
        if compiled is not None:
            raise StageError(
                f"{_shown(path)} imports {name}, which is compiled ({compiled.name}), and edits of it would not be "
                f"seen; import its Python source, or name what it is made from in `modules` of the stage ({PAGE})"
            )


def _unseen_file(word: str) -> str:
    return (
        f"uses {word}, and edits of a file that is read by it would not be seen; make the file a file setting of the "
        f"stage ({PAGE})"
    )


def refuse_hidden(path: Path, name: str, imported: Iterable[str]) -> None:
    """Raise StageError if a module imports what lies beside it, but Python takes another module of that name.

    name: of the module at `path`; a relative import cannot be meant otherwise.
    """
    for folder in import_folders(name.partition(".")[0]):
        for other in imported:
            sentence = hidden(other, folder)
            if sentence:
                raise StageError(f"{_shown(path)} imports {other}, but {sentence}")


def _shown(path: Path) -> str:
    """A file as it is named in a sentence: from the pipeline file's folder if it lies there."""
    for folder in user_folders()[:1]:
        if path.is_relative_to(folder):
            return str(path.relative_to(folder))
    return str(path)


def uses_of(source: bytes, name: str) -> Uses:
    """What the source of a module uses that is asked about. Raises SyntaxError."""
    tree = parse(source, name)
    names = _imported_names(tree)
    uses: list[tuple[int, str]] = []
    texts: list[tuple[int, str]] = []
    for node in _executed(tree, names):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _may_be_a_file(node.value):
            texts.append((line, node.value))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None)
            words = {alias.name for alias in node.names} if module is None else {module}
            words |= {f"{module}.{alias.name}" for alias in node.names}
            uses += [(line, word) for word in sorted(words & PLACES)]
        elif isinstance(node, ast.Attribute | ast.Name):
            word = _dotted(node, names)
            if isinstance(node, ast.Attribute) and node.attr in PLACES:  # `module.__file__`
                word = node.attr
            if word in BY_NAME or word in PLACES:
                uses.append((line, word))
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            uses += [(line, "sys.modules")] if _dotted(node.value, names) == "sys.modules" else []
    return tuple(sorted(uses)), tuple(sorted(texts))


def _may_be_a_file(text: str) -> bool:
    return 1 < len(text) < 256 and ("." in text or "/" in text) and "\n" not in text and "\0" not in text


def _executed(tree: ast.AST, names: dict[str, str]) -> Iterator[ast.AST]:
    """Nodes of a tree without texts that do nothing, what runs as a script only, and what is declared or harmless."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.If) and _is_main(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Call):
            called = _dotted(node.func, names)
            if called in SETTINGS or called.startswith("sys.path."):
                continue
            if called in ("builtins.eval", "builtins.exec") and _is_plain(node):
                continue
        if isinstance(node, ast.Assign | ast.AugAssign) and _targets_path(node, names):
            continue
        yield node
        waiting += ast.iter_child_nodes(node)


def _is_main(test: ast.expr) -> bool:
    """Whether a condition is `__name__ == "__main__"`."""
    return isinstance(test, ast.Compare) and "__main__" in [
        part.value for part in (test.left, *test.comparators) if isinstance(part, ast.Constant)
    ]


def _is_plain(call: ast.Call) -> bool:
    """Whether `eval` or `exec` gets a text that stands in the code and imports nothing."""
    first: Any = call.args[0] if call.args else None
    return isinstance(first, ast.Constant) and isinstance(first.value, str) and "import" not in first.value


def _targets_path(node: ast.Assign | ast.AugAssign, names: dict[str, str]) -> bool:
    """Whether a statement sets `sys.path` or a part of it: what is imported from there is followed."""
    target = node.target if isinstance(node, ast.AugAssign) else node.targets[0]
    return _dotted(target.value if isinstance(target, ast.Subscript) else target, names) == "sys.path"


def _imported_names(tree: ast.AST) -> dict[str, str]:
    """Name in a module -> what it means, for imports and for the built-in functions of BY_NAME."""
    names = {word.partition(".")[2]: word for word in BY_NAME if word.startswith("builtins.")}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in names:
            del names[node.name]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                names[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
    """What a name or a chain of attributes means, e.g. `importlib.import_module`; a local name means itself."""
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value, names)
        return f"{inner}.{node.attr}" if inner else ""
    return names.get(node.id, node.id) if isinstance(node, ast.Name) else ""
