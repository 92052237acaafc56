"""Looks for damage in the store, file by file; writes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline import artifacts
from pipeline.care import entries
from pipeline.chain_index import SHARD_NAME
from pipeline.errors import DamagedArtifactError, DamagedShardError
from pipeline.shards import Shard, check_sizes, read_attributes
from pipeline.store import Store


@dataclass(frozen=True)
class Problem:
    """A damaged shard or artifact; `path` can be handed to `Store.quarantine`."""

    path: Path
    reason: str


def verify(store: Store, deep: bool = True, directories: Iterable[Path] | None = None) -> list[Problem]:
    """All damage in the store, or in some chains' and artifacts' directories. Writes nothing.

    deep: read every byte (checksums, row digests, SHA-256 of artifact files); otherwise file sizes only.
    """
    problems = []
    for directory in entries(store) if directories is None else sorted(directories):
        if (directory / artifacts.CARD).exists():
            problems += _verify_artifact(directory, deep)
            continue
        for path in sorted(directory.iterdir()):
            if not SHARD_NAME.fullmatch(path.name):
                continue
            try:
                if deep:
                    Shard.open(path).verify()
                else:
                    check_sizes(path, read_attributes(path)["files"])
            except DamagedShardError as error:
                if path.exists():  # else another process moved it away
                    problems.append(Problem(path, str(error)))
    return problems


def _verify_artifact(directory: Path, deep: bool) -> list[Problem]:
    try:
        card = artifacts.read_card(directory)
    except DamagedArtifactError as error:
        return [Problem(directory, str(error))]
    if not deep:
        return []
    return [Problem(directory, sentence) for sentence in artifacts.verify_files(directory, card)[:1]]
