"""File results (weights, tables, reports) as one directory each: complete or absent, checked when opened.

`artifact.json` is written last and lists every file with its size and SHA-256, the ids the artifact was made from (by
count and digest per view; the ids themselves are in `consumed.npy`), and what the stage said about itself.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic, locks
from pipeline import ids as row_ids
from pipeline.contents import file_sha256
from pipeline.errors import ConflictError, DamagedArtifactError, OldFormatError, StoreError
from pipeline.stage import ID, Artifact
from pipeline.storage.files import is_trouble, raise_error, trouble
from pipeline.storage.sealed import CARD_BYTES, read_sealed, seal

CARD = "artifact.json"
CONSUMED = "consumed.npy"


def complete(
    directory: Path,
    stage: str,
    key: str,
    info: Mapping[str, Any],
    consumed: Mapping[str, NDArray[np.void]],
    values: Mapping[str, str],
) -> None:
    """Write `consumed.npy` and, last, `artifact.json` into a directory that holds an artifact's files; flush all.

    values: `values_digest` of the rows of each view.
    """
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
        "consumed": {
            name: {"count": len(found), "digest": _digest(found), "values": values.get(name, "")}
            for name, found in views.items()
        },
    }
    text = seal(card)
    if len(text) > CARD_BYTES:
        raise StoreError(f"{stage} says too much of its artifact: {len(text):,} bytes, at most {CARD_BYTES:,}")
    atomic.flush_tree(directory, folders=False)
    atomic.write_bytes(directory / CARD, text)


def values_digest(ids: NDArray[np.void], digests: NDArray[np.void]) -> str:
    """Digest of the values of some rows, from the digests of the rows (n,) V16; their order does not count."""
    return _digest(np.asarray(digests)[row_ids.order(np.asarray(ids, dtype=ID))])


def content(card: Mapping[str, Any]) -> bytes:
    """Digest of an artifact's files, (16 bytes): the same if it was made again with the same result."""
    names = sorted(card["files"])
    text = "".join(f"{len(name)} {name} {card['files'][name]['sha256']}\n" for name in names)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:16]


def contents(artifacts: Mapping[str, Iterable[Artifact]]) -> dict[str, list[str]]:
    """Digest of the content of each artifact that something is made with, by input."""
    return {name: [content(one.info).hex() for one in found] for name, found in sorted(artifacts.items())}


def read_card(directory: Path, key: str | None = None, placed: bool = True) -> dict[str, Any]:
    """`artifact.json` after a check of its own digest, of key and stage, and of file sizes.

    placed: whether the directory is where an artifact of its key lies.
    Raises DamagedArtifactError that says what is wrong; OldFormatError; StoreError where the system does not let us
    look, or where the directory belongs to another key.
    """
    place = directory / CARD
    try:
        card = read_sealed(place, CARD_BYTES, ("key", "stage", "files", "consumed"))
        if placed and (str(card["key"])[:16], card["stage"]) != (directory.name, directory.parent.name):
            raise ValueError(f"it belongs to the artifact {card['stage']}/{card['key']}")
    except OldFormatError:
        raise
    except (OSError, ValueError) as error:
        if is_trouble(error):
            raise StoreError(trouble(error, place)) from error
        raise DamagedArtifactError(f"{place} cannot be read: {error}") from error
    if key is not None and card["key"] != key:
        raise StoreError(
            f"{directory} holds the artifact {card['key']}, expected {key}: their first 16 digits agree; "
            "keep them in two stores"
        )
    for name, expected in card["files"].items():
        path = directory / name
        try:
            status = path.stat()
            found = f"{status.st_size} bytes" if stat.S_ISREG(status.st_mode) else "no regular file"
        except OSError as error:
            if is_trouble(error):
                raise StoreError(trouble(error, path)) from error
            found = "no file"
        if found != f"{expected['size']} bytes":
            raise DamagedArtifactError(f"{path} is damaged: found {found}, expected {expected['size']} bytes")
    return card


def is_old(directory: Path) -> bool:
    """Whether an artifact is of an earlier format: never damage, never served."""
    try:
        read_sealed(directory / CARD, CARD_BYTES, ("key",))
    except OldFormatError:
        return True
    except (OSError, ValueError):
        return False
    return False


def verify_files(directory: Path, card: Mapping[str, Any]) -> list[str]:
    """One sentence for each file whose SHA-256 is not the recorded one."""
    wrong = []
    for name, expected in card["files"].items():
        path = directory / name
        try:
            found = _describe_file(path) if path.is_file() else None
        except OSError as error:
            if is_trouble(error):
                raise StoreError(trouble(error, path)) from error
            found = None
        if found != expected:
            digest = found["sha256"][:12] if found else "missing"
            wrong.append(f"{path} is damaged: SHA-256 {digest}, expected {expected['sha256'][:12]}")
    return wrong


def check_same(stage: str, ours: Mapping[str, Any], theirs: Path) -> None:
    """ConflictError if a published artifact differs from our card in a file or in the rows.

    DamagedArtifactError if the published one is damaged.
    """
    other = read_card(theirs, ours["key"])
    damaged = verify_files(theirs, other)
    if damaged:
        raise DamagedArtifactError(damaged[0])
    mine, kept = _bare(ours), _bare(other)
    if mine == kept and (ours["consumed"], ours.get("made_with")) != (other["consumed"], other.get("made_with")):
        raise DamagedArtifactError(f"{theirs}: it was made from inputs that have been computed again since")
    names = sorted(set(ours["files"]) | set(other["files"]))
    different = [name for name in names if ours["files"].get(name) != other["files"].get(name)]
    if different or mine != kept:
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


def _bare(card: Mapping[str, Any]) -> dict[str, Any]:
    """The rows that went into an artifact, without their values."""
    return {name: (view["count"], view["digest"]) for name, view in card["consumed"].items()}


def _describe(directory: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of each file but the card."""
    found = {}
    for folder, _, names in os.walk(directory, onerror=raise_error):
        for name in names:
            path = Path(folder, name)
            found[path.relative_to(directory).as_posix()] = _describe_file(path)
    found.pop(CARD, None)
    return dict(sorted(found.items()))


def _describe_file(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": file_sha256(path)}


def _digest(ids: NDArray[np.void]) -> str:
    return hashlib.sha256(np.ascontiguousarray(ids).tobytes()).hexdigest()[:32]
