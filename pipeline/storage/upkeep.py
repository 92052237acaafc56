"""Care of the store: compact, collect garbage, accept.

None of it is needed for correctness; all of it may be killed at any instant. `compact` publishes the new shards before
it drops the old ones (a row in two shards is one row), and nothing is unlinked before it was moved to the trash.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic
from pipeline import ids as row_ids
from pipeline.errors import ConflictError, DamagedShardError, StoreError
from pipeline.runs import RunRecord
from pipeline.storage import artifacts
from pipeline.storage.chain_index import SHARD_NAME, ChainIndex
from pipeline.storage.files import is_trouble, trouble
from pipeline.storage.published import RECIPE
from pipeline.storage.shards import is_old, nothing, row_digests, shard_name
from pipeline.storage.store import FAILURES, OWN_NAMES, Store

ANY = re.compile(".*", re.DOTALL)
GRACE_S = 3600.0
"""Directories younger than this are left alone by `gc`."""


DIRECTORY = re.compile(r"[0-9a-f]{16}")
"""Name of the directory of a chain, of an artifact or of the scratch of one."""

DISCARDED = re.compile(rf"({DIRECTORY.pattern}|{SHARD_NAME.pattern})-[0-9a-f]{{8}}")
"""Name of what `Store.discard` has moved to the trash."""


def entries(store: Store) -> list[Path]:
    """The directories of all chains and artifacts, sorted; what else lies below the root is somebody else's."""
    found = []
    for stage in _folders(store.root):
        if stage.name not in OWN_NAMES:
            found += [one for one in _folders(stage, DIRECTORY) if _is_ours(one)]
    return found


def _is_ours(directory: Path) -> bool:
    """Whether there is what the store writes in a directory, or nothing."""
    try:
        names = [name for name in os.listdir(directory) if not name.startswith(".")]
    except OSError as error:
        if is_trouble(error):
            raise StoreError(trouble(error, directory)) from error
        return False
    ours = (RECIPE, artifacts.CARD, FAILURES)
    return not names or any(name in ours or SHARD_NAME.fullmatch(name) for name in names)


def _folders(path: Path, names: re.Pattern[str] = ANY) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted(
        one for one in path.iterdir() if one.is_dir() and not one.name.startswith(".") and names.fullmatch(one.name)
    )


def compact(
    store: Store,
    stage: str,
    chain: bytes,
    wanted: NDArray[np.void],
    shard_rows: int,
    run: RunRecord,
    kill: Callable[[str], None] = nothing,
    keep: Collection[str] = (),
) -> tuple[int, int]:
    """Rewrite the wanted rows, sorted by id, into full shards and drop the old ones; (shards written, shards dropped).

    The files depend on the set of wanted rows only. Rows that are not wanted are gone afterwards. Shards named in
    `keep` stay as they are; all old shards stay where another live run names the chain's directory. Raises StoreError
    if a wanted row is in no readable shard.
    """
    index = store.index(stage, chain)
    ranked = row_ids.unique(wanted)
    places = index.lookup(ranked)
    if (places < 0).any():
        raise StoreError(
            f"{index.directory} lacks {(places < 0).sum()} of {len(ranked)} wanted rows; run the pipeline, then compact"
        )
    kept, written = set(keep), 0
    for start in range(0, len(ranked), shard_rows):
        ids = ranked[start : start + shard_rows]
        name = shard_name(ids)
        kept.add(name)
        if name not in index.names:
            arrays, schema, parents = _collect(store, index, chain, places[start : start + shard_rows])
            gpus = _gpus(store, index, chain, places[start : start + shard_rows])
            store.stage_shard(stage, chain, ids, arrays, schema, run, kill, parents, gpus)
            written += 1
            kill("after a new shard")
    if store.relative(index.directory) in store.in_use(besides=run):
        return written, 0
    old = [index.path(number) for number, name in enumerate(index.names) if name not in kept]
    for path in old:
        store.discard(path)
        kill("after an old shard")
    empty_trash(store)
    return written, len(old)


def _gpus(store: Store, index: ChainIndex, chain: bytes, places: NDArray[np.int64]) -> list[Mapping[str, str]]:
    """Those that computed the rows at these positions of the index, sorted."""
    shards = (store.shard(index.path(number), chain) for number in row_ids.distinct(index.shard[places]).tolist())
    found = {tuple(sorted(gpu.items())) for shard in shards for gpu in shard.attributes.get("gpus", ())}
    return [dict(one) for one in sorted(found)]


