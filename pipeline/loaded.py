"""What this process has really loaded: the source of each module, and the version of each library.

A digest of a file says nothing about the code that runs, since the file may have been edited after the import, or
before it. So each module that is imported once `pipeline` is there keeps the source bytes that it was compiled from.
Python's own cache of compiled files is believed only where it is at least two seconds younger than the source: it looks
at whole seconds and sizes, and would serve an edit of equal length within one second.

A module that was loaded before (in a notebook) has no such record: its functions and constants are compared with what
its file says, and a difference is told.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import inspect
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from pipeline.contents import file_stamp
from pipeline.importing import VALUES, is_installed
from pipeline.parsing import parse

YOUNG_NS = 2_000_000_000
"""A compiled file that is less than this younger than its source may be that of the source before."""

IMPORT_NAMES = {
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "pywavelets": "pywt",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
}
"""Distributions whose package has another name."""

_SOURCES: dict[str, tuple[ModuleType | None, bytes]] = {}
_LIBRARY_TIMES: dict[str, float] = {}
"""Top-level package of an installed distribution -> when this process began to import it."""

_VERSIONS: dict[str, str] = {}


class RecordingLoader(SourceFileLoader):
    """Loads a module from its file and keeps the source that was compiled."""

    def get_code(self, fullname: str) -> CodeType | None:
        """Code of the module; its compiled file is used only where it is surely that of the source."""
        path = self.get_filename(fullname)
        while True:
            before = file_stamp(path)
            source = self.get_data(path)
            if _believable(path, before):
                code = super().get_code(fullname)
            else:
                code = self.source_to_code(source, path)  # type: ignore[assignment]
            if file_stamp(path) == before:
                _SOURCES[fullname] = (None, source)
                return code


def _believable(path: str, source: tuple[int, ...]) -> bool:
    """Whether the compiled file, if there is one, is that of the source; one that may not be is removed."""
    try:
        compiled = importlib.util.cache_from_source(path)
        written = os.stat(compiled).st_mtime_ns
    except (OSError, NotImplementedError):
        return True
    if written - max(source[2:]) >= YOUNG_NS:
        return True
    with suppress(OSError):
        os.unlink(compiled)
    return not os.path.exists(compiled)


class _Finder:
    """Lets the other finders find a module, and has it loaded by a RecordingLoader unless it is a library's."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        for finder in sys.meta_path:
            if finder is self:
                continue
            spec = finder.find_spec(fullname, path, target) if hasattr(finder, "find_spec") else None
            if spec is None:
                continue
            top, _, below = fullname.partition(".")
            if spec.has_location and spec.origin and is_installed(spec.origin) and top not in VALUES:
                if not below:
                    _LIBRARY_TIMES.setdefault(fullname, time.time())
            elif type(spec.loader) is SourceFileLoader:
                spec.loader = RecordingLoader(spec.loader.name, spec.loader.path)
            return spec
        return None


