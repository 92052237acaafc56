"""The store: directories that appear whole or not at all, found by name; no database, no lock for correctness.

    <root>/<stage>/<chain, 16 hex>/recipe.json, <shard>.zarr/, failures/<id>.json     rows
    <root>/<stage>/<key, 16 hex>/artifact.json, ...                                   artifacts
    <root>/runs/ quarantine/ scratch/ leases/ trash/ wanted/ aliases.json .cache/     care

All results enter through `publish`: flush, one rename, flush of the parent. Whoever comes second with the same rows
compares digests and drops its own copy.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic, runs
from pipeline import ids as row_ids
from pipeline.errors import (
    DamagedArtifactError,
    DamagedRecipeError,
    OldFormatError,
    StoreError,
    TouchstoneError,
)
from pipeline.runs import RunRecord
from pipeline.stage import Artifact, Schema
from pipeline.storage import artifacts
from pipeline.storage.chain_index import ChainIndex, ChainReader
from pipeline.storage.files import reading_error, trouble
from pipeline.storage.published import RECIPE, read_recipe, same_result
from pipeline.storage.sealed import RECIPE_BYTES, parse, read_regular, seal
from pipeline.storage.shards import Shard, nothing, shard_name, write_shard

FAILURES = "failures"
"""Folder of a chain with a record of each row that failed."""

OWN_NAMES = ("runs", "quarantine", "scratch", "leases", "trash", "wanted", ".cache")
ALIAS = re.compile("[0-9a-f]{32}")
STALE_S = 3600.0
"""Temporary files that name no run are removed when they are older than this."""

OPEN_SHARDS = 512
"""Shards that a store keeps open; before Python 3.13 each array that was read holds a file descriptor."""


class Store:
    """A folder of shards and artifacts, shared by the threads of a process. Opening it writes nothing.

    `writable` lets readers cache and quarantine; `thorough` compares the digests of shards that no cache vouches for.
    """

    def __init__(self, root: Path, writable: bool = False, thorough: bool = False) -> None:
        self.root = Path(root)
        self.writable = writable
        self.thorough = thorough
        self.published: set[Path] = set()  # shards of this run, whose digests need not be read again
        self._shards: OrderedDict[Path, tuple[tuple[int, int], Shard]] = OrderedDict()
        self._chains: dict[tuple[str, bytes], ChainReader] = {}
        self._lock = threading.Lock()  # of the two above
        self._uses: dict[str, list[str]] = {}

    def __reduce__(self) -> tuple[type[Store], tuple[Path, bool, bool]]:
        return Store, (self.root, self.writable, self.thorough)  # maps and indices stay in their process

    # Chains

    def chain_dir(self, stage: str, chain: bytes) -> Path:
        """Directory of the shards of a chain; it need not exist."""
        if stage in OWN_NAMES or not stage or stage.startswith(".") or "/" in stage:
            raise StoreError(f"a stage cannot be named '{stage}': the store uses that name itself")
        return self.root / stage / chain[:8].hex()

    def write_recipe(self, stage: str, chain: bytes, recipe: Mapping[str, Any]) -> None:
        """Record what a chain was made with, once; StoreError if the directory belongs to another chain."""
        path = self.chain_dir(stage, chain) / RECIPE
        if self.recipe(stage, chain) is None:
            with _room(path):
                atomic.write_bytes(path, seal({**recipe, "chain": chain.hex()}))

    def recipe(self, stage: str, chain: bytes) -> dict[str, Any] | None:
        """The recorded recipe of a chain with its full digest under "chain"; None if there is none that can be used."""
        path = self.chain_dir(stage, chain) / RECIPE
        try:
            found = read_recipe(path)
        except (FileNotFoundError, OldFormatError, DamagedRecipeError):
            return None
        if found["chain"] != chain.hex():
            raise StoreError(
                f"{path} belongs to chain {found['chain']}, expected {chain.hex()}: two chains share 16 digits; "
                "keep them in two stores"
            )
        return found

    def index(self, stage: str, chain: bytes, schema: Schema | None = None) -> ChainIndex:
        """Where the rows of a chain lie now; damaged and old shards are in `.damaged` and `.old`, their rows absent.

        Kept in memory: another look lists the directory and opens only shards that are new to this store.
        schema: the fields that its shards must have.
        """
        reader = self._reader(stage, chain)
        if schema is not None:
            reader.schema = schema
        if not reader.owned:  # else the directory is known to be this chain's
            reader.owned = self.recipe(stage, chain) is not None
        return reader.look()

    def _reader(self, stage: str, chain: bytes) -> ChainReader:
        reader = self._chains.get((stage, chain))
        if reader is None:
            directory = self.chain_dir(stage, chain)
            cache = self.root / ".cache" / "index" / f"{stage}-{directory.name}"
            reader = ChainReader(directory, cache, chain, self.thorough, self.published.__contains__)
            with self._lock:
                reader = self._chains.setdefault((stage, chain), reader)
        return reader

    def recorded(self, stage: str, chain: bytes) -> bool:
        """Whether the recipe of a chain was there and sound when its index was looked at."""
        return self._reader(stage, chain).owned

    @property
    def compared(self) -> int:
        """Shards whose digests this store has compared, because no cache vouched for them."""
        return sum(reader.compared for reader in list(self._chains.values()))

    def save_indices(self) -> None:
        """Write the indices that this store looked at to `.cache`, for the next process; nothing if it is read-only."""
        for reader in list(self._chains.values()) if self.writable else []:
            reader.save()

    def shard(self, path: Path, chain: bytes | None = None, schema: Schema | None = None) -> Shard:
        """An open shard; one of those used last stays open until its `zarr.json` is replaced.

        chain, schema: what it must be a shard of; DamagedShardError if it is not.
        A shard or reader that the caller holds stays valid as long as it is held, whatever the store drops.
        """
        try:
            found = os.stat(path / "zarr.json")
        except OSError as error:
            raise reading_error(error, path / "zarr.json", path) from error
        stamp = (found.st_ino, found.st_mtime_ns)
        with self._lock:
            held = self._shards.get(path)
            if held is not None and held[0] == stamp:
                self._shards.move_to_end(path)
                held[1].check_origin(chain, schema)
                return held[1]
        shard = Shard.open(path, chain=chain, schema=schema)
        with self._lock:
            self._shards[path] = (stamp, shard)
            self._shards.move_to_end(path)
            while len(self._shards) > OPEN_SHARDS:
                self._shards.popitem(last=False)  # its maps are closed with the last reference to them
        return shard

    # Publishing

    def temporary(self, final: Path, run: RunRecord) -> Path:
        """A new empty directory beside a final place; it is cleaned if the run dies."""
        path = final.with_name(f".{final.name}.{run.id}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
        with _room(path):
            path.mkdir(parents=True)
        return path

    def publish(self, temporary: Path, final: Path, kill: Callable[[str], None] = nothing) -> bool:
        """Move a finished directory to its place; False if an equal one was there first (ours is dropped).

        Its files are flushed already (`write_shard`, `seal`): a second flush of each would cost as much as the first.
        A damaged one that is in the way is quarantined. Raises ConflictError where both are sound and differ.
        """
        while True:
            kill("before rename")
            try:
                os.rename(temporary, final)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                if not same_result(temporary, final, self.quarantine, self.discard):
                    continue
                shutil.rmtree(temporary)
                return False
            kill("after rename")
            atomic.flush(final.parent)
            return True

    def stage_shard(
        self,
        stage: str,
        chain: bytes,
        ids: NDArray[np.void],
        arrays: Mapping[str, NDArray[Any]],
        schema: Schema,
        run: RunRecord,
        kill: Callable[[str], None] = nothing,
        parents: NDArray[np.void] | None = None,
        gpus: Sequence[Mapping[str, str]] = (),
    ) -> str:
        """Write the rows as one shard and publish it; returns its name. parents: `shards.parent_digests` of the rows.

        A full disk leaves the store as it was and raises StoreError.
        """
        name = shard_name(ids)
        final = self.chain_dir(stage, chain) / f"{name}.zarr"
        temporary = self.temporary(final, run)
        try:
            with _room(final):
                write_shard(temporary, chain, ids, arrays, schema, parents, kill, gpus)
                self.publish(temporary, final, kill)
                self.published.add(final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return name

    # Failed rows

    def record_failure(self, stage: str, chain: bytes, row_id: np.void | bytes, reason: str) -> None:
        """Remember why a row could not be computed; the next run tries it again."""
        path = self._failure(stage, chain, row_id)
        with _room(path):
            atomic.write_json(path, {"id": row_ids.hex(row_id), "reason": reason})

    def failures(self, stage: str, chain: bytes) -> dict[bytes, dict[str, Any]]:
        """The recorded failures of a chain by id, sorted."""
        folder = self.chain_dir(stage, chain) / FAILURES
        found = {}
        for name in _json_names(folder):
            path = folder / name
            try:
                found[row_ids.from_hex(path.stem)] = json.loads(path.read_bytes())
            except FileNotFoundError:
                continue  # cleared meanwhile
            except ValueError as error:
                raise StoreError(f"{path} is not a failure record ({error}); remove it") from error
        return found

    def clear_failures(self, stage: str, chain: bytes, ids: NDArray[np.void]) -> None:
        """Forget the failures of these rows; others may publish and clear at the same time."""
        recorded = set(_json_names(self.chain_dir(stage, chain) / FAILURES))
        for row_id in row_ids.to_bytes(ids) if recorded else []:
            path = self._failure(stage, chain, row_id)
            if path.name in recorded:
                path.unlink(missing_ok=True)

    def _failure(self, stage: str, chain: bytes, row_id: np.void | bytes) -> Path:
        return self.chain_dir(stage, chain) / FAILURES / f"{row_ids.hex(row_id)}.json"

    # Artifacts

    def artifact_dir(self, stage: str, key: bytes | str) -> Path:
        """Directory of an artifact; it need not exist."""
        return self.chain_dir(stage, bytes.fromhex(_key(key)))

    def publish_artifact(
        self,
        stage: str,
        key: bytes | str,
        temporary: Path,
        info: Mapping[str, Any],
        consumed: Mapping[str, NDArray[np.void]] | None = None,
        values: Mapping[str, str] | None = None,
    ) -> Artifact:
        """Seal the files in `temporary` with `artifact.json` and move them to their place.

        consumed: name of a view -> ids that it gave, recorded by count and digest and kept in `consumed.npy`.
        values: name of a view -> digest of the values of those rows (`artifacts.values_digest`).
        """
        final = self.artifact_dir(stage, key)
        try:
            with _room(final):
                artifacts.complete(temporary, stage, _key(key), info, consumed or {}, values or {})
                self.publish(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        found = self.artifact(stage, key)
        if found is None:
            raise StoreError(f"{final} was removed right after it was published")
        return found

    def artifact(self, stage: str, key: bytes | str) -> Artifact | None:
        """The finished artifact; None if it is absent or damaged (then it is quarantined, if the store is writable)."""
        directory = self.artifact_dir(stage, key)
        if not os.path.lexists(directory):
            return None
        try:
            card = artifacts.read_card(directory, _key(key))
        except OldFormatError:
            return None
        except DamagedArtifactError as error:
            if self.writable:
                self.quarantine(directory, str(error))
            return None
        return Artifact(card.get("node", stage), card["key"], directory, card)

    def scratch(self, key: bytes | str) -> Path:
        """Directory that a long fit keeps between attempts; made if absent."""
        path = self.root / "scratch" / _key(key)[:16]
        path.mkdir(parents=True, exist_ok=True)
        return path

    def restart_scratch(self, key: bytes | str, inputs: Any) -> None:
        """Clear what an attempt has left that began from other values of its inputs (plain data that tells them)."""
        place = self.scratch(key).with_suffix(".values")
        text = json.dumps(inputs, sort_keys=True)
        try:
            same = place.read_text(encoding="utf-8") == text
        except (FileNotFoundError, ValueError):
            same = False
        if not same:
            shutil.rmtree(self.scratch(key))
            self.scratch(key)
            atomic.write_bytes(place, text.encode())

    def drop_scratch(self, key: bytes | str) -> None:
        """Remove what the attempts to make an artifact have kept."""
        path = self.scratch(key)
        shutil.rmtree(path, ignore_errors=True)
        path.with_suffix(".values").unlink(missing_ok=True)

    def lease(
        self, key: bytes | str, poll_s: float = 0.2, stopping: Callable[[], bool] = lambda: False
    ) -> AbstractContextManager[None]:
        """Exclusive right to make an artifact; waits for another holder (look again for the artifact afterwards)."""
        return artifacts.lease(self.root / "leases" / f"{_key(key)[:16]}.lock", poll_s, stopping)

    # Runs

    def start_run(self, uses: Iterable[Path] = ()) -> RunRecord:
        """Enter this process in `runs/`. `uses`: directories that `compact` and `gc` of other runs must leave alone."""
        run = runs.this_run()
        self.use(run, uses)
        return run

    def use(self, run: RunRecord, uses: Iterable[Path]) -> None:
        """Replace the directories that a run names as in use."""
        self._uses[run.id] = sorted({self.relative(path) for path in uses})
        with _room(self.root):
            atomic.write_json(self._run_file(run), {"run": run.id, "uses": self._uses[run.id]})

    def touch(self, run: RunRecord) -> None:
        """Tell other hosts that a run still lives; call it now and then (see `runs.FOREIGN_DAYS`)."""
        try:
            os.utime(self._run_file(run))
        except FileNotFoundError:  # another host took the run for dead
            with _room(self.root):
                atomic.write_json(self._run_file(run), {"run": run.id, "uses": self._uses.get(run.id, [])})

    def finish_run(self, run: RunRecord) -> None:
        """Remove the run's entry, and save the indices of its chains as they are now."""
        self._run_file(run).unlink(missing_ok=True)
        for reader in list(self._chains.values()):
            with suppress(TouchstoneError):  # who plans next is told
                reader.look()
        self.save_indices()

    def alive(self, run: RunRecord | str) -> bool:
        """Whether the process of a run lives (on another host: whether its entry is there and young)."""
        record = runs.parse_run(run) if isinstance(run, str) else run
        return record is not None and runs.alive(record, self._run_file(record))

    def in_use(self, besides: RunRecord | None = None) -> set[str]:
        """Directories, relative to the root, that live runs name; `besides` one of them."""
        found: set[str] = set()
        for name in _json_names(self.root / "runs"):
            path = self.root / "runs" / name
            if not self.alive(path.stem) or (besides is not None and path.stem == besides.id):
                continue
            try:
                found.update(json.loads(path.read_bytes())["uses"])
            except FileNotFoundError:
                continue  # it has finished meanwhile
            except (ValueError, KeyError, TypeError) as error:
                raise StoreError(f"{path} is not the entry of a run ({error}); remove it if no run is on") from error
        return found

    def clean_temporaries(self) -> list[Path]:
        """Remove temporaries and entries of dead runs; a live run's are left alone. Returns what was removed."""
        removed = []
        places = (".*.tmp", "*/.*.tmp", "*/*/.*.tmp", "*/*/failures/.*.tmp", "scratch/**/.*.tmp")
        for path in sorted({found for place in places for found in self.root.glob(place)}):
            if self._left_over(path):
                atomic.remove(path)
                removed.append(path)
        for entry in _json_names(self.root / "runs"):
            if not self.alive(Path(entry).stem):
                (self.root / "runs" / entry).unlink(missing_ok=True)
        return removed

    def _left_over(self, path: Path) -> bool:
        """Whether a temporary is nobody's any more: of a dead process, of a dead run, or old and nameless."""
        process = atomic.owner(path)
        if process is not None:
            return atomic.left_over(path, process)
        if path.is_relative_to(self.root / "scratch"):
            return False  # a stage's own file
        name = path.name.split(".")
        run = runs.parse_run(name[-3]) if len(name) >= 4 else None
        if run is not None:
            return not self.alive(run)
        try:
            return time.time() - path.stat().st_mtime > STALE_S
        except FileNotFoundError:
            return False

    # Care

    def quarantine(self, path: Path | str, reason: str) -> Path | None:
        """Move a damaged directory out of the way; None if another process did so first."""
        source = Path(path)
        target = self.root / "quarantine" / f"{self.relative(source).replace('/', '-')}-{secrets.token_hex(4)}"
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(source, target)
        except FileNotFoundError:
            return None
        with self._lock:
            self._shards.pop(source, None)
        atomic.write_json(target.with_name(f"{target.name}.json"), {"path": self.relative(source), "reason": reason})
        return target

    def discard(self, path: Path) -> None:
        """Move a directory to the trash in one step: a reader sees all of it or nothing."""
        trash = self.root / "trash"
        trash.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):  # another process dropped it
            os.rename(path, trash / f"{path.name}-{secrets.token_hex(4)}")

    def aliases(self) -> dict[str, str]:
        """Recipes that the user accepted as equal: hex of the new one -> hex of the old one."""
        path = self.root / "aliases.json"
        try:
            found = parse(read_regular(path, RECIPE_BYTES))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StoreError(trouble(error, path)) from error
        except ValueError as error:
            raise StoreError(f"{path} cannot be read ({error}); mend or remove it") from error
        digests = [*found, *found.values()] if isinstance(found, dict) else [None]
        if not all(isinstance(one, str) and ALIAS.fullmatch(one) for one in digests):
            raise StoreError(f"{path} is not what `accept` writes, pairs of recipes of 32 digits; mend or remove it")
        return dict(found)

    def _run_file(self, run: RunRecord) -> Path:
        return self.root / "runs" / f"{run.id}.json"

    def relative(self, path: Path) -> str:
        """The name of a directory inside the store, as `runs/` and `gc` know it."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()


def _key(key: bytes | str) -> str:
    return key if isinstance(key, str) else key.hex()


def _json_names(folder: Path) -> list[str]:
    """Names of the JSON files of a folder, sorted; those that others remove meanwhile may be among them."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.name.endswith(".json") and entry.name[0] != ".")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(trouble(error, folder)) from error


@contextmanager
def _room(place: Path) -> Iterator[None]:
    """Turns "no space left on device" into one sentence about a place in the store."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StoreError(
            f"the disk is full: {place} could not be written ({error.strerror}); nothing half-written was kept, "
            "free some space and run again"
        ) from error