def _collect(
    store: Store, index: ChainIndex, chain: bytes, places: NDArray[np.int64]
) -> tuple[dict[str, NDArray[Any]], Mapping[str, Any], NDArray[np.void] | None]:
    """Arrays, schema and digests of the parents of the rows at these positions of the index.

    The digest of each row is checked on the way.
    """
    numbers, rows = index.shard[places], index.row[places].astype(np.int64)
    first = store.shard(index.path(int(numbers[0])), chain)
    schema = first.schema
    arrays = {
        name: np.empty((len(places), *field.shape), np.dtype(field.dtype).newbyteorder("<"))
        for name, field in schema.items()
    }
    digests = np.empty(len(places), dtype=index.ids.dtype)
    parents = np.empty(len(places), dtype=index.ids.dtype) if first.has_parents else None
    for number in row_ids.distinct(numbers).tolist():
        shard = store.shard(index.path(number), chain, schema)
        mine = np.flatnonzero(numbers == number)
        digests[mine] = shard.digests[rows[mine]]
        known = shard.parents
        if parents is not None and known is not None:
            parents[mine] = known[rows[mine]]
        for name, values in arrays.items():
            shard.reader(name).rows_into(rows[mine], values, mine)
    wrong = np.flatnonzero(row_digests(arrays, schema) != digests)
    if len(wrong):
        path = index.path(int(numbers[wrong[0]]))
        raise DamagedShardError(f"{path}: {len(wrong)} rows do not have their digest", str(path))
    return arrays, schema, parents


@dataclass(frozen=True)
class Garbage:
    """One directory of the store as `gc` sees it; `kept` is the reason why it stays, "" if it goes.

    old: whether it is of an earlier format, in a place that is in use.
    """

    path: Path
    size: int
    kept: str
    old: bool = False


def gc(
    store: Store,
    keep: Iterable[Path],
    apply: bool = False,
    grace_s: float = GRACE_S,
    others: Mapping[Path, str] | None = None,
) -> list[Garbage]:
    """What nothing refers to: directories of chains and artifacts, and scratch of both; removed with `apply`.

    keep: directories that the plan or a frozen manifest refers to; others: directories that someone else wants, and the
    reason to give. Those that a live run names, or that changed in the last `grace_s` seconds, stay as well.
    """
    reasons = {store.relative(path): reason for path, reason in (others or {}).items()}
    reasons |= dict.fromkeys((store.relative(path) for path in keep), "the plan or a manifest refers to it")
    used = store.in_use()
    scratch_of = {Path(name).name for name in {*reasons, *used}}
    finished = {path.name for path in entries(store) if (path / artifacts.CARD).exists()}
    now = time.time()
    result = []
    for path in [*entries(store), *_folders(store.root / "scratch", DIRECTORY)]:
        name = store.relative(path)
        try:
            newest, size = _newest_and_size(path)
        except FileNotFoundError:
            continue  # another process moved it away
        reason = ""
        if name in reasons:
            reason = reasons[name]
        elif name in used:
            reason = "a live run uses it"
        elif path.parent.name == "scratch" and path.name in scratch_of - finished:
            reason = "what is wanted may go on from it"
        elif now - newest < grace_s:
            reason = f"changed less than {grace_s / 60:.0f} minutes ago"
        result.append(Garbage(path, size, reason))
        result += _old_inside(path, grace_s) if reason else []
    if apply:
        for item in result:
            if not item.kept:
                store.discard(item.path)
        empty_trash(store)
    return result


def _old_inside(directory: Path, grace_s: float) -> list[Garbage]:
    """Shards and artifacts of an earlier format in a directory that stays: nobody reads them."""
    found = []
    for path in old_things(directory):
        newest, size = _newest_and_size(path)
        young = time.time() - newest < grace_s
        found.append(Garbage(path, size, f"changed less than {grace_s / 60:.0f} minutes ago" if young else "", True))
    return found


def old_things(directory: Path) -> list[Path]:
    """The shards of an earlier format in the directory of a chain; the directory itself if it is such an artifact."""
    if artifacts.is_old(directory):
        return [directory]
    return [path for path in sorted(directory.glob("*.zarr")) if SHARD_NAME.fullmatch(path.name) and is_old(path)]


def _newest_and_size(directory: Path) -> tuple[float, int]:
    """Time of the last change of any folder or file under a directory, and the bytes of all files."""
    newest, size = directory.stat().st_mtime, 0
    for folder, names, files in os.walk(directory):
        for name in (*names, *files):
            try:
                found = os.stat(f"{folder}/{name}")
            except FileNotFoundError:
                continue
            newest = max(newest, found.st_mtime)
            size += found.st_size if name in files else 0
    return newest, size


def empty_trash(store: Store) -> None:
    """Unlink what lies in the trash; what a killed process left there goes as well."""
    for path in _folders(store.root / "trash", DISCARDED):
        shutil.rmtree(path, ignore_errors=True)


def accept(store: Store, new: bytes, old: bytes) -> None:
    """Serve what was made with the recipe `old` for the recipe `new`, on the user's word.

    Chains of aliases are resolved when they are entered. Raises ConflictError for a circle or another word on `new`.
    """
    store.root.mkdir(parents=True, exist_ok=True)
    with atomic.editing(store.root / "aliases.json"):
        known = store.aliases()
        target = known.get(old.hex(), old.hex())
        if target == new.hex():
            raise ConflictError(f"recipe {new.hex()[:12]} is what {old.hex()[:12]} was accepted as; nothing to accept")
        if known.get(new.hex(), target) != target:
            raise ConflictError(
                f"recipe {new.hex()[:12]} is already accepted as {known[new.hex()][:12]}, not as {target[:12]}; "
                "remove the entry from aliases.json first"
            )
        moved = {name: target if value == new.hex() else value for name, value in known.items()}
        atomic.write_json(store.root / "aliases.json", {**moved, new.hex(): target})
