"""What a worker does for a shard: compute its rows and publish them. Runs in a thread, a process or on a cluster.

A task carries ids and places, never arrays of pixels; it reads whatever shards hold its input rows when it starts, and
returns counts. It may run twice (a lost worker, two runs at once): publishing is idempotent.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline import ids
from pipeline.contents import SMALL_FILES
from pipeline.errors import StageError
from pipeline.running import devices
from pipeline.running.begun import NOT_BEGUN, Keeper, take_up
from pipeline.running.compute import Rows, Step, compute
from pipeline.running.proof import NOTHING, Claim, Stamp
from pipeline.running.turns import GPU_TURN
from pipeline.stage import Artifact, RowError, Schema, Stage
from pipeline.storage.artifacts import contents
from pipeline.storage.shards import parent_digests

if TYPE_CHECKING:
    from pipeline.dataset import Dataset
    from pipeline.runs import RunRecord
    from pipeline.storage.store import Store


@dataclass(frozen=True)
class Content:
    """Files behind the rows of a parent: how to read them, and where they lie."""

    stage: Stage
    config: Any
    locations: list[str]

    def take(self, rows: NDArray[np.int64]) -> Content:
        return replace(self, locations=[self.locations[row] for row in rows])

    def read(self, row: int, expected: bytes) -> bytes:
        """Bytes of a row's file. Raises RowError if it is gone or not what it was."""
        known = SMALL_FILES.get(expected)
        if known is not None:
            return known
        try:
            data = self.stage.read(self.config, self.locations[row])
        except OSError as error:
            raise RowError(f"{self.locations[row]} cannot be read: {error.strerror or error}") from None
        found = hashlib.sha256(data).digest()[: len(expected)]
        if found != expected:
            raise RowError(
                f"{self.locations[row]} is not what its manifest or the scan says (SHA-256 {found.hex()[:12]}"
                f"..., expected {expected.hex()[:12]}...); restore the file, or correct its line"
            )
        return data


@dataclass(frozen=True)
class Parent:
    """Where the input rows of a task are stored."""

    stage: str
    chain: bytes
    schema: Schema
    ids: NDArray[np.void]
    content: Content | None = None

    def take(self, rows: NDArray[np.int64]) -> Parent:
        return replace(self, ids=self.ids[rows], content=self.content and self.content.take(rows))


@dataclass(frozen=True)
class Facts:
    """What every task of a run knows."""

    store: Path
    run: RunRecord | None
    seed: int
    device: str
    threads: int