def watch() -> None:
    """Keep the source of every module that this process imports from now on; again: nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())  # type: ignore[arg-type]


def source_of(name: str) -> bytes | None:
    """Source that a loaded module was compiled from; None where it was loaded before this was watched."""
    kept = _SOURCES.get(name)
    module = sys.modules.get(name)
    if kept is None or module is None:
        return None
    owner, source = kept
    if owner is None:
        _SOURCES[name] = (module, source)
    elif owner is not module:  # somebody put another module in its place
        return None
    return source


def wait_for(module: ModuleType) -> None:
    """Return once a module that another thread is importing is complete: until then it lacks what its source says."""
    if getattr(module.__spec__, "_initializing", False):
        importlib.import_module(module.__name__)


def is_plain(module: ModuleType) -> bool:
    """Whether a module is compiled from its file as it stands; import hooks of others may rewrite what they load."""
    return type(getattr(module.__spec__, "loader", None)) in (SourceFileLoader, RecordingLoader, type(None))


def touched_since_start(path: Path) -> str | None:
    """The name of a file that was changed after this process began, else None."""
    return path.name if os.stat(path).st_ctime > _time_of_start() else None


def unlike_source(module: ModuleType, source: bytes) -> str | None:
    """What of a module that was loaded earlier is not what its source says: the name of a definition, else None.

    Compared are functions, methods and constants with a literal value. What a decorator hides is not seen.
    """
    tree = parse(source)
    compiled: dict[str, list[CodeType]] = {}
    for code in _codes(compile(tree, module.__name__, "exec", dont_inherit=True)):
        compiled.setdefault(code.co_qualname, []).append(code)
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found, given = vars(module).get(statement.name), _given(statement)
            for name, code in _functions(found, statement.name):
                own = f"{statement.name}.<lambda>" if code.co_name == "<lambda>" else given.get(name, name)
                known = compiled.get(own, ())
                if not any(_same_code(code, one) for one in known):
                    return name
            if found is None:
                return statement.name
        for name, expected in _literals(statement):
            found = vars(module).get(name, _NOTHING)
            if type(found) is not type(expected) or found != expected:
                return name
    return None


_NOTHING = object()


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def _given(statement: ast.stmt) -> dict[str, str]:
    """Of a class: attributes that are functions of the module, `save = forget`, and the names of these."""
    found: dict[str, str] = {}
    if not isinstance(statement, ast.ClassDef):
        return found
    for line in statement.body:
        if isinstance(line, ast.Assign | ast.AnnAssign) and isinstance(line.value, ast.Name):
            targets = line.targets if isinstance(line, ast.Assign) else [line.target]
            names = (target.id for target in targets if isinstance(target, ast.Name))
            found |= {f"{statement.name}.{name}": line.value.id for name in names}
    return found


def _functions(found: Any, name: str) -> Iterator[tuple[str, CodeType]]:
    """Code of a function, or of the methods of a class as they stand now, with their names."""
    if isinstance(found, type):
        for label, inner in list(vars(found).items()):  # to look at a deferred model of pydantic makes it
            for one in (inner, getattr(inner, "fget", None), getattr(inner, "wrapped", None)):
                plain = getattr(one, "__func__", one)
                if inspect.isfunction(plain) and not _generated(plain):
                    yield f"{name}.{label}", inspect.unwrap(plain).__code__
    elif callable(found):
        plain = inspect.unwrap(found)
        if inspect.isfunction(plain):
            yield name, plain.__code__


def _generated(function: Any) -> bool:
    """Whether a function was made by a decorator of the class (dataclass, pydantic), from no line of the file."""
    return function.__code__.co_filename.startswith("<") or is_installed(function.__code__.co_filename)


def _same_code(one: CodeType, other: CodeType) -> bool:
    """Equal but for file and lines."""
    parts = ("co_code", "co_names", "co_varnames", "co_freevars", "co_cellvars", "co_flags", "co_argcount")
    if any(getattr(one, part) != getattr(other, part) for part in parts) or len(one.co_consts) != len(other.co_consts):
        return False
    return all(
        _same_code(mine, theirs)
        if isinstance(mine, CodeType) and isinstance(theirs, CodeType)
        else type(mine) is type(theirs) and repr(mine) == repr(theirs)
        for mine, theirs in zip(one.co_consts, other.co_consts, strict=True)
    )


def _literals(statement: ast.stmt) -> Iterator[tuple[str, Any]]:
    """Names that a statement of a module gives a literal value."""
    if isinstance(statement, ast.Assign):
        targets, value = statement.targets, statement.value
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets, value = [statement.target], statement.value
    else:
        return
    with suppress(ValueError):
        literal = ast.literal_eval(value)
        yield from ((target.id, literal) for target in targets if isinstance(target, ast.Name))


class NewlyInstalledError(Exception):
    """A library was installed anew after this process had loaded it."""


def library(name: str) -> str:
    """Version of a distribution as this process has loaded it, or would load it now.

    Raises PackageNotFoundError where there is none, NewlyInstalledError where the loaded version cannot be known.
    """
    if name in _VERSIONS:
        return _VERSIONS[name]
    distribution = importlib.metadata.distribution(name)
    package = IMPORT_NAMES.get(name.lower(), name.replace("-", "_"))
    module = sys.modules.get(package)
    if module is None:
        return distribution.version
    changed = _time_of_installation(distribution)
    loaded = _LIBRARY_TIMES.get(package, _time_of_start())
    stated = getattr(module, "__version__", None)
    if changed > loaded and stated != distribution.version.partition("+")[0] and stated != distribution.version:
        raise NewlyInstalledError(f"{name} {distribution.version} was installed after this process had loaded {name}")
    _VERSIONS[name] = distribution.version
    return distribution.version


def _time_of_installation(distribution: importlib.metadata.Distribution) -> float:
    """When the metadata of a distribution was written; 0 where that is not known."""
    try:
        return os.stat(str(distribution._path)).st_ctime  # type: ignore[attr-defined]
    except (AttributeError, OSError):
        return 0.0


def _time_of_start() -> float:
    """When this process had begun, in seconds since the epoch, a tick late at most; 0 where the system does not tell.

    Not by the time of boot in /proc/stat: it is in whole seconds, and a file that was written in the second before
    would count as written after. In its first tick a process has imported nothing.
    """
    try:
        since_boot = 1 + int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot / os.sysconf("SC_CLK_TCK")
    except (AttributeError, OSError, ValueError, IndexError):
        return 0.0
    return time.time() - age
