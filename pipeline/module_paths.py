"""Files of modules by name, and whose they are. Nothing is imported to know that."""

from __future__ import annotations

import importlib.util
import os
import sys
from functools import cache
from importlib.machinery import BYTECODE_SUFFIXES, EXTENSION_SUFFIXES
from pathlib import Path

from pipeline.importing import VALUES, is_installed, is_own, user_folders


def source_path(name: str) -> Path | None:
    """Source file of a module; parents are located, not imported."""
    for base in _bases(name):
        for candidate in (os.path.join(base, "__init__.py"), f"{base}.py"):
            if os.path.isfile(candidate):
                return Path(candidate)
    return None


def compiled_path(name: str) -> Path | None:
    """File of a module that Python takes without its source: an extension module, or bytecode alone."""
    for base in _bases(name):
        for stem in (os.path.join(base, "__init__"), base):
            suffixes = EXTENSION_SUFFIXES if os.path.isfile(f"{stem}.py") else EXTENSION_SUFFIXES + BYTECODE_SUFFIXES
            for suffix in suffixes:
                if os.path.isfile(stem + suffix):
                    return Path(stem + suffix)
    return None


def parents(name: str) -> list[str]:
    """The packages around a module: `a` and `a.b` of `a.b.c`."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def submodules(package: str) -> list[str]:
    """Names of the modules that lie in a package."""
    found = set()
    for base in _bases(package):
        if os.path.isdir(base):
            for entry in os.scandir(base):
                stem, suffix = os.path.splitext(entry.name)
                if suffix == ".py" or (not suffix and os.path.isfile(os.path.join(entry.path, "__init__.py"))):
                    found.add(f"{package}.{stem}")
    return sorted(found - {f"{package}.__init__"})


def is_followed(top: str) -> bool:
    """Whether edits of a top-level module or package count: it holds values of Touchstone, or is a user's."""
    return _top(top)[1]


def import_folders(top: str) -> tuple[str, ...]:
    """Folders that a user's top-level module or package lies in, each with a separator at its end."""
    bases, followed = _top(top)
    return tuple(os.path.join(os.path.dirname(base), "") for base in bases) if followed and top not in VALUES else ()


def _bases(name: str) -> list[str]:
    """Places of a module without `.py` or `/__init__.py`."""
    top, *rest = name.split(".")
    return [os.path.join(base, *rest) for base in _top(top)[0]]


def _top(name: str) -> tuple[tuple[str, ...], bool]:
    """Bases of a top-level name and whether it is followed; none and False if there is no such module."""
    try:
        return _found_top(name, (*sys.path, *user_folders()))
    except (ImportError, ValueError):  # looked for again at the next call: the file may come
        return (), False


@cache
def _found_top(name: str, path: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
    """Raises ImportError or ValueError if there is no such module. path: where it is looked for, a key of the cache."""
    del path
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(name)
    places = list(spec.submodule_search_locations or [])
    if not places and spec.has_location and spec.origin:
        places = [os.path.join(os.path.dirname(spec.origin), name)]
    inside = [os.path.join(place, "") for place in places]
    return tuple(places), name in VALUES or any(not (is_installed(place) or is_own(place)) for place in inside)