@dataclass(frozen=True)
class ShardTask:
    """Some rows of one chain, to become one shard."""

    facts: Facts
    node: str
    stage: Stage
    config: Any
    chain: bytes
    schema: Schema
    ids: NDArray[np.void]
    parents: tuple[Parent, ...] = ()
    index: NDArray[np.int64] | None = None
    payload: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    content: Content | None = None
    claim: Claim = NOTHING
    artifacts: Mapping[str, tuple[Artifact, ...]] = field(default_factory=dict)

    def take(self, rows: NDArray[np.int64]) -> ShardTask:
        """The same task for some of its rows."""
        return replace(
            self, ids=self.ids[rows], parents=tuple(parent.take(rows) for parent in self.parents),
            index=None if self.index is None else self.index[rows],
            payload={name: np.asarray(column)[rows] for name, column in self.payload.items()},
            content=self.content and self.content.take(rows),
        )  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What became of a task: rows published, rows failed with reasons, rows whose inputs are missing."""

    computed: int = 0
    failed: tuple[tuple[bytes, str], ...] = ()
    skipped: tuple[bytes, ...] = ()
    seconds: float = 0.0
    shard: str = ""  # name of the shard that was published
    begun: int = 0  # of the computed rows, those that an earlier attempt had computed


class LazyArrays(Mapping[str, NDArray[Any]]):
    """Arrays of some input rows, gathered from the shards when a stage asks for them; others have the GPU meanwhile."""

    def __init__(self, dataset: Dataset, rows: NDArray[np.int64]) -> None:
        self.dataset = dataset
        self.rows = rows

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self.dataset.fields:
            raise KeyError(name)
        with GPU_TURN.lent():
            return self.dataset.array(name, self.rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self.dataset.fields)

    def __len__(self) -> int:
        return len(self.dataset.fields)


@cache
def open_store(root: Path, writable: bool = True) -> Store:
    """The store of this process, with its open shards."""
    from pipeline.storage.store import Store

    return Store(root, writable=writable)


@dataclass(frozen=True)
class Computed:
    """Values of the rows of a task that succeeded, and what became of the others."""

    done: NDArray[np.int64]  # positions in `task.ids`
    arrays: Mapping[str, NDArray[Any]]
    failed: tuple[tuple[bytes, str], ...]
    skipped: tuple[bytes, ...]
    stamps: Mapping[str, Stamp]  # of the files that it read
    parents: NDArray[np.void] | None = None  # digest of what each row was computed from
    begun: int = 0  # of `done`, those that an earlier attempt had computed
    files: tuple[Path, ...] = ()  # where rows of the task were kept until it ends


def compute_rows(task: ShardTask) -> Computed:
    """Compute the rows of a task, but for those that an earlier attempt has kept; nothing is published."""
    stamps = task.claim.prove(task.node, task.stage, task.config)
    store = open_store(task.facts.store, writable=task.facts.run is not None)
    present = _present(store, task)
    lacking = tuple(ids.to_bytes(np.delete(task.ids, present)))
    task = task.take(present) if lacking else task
    datasets = _datasets(store, task)
    digests = _input_digests(task, datasets)
    used = [bytes.fromhex(one) for _, many in sorted(contents(task.artifacts).items()) for one in many]
    parents = parent_digests(digests, used, len(task.ids))
    place = store.root, task.chain, task.schema
    begun = NOT_BEGUN if task.facts.run is None else take_up(*place, task.ids, parents)
    rest = np.delete(np.arange(len(task.ids)), begun.rows)
    left, inputs = (task.take(rest), [data.take(rest) for data in datasets]) if len(begun.rows) else (task, datasets)

    def check_inputs() -> None:
        if any((one != other).any() for one, other in zip(digests, _input_digests(task, datasets), strict=True)):
            raise repaired(task.node)

    def prove() -> None:
        task.claim.prove_again(task.node, task.stage, task.config, stamps)
        check_inputs()

    keeper = Keeper(*place, left.ids, None if parents is None else parents[rest], prove)
    found = compute(step_of(left), rows_of(left, inputs), None if task.facts.run is None else keeper)
    check_inputs()
    failed = tuple((bytes(left.ids[row]), reason) for row, reason in found.failures.items())
    done, arrays = rest[found.done], found.arrays
    if len(begun.rows):
        done = np.concatenate([begun.rows, done])
        arrays = {name: np.concatenate([begun.arrays[name], values]) for name, values in arrays.items()}
    parents = None if parents is None else parents[done]
    files = (*begun.files, *keeper.files)
    return Computed(present[done], arrays, failed, lacking, stamps, parents, len(begun.rows), files)


def step_of(task: ShardTask) -> Step:
    """The stage of a task with its settings, files and place."""
    facts = task.facts
    return Step(
        task.node, task.stage, task.config, task.schema,
        facts.seed, facts.device, facts.threads, task.claim.places(), task.artifacts,
    )  # fmt: skip


def rows_of(task: ShardTask, datasets: list[Dataset]) -> Rows:
    """The rows of a task; datasets: of each parent."""
    return Rows(
        task.ids,
        tuple(parent.ids for parent in task.parents),
        tuple(parent.schema for parent in task.parents),
        lambda rows: tuple(LazyArrays(dataset, rows) for dataset in datasets),
        task.index,
        task.payload,
        _reader(task),
    )


def _input_digests(task: ShardTask, datasets: list[Dataset]) -> list[NDArray[np.void]]:
    """Digests of the input rows of a task, of each parent that is stored: (rows,) V16."""
    return [data.digests() for data, parent in zip(datasets, task.parents, strict=True) if parent.schema]


def repaired(node: str) -> StageError:
    """What to raise where the rows that something was made from changed meanwhile."""
    return StageError(
        f"{node}: rows that it reads were computed again with other values while it went on; its result is dropped, "
        f"run again"
    )


def compute_shard(task: ShardTask) -> Outcome:
    """Compute the rows of a task and publish them as one shard."""
    started = time.perf_counter()
    return publish_rows(task, compute_rows(task), started)


def publish_rows(task: ShardTask, found: Computed, started: float) -> Outcome:
    """Publish computed rows as one shard; failures are recorded beside it. started: `perf_counter` of the task."""
    task.claim.prove_again(task.node, task.stage, task.config, found.stamps)
    store = open_store(task.facts.store)
    stage, chain, shard = task.stage.name, task.chain, ""
    if len(found.done):
        assert task.facts.run is not None
        rows = task.ids[found.done]
        gpus = devices.gpus_of(task.stage, task.config, task.facts.device)
        given = stage, chain, rows, found.arrays, task.schema, task.facts.run
        shard = store.stage_shard(*given, parents=found.parents, gpus=gpus)
        store.clear_failures(stage, chain, task.ids[found.done])
    for row_id, reason in found.failed:
        store.record_failure(stage, chain, row_id, reason)
    for path in found.files:
        path.unlink(missing_ok=True)
    seconds = time.perf_counter() - started
    return Outcome(len(found.done), found.failed, found.skipped, seconds, shard, found.begun)


def _present(store: Store, task: ShardTask) -> NDArray[np.int64]:
    """Rows of the task whose inputs exist (others failed in this run, or their shard is gone)."""
    there = np.ones(len(task.ids), dtype=bool)
    for parent in task.parents:
        if parent.content is None or parent.schema:
            there &= store.index(parent.stage, parent.chain, parent.schema).contains(parent.ids)
    return np.flatnonzero(there)


def _datasets(store: Store, task: ShardTask) -> list[Dataset]:
    """The input rows of the task, parent by parent."""
    from pipeline.dataset import Dataset, Part

    return [Dataset(store, [Part(one.stage, one.chain, one.schema, one.ids, ())], {}) for one in task.parents]


def _reader(task: ShardTask) -> Callable[[int], bytes] | None:
    content, row_ids = task.content, task.ids
    if content is None and task.parents:
        content, row_ids = task.parents[0].content, task.parents[0].ids
    if content is None:
        return None
    source = content

    def read(row: int) -> bytes:
        with GPU_TURN.lent():
            return source.read(row, bytes(row_ids[row]))

    return read
