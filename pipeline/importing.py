"""Where modules are found: Touchstone's own packages beside each other, a user's beside the pipeline file.

Own packages come first, so that a folder `stages` of the user's never stands in for Touchstone's. A user's folder comes
last, so that a `random.py` in it never stands in for what Python or a library means by that name; whoever imports such
a name is told to rename the file. The folder is no entry of `sys.path`: child processes copy that before they know of
Touchstone, and a `pipeline.py` of the user's would be theirs.
"""

from __future__ import annotations

import hashlib
import os
import sys
import sysconfig
from collections.abc import Sequence
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).absolute().parents[1]
VALUES = ("stages", "detectors")
"""Touchstone's own packages whose code decides values."""

OWN = ("pipeline", *VALUES)
INSTALLED = ("site-packages", "dist-packages")
PYTHON = tuple({os.path.join(os.path.realpath(sysconfig.get_path(name)), "") for name in ("stdlib", "platstdlib")})

_FOLDERS: list[str] = []


class OwnPackages:
    """Finds `stages` and `detectors` beside `pipeline`, whatever the path says."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        del path, target
        return PathFinder.find_spec(name, [str(ROOT)]) if name in VALUES else None


class UserFolders:
    """Finds top-level modules beside the pipeline files that were loaded, the last of them first."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        del target
        return PathFinder.find_spec(name, _FOLDERS) if path is None and _FOLDERS else None


def install() -> None:
    """Put both finders into this process, once."""
    if OwnPackages not in sys.meta_path:
        sys.meta_path.insert(0, OwnPackages)
        sys.meta_path.append(UserFolders)


def add_user_folder(folder: Path) -> None:
    """Let modules be imported from a folder, before those of folders that were added earlier."""
    text = str(folder.absolute())
    if _FOLDERS[:1] != [text]:
        _FOLDERS[:] = [text, *(other for other in _FOLDERS if other != text)]


def user_folders() -> tuple[str, ...]:
    """Folders of the pipeline files of this process, the last one first."""
    return tuple(_FOLDERS)


def worker_plugin() -> Any:
    """A plugin of Dask that adds the folders of this process to every worker, also to those that join later.

    A worker needs them before it can unpickle its first task.
    """
    from distributed import WorkerPlugin

    folders = user_folders()

    class AddUserFolders(WorkerPlugin):
        name = f"touchstone-folders-{hashlib.sha256(repr(folders).encode()).hexdigest()[:16]}"

        def setup(self, worker: Any) -> None:
            del worker
            from pathlib import Path

            from pipeline.importing import add_user_folder

            for folder in reversed(folders):
                add_user_folder(Path(folder))

    return AddUserFolders()


def is_own(path: str) -> bool:
    """Whether a file belongs to the engine, the stages or the detectors, or to Touchstone's own tests."""
    return path.startswith(_OWN_FOLDERS)


_OWN_FOLDERS = tuple(str(ROOT / name) + os.sep for name in (*OWN, "tests"))


def is_installed(path: str) -> bool:
    """Whether a file belongs to Python, or to an installed distribution.

    A virtual environment that contains a pipeline's own folder counts by its `site-packages` only.
    """
    if any(f"{os.sep}{name}{os.sep}" in path for name in INSTALLED):
        return True
    if path.startswith(PYTHON) or _followed(path).startswith(PYTHON):
        return True
    environment = _environment(os.path.dirname(path))
    return environment is not None and not any((folder + os.sep).startswith(environment) for folder in _FOLDERS)


def _followed(path: str) -> str:
    """`os.path.realpath` of a file; of the files of a folder the folder is looked at once."""
    if os.path.islink(path):
        return os.path.realpath(path)
    return os.path.join(_followed_folder(os.path.dirname(path)), os.path.basename(path))


_followed_folder = cache(os.path.realpath)


@cache
def _environment(folder: str) -> str | None:
    """The virtual environment that a folder lies in, with a separator at its end."""
    above = os.path.dirname(folder)
    if os.path.isfile(os.path.join(folder, "pyvenv.cfg")):
        return os.path.join(folder, "")
    return None if above == folder else _environment(above)
