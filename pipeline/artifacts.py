"""File results (weights, tables, reports) as one directory each: complete or absent, checked when opened.

`artifact.json` is written last and lists every file with its size and SHA-256, the ids the artifact was made from (by
count and digest per view; the ids themselves are in `consumed.npy`), and what the stage said about itself.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic, locks
from pipeline import ids as row_ids
from pipeline.errors import ConflictError, DamagedArtifactError, StoreError
from pipeline.shard_reader import is_trouble, raise_error, trouble
from pipeline.stage import ID, Artifact

CARD = "artifact.json"
CONSUMED = "consumed.npy"


def seal(
    directory: Path,
    stage: str,
    key: str,
    info: Mapping[str, Any],
    consumed: Mapping[str, NDArray[np.void]],
) -> None:
    """Write `consumed.npy` and, last, `artifact.json` into a directory that holds an artifact's files; flush all."""
    views = {name: row_ids.sort(np.asarray(consumed[name], dtype=ID)) for name in sorted(consumed)}
    if views:
        buffer = io.BytesIO()
        np.save(buffer, np.concatenate(list(views.values())).view(np.uint8).reshape(-1, 16))
        (directory / CONSUMED).write_bytes(buffer.getvalue())
    card = {
        **info,
        "stage": stage,
        "key": key,
        "files": _describe(directory),
        "consumed": {name: {"count": len(found), "digest": _digest(found)} for name, found in views.items()},
    }
    atomic.flush_tree(directory)
    atomic.write_json(directory / CARD, card)


def read_card(directory: Path, key: str | None = None) -> dict[str, Any]:
    """`artifact.json` after a check of the key (if one is given) and of file sizes.

    Raises DamagedArtifactError that says what is wrong; StoreError where the system does not let us look, or where the
    directory belongs to another key.
    """
    try:
        card: dict[str, Any] = json.loads((directory / CARD).read_bytes())
        found_key, files = card["key"], card["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, OSError) and is_trouble(error):
            raise StoreError(trouble(error, directory / CARD)) from error
        raise DamagedArtifactError(f"{directory / CARD} cannot be read: {error}") from error
    if key is not None and found_key != key:
        raise StoreError(
            f"{directory} holds the artifact {found_key}, expected {key}: their first 16 digits agree; "
            "keep them in two stores"
        )
    for name, expected in files.items():
        path = directory / name
        try:
            found = f"{path.stat().st_size} bytes"
        except OSError as error:
            if is_trouble(error):
                raise StoreError(trouble(error, path)) from error
            found = "no file"
        if found != f"{expected['size']} bytes":
            raise DamagedArtifactError(f"{path} is damaged: found {found}, expected {expected['size']} bytes")
    return card


def verify_files(directory: Path, card: Mapping[str, Any]) -> list[str]:
    """One sentence for each file whose SHA-256 is not the recorded one."""
    try:
        found = _describe(directory)
    except OSError as error:
        raise StoreError(trouble(error, directory)) from error
    return [
        f"{directory / name} is damaged: SHA-256 {found.get(name, {}).get('sha256', 'missing')[:12]}, "
        f"expected {expected['sha256'][:12]}"
        for name, expected in card["files"].items()
        if found.get(name) != expected
    ]


def check_same(stage: str, ours: Mapping[str, Any], theirs: Path) -> None:
    """ConflictError if a published artifact differs from our card in a file or in the rows.

    DamagedArtifactError if the published one is damaged.
    """
    other = read_card(theirs, ours["key"])
    damaged = verify_files(theirs, other)
    if damaged:
        raise DamagedArtifactError(damaged[0])
    names = sorted(set(ours["files"]) | set(other["files"]))
    different = [name for name in names if ours["files"].get(name) != other["files"].get(name)]
    if different or ours["consumed"] != other["consumed"]:
        what = f"differ in {', '.join(different)}" if different else "were made from different rows"
        raise ConflictError(
            f"{stage}: two results of artifact {ours['key'][:12]} {what} ({theirs} is kept): the stage is not "
            "deterministic"
        )


def consumed_rows(artifact: Artifact) -> dict[str, NDArray[np.void]]:
    """The ids an artifact was made from: name of the view -> (n,) V16, sorted."""
    views = artifact.info["consumed"]
    if not views:
        return {}
    everything = np.load(artifact.path / CONSUMED, allow_pickle=False).reshape(-1).view(ID)
    bounds = np.cumsum([0, *(views[name]["count"] for name in sorted(views))])
    return {name: everything[bounds[k] : bounds[k + 1]] for k, name in enumerate(sorted(views))}


def lease(
    path: Path, poll_s: float = 0.2, stopping: Callable[[], bool] = lambda: False
) -> AbstractContextManager[None]:
    """Hold the lock file exclusively; waits for another holder, and is released when the process dies.

    After a wait the caller looks again for the finished artifact. Raises Interrupted when `stopping` says so.
    """
    return locks.hold(path, poll_s, stopping)


def _describe(directory: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of each file but the card."""
    found = {}
    for folder, _, names in os.walk(directory, onerror=raise_error):
        for name in names:
            path = Path(folder, name)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[path.relative_to(directory).as_posix()] = {"size": path.stat().st_size, "sha256": digest}
    found.pop(CARD, None)
    return dict(sorted(found.items()))


def _digest(ids: NDArray[np.void]) -> str:
    return hashlib.sha256(np.ascontiguousarray(ids).tobytes()).hexdigest()[:32]
