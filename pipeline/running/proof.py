"""The process that computes proves itself: what it has loaded is what the recipe says, before and after.

A plan is made by one process and carried out by others: threads of the same session, spawned processes, workers of a
cluster that started yesterday. Whoever computes compares the source that it has imported, the versions of its libraries
and the files that it reads with the components of the recipe, before it computes and again before it publishes. A
module that is imported lazily in between is seen by the second look.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

from pipeline import loaded
from pipeline.contents import NAMED, NamedFiles, file_sha256, file_stamp, known_sha256
from pipeline.errors import StageError
from pipeline.planning.closure import changed_definition, loaded_digest, source_digest
from pipeline.planning.recipes import DEVICE_FACTS
from pipeline.stage import Stage

Stamp = tuple[tuple[int, ...], ...]


class StaleProcessError(StageError):
    """The process that should compute has loaded other code or libraries than the recipe says; a fresh one may not."""


@dataclass(frozen=True)
class CheckedFile:
    """A file that enters a recipe by content: its place and the SHA-256 that the plan saw."""

    path: Path
    sha256: str

    def check(self, node: str) -> Stamp:
        """Its stamp; raises StageError if it is not what the plan saw (it is read only when its stamp is new)."""
        try:
            stamp = _stamp(self.path)
            found = _digest(self.path, stamp)
        except OSError as error:
            raise StageError(f"{node}: {self.path} cannot be read: {error.strerror}") from None
        if found != self.sha256:
            raise StageError(
                f"{node}: {self.path} was changed while the run went on; run again to plan with the new one"
            )
        return stamp


def _stamp(path: Path) -> Stamp:
    """What changes when a file is written, replaced, moved away and back, or a link on its way is turned."""
    links = []
    for place in (path, *path.parents):
        found = os.lstat(place)
        if stat.S_ISLNK(found.st_mode):
            links.append((found.st_ino, found.st_ctime_ns))
        elif place != path:
            links.append((found.st_dev, found.st_ino))
    return file_stamp(path), *links


@lru_cache(maxsize=64)
def _digest(path: Path, stamp: Stamp) -> str:
    del stamp  # cache key
    return file_sha256(path)


def _check_named(node: str, named: NamedFiles, expected: str) -> Stamp:
    """Stamps of the files that a list names; raises StageError if they are not what the plan saw."""
    try:
        stamps = tuple(file_stamp(named.folder / name) for name in named.names)
        found = named.digest(lambda name: bytes.fromhex(known_sha256(named.folder / name)))
    except OSError as error:
        raise StageError(f"{node}: {error.filename} cannot be read: {error.strerror}") from None
    if found != expected:
        raise StageError(
            f"{node}: files in {named.folder} were changed while the run went on; run again to plan with the new ones"
        )
    return stamps


@dataclass(frozen=True)
class Claim:
    """What a recipe says of whoever computes with it; its components before any word of `accept`.

    code         module -> digest of its source
    environment  versions of libraries and further facts of the machine
    files        setting -> file that enters by content
    named        digest of the files that one of those names (`Stage.named_files`); "" where there are none
    """

    code: Mapping[str, str]
    environment: Mapping[str, str]
    files: Mapping[str, CheckedFile]
    named: str = ""

    @classmethod
    def of(cls, components: Mapping[str, Any], files: Mapping[str, CheckedFile], named: str = "") -> Claim:
        return cls(components["code"], components["env"], files, named)

    def prove(self, node: str, stage: Stage, config: Any) -> dict[str, Stamp]:
        """Stamps of the files, for `prove_again`. Raises StageError with the first thing that is otherwise here."""
        for module, expected in self.code.items():
            running = loaded_digest(module)
            if running is not None and running != expected:
                raise StaleProcessError(
                    f"{node}: {changed_definition(module, expected)} is not what the plan saw: it was changed after "
                    "this process had loaded it, or while the run went on; start the process again and run again"
                )
        difference = environment_difference(self.environment, stage, config)
        if difference:
            raise StaleProcessError(f"{node}: {difference}")
        stamps = {name: file.check(node) for name, file in self.files.items()}
        named = stage.named_files(config, self.places()) if self.named else None
        return stamps if named is None else {**stamps, NAMED: _check_named(node, named, self.named)}

    def prove_again(self, node: str, stage: Stage, config: Any, stamps: Mapping[str, Stamp]) -> None:
        """The same once more before publishing, and that no file was touched since. Raises StageError."""
        for name, stamp in self.prove(node, stage, config).items():
            if stamp != stamps[name]:
                place = self.files[name].path if name in self.files else "a file that its list names"
                raise StageError(
                    f"{node}: {place} was replaced or touched while it was in use; what was computed "
                    "is dropped, run again"
                )
        for module, expected in self.code.items():
            if source_digest(module) != expected:
                raise StageError(
                    f"{node}: the source of {module} was changed while the run went on; what was computed since is "
                    "dropped, run again"
                )

    def places(self) -> dict[str, Path]:
        """Places of the files by setting."""
        return {name: file.path for name, file in self.files.items()}


NOTHING = Claim({}, {}, {})
"""Of a task that nobody planned (tests): no claim about the process."""


def environment_difference(expected: Mapping[str, str], stage: Stage, config: Any) -> str:
    """A sentence about the first library or fact that this process has otherwise than a recipe; "" if none."""
    here = dict(stage.environment(config))
    for name in expected:
        if name in here or name in DEVICE_FACTS:
            continue
        try:
            here[name] = loaded.library(name)
        except PackageNotFoundError:
            return (
                f"{name} is not installed where it should compute; the recipe says {expected[name]}, install it there"
            )
        except loaded.NewlyInstalledError as error:
            return f"{error}; start the process again"
    for name, found in here.items():
        if expected.get(name) != found:
            return (
                f"{name} is {found} where it should compute, the recipe says {expected.get(name)}: use one environment "
                "for planning and for all workers, and start the process again if it was changed"
            )
    return ""
