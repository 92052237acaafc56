"""What a worker does: compute and publish one shard, or make one artifact. Runs in a thread, a process or on a cluster.

A task carries ids and places, never arrays of pixels; it reads whatever shards hold its input rows when it starts, and
returns counts. It may run twice (a lost worker, two runs at once): publishing is idempotent.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline import ids
from pipeline.errors import Interrupted, StageError, StoreError, TouchstoneError
from pipeline.running.proof import NOTHING, Claim, Stamp
from pipeline.stage import Artifact, Batch, Context, FitContext, Kind, RowError, Schema, Stage
from pipeline.storage.artifacts import contents, values_digest
from pipeline.storage.shards import parent_digests

if TYPE_CHECKING:
    from pipeline.dataset import Dataset
    from pipeline.runs import RunRecord
    from pipeline.storage.store import Store


BLOCK_BYTES = 8 * 2**20


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


class LazyArrays(Mapping[str, NDArray[Any]]):
    """Arrays of some input rows, gathered from the shards when a stage asks for them."""

    def __init__(self, dataset: Dataset, rows: NDArray[np.int64]) -> None:
        self.dataset = dataset
        self.rows = rows

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self.dataset.fields:
            raise KeyError(name)
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


def compute_rows(task: ShardTask) -> Computed:
    """Compute the rows of a task, block by block; nothing is written."""
    stamps = task.claim.prove(task.node, task.stage, task.config)
    store = open_store(task.facts.store, writable=task.facts.run is not None)
    present = _present(store, task)
    lacking = tuple(ids.to_bytes(np.delete(task.ids, present)))
    task = task.take(present) if lacking else task
    datasets = _datasets(store, task)
    digests = _input_digests(task, datasets)
    arrays = {name: np.empty((len(task.ids), *one.shape), dtype=one.dtype) for name, one in task.schema.items()}
    done = np.empty(len(task.ids), dtype=np.int64)
    count = 0
    failed: list[tuple[bytes, str]] = []
    size = block_rows(task)
    for start in range(0, len(task.ids), size):
        rows = np.arange(start, min(start + size, len(task.ids)))
        try:
            values, failures = _compute_block(task, datasets, rows)
        except _Raised as error:  # a block of one row
            values, failures = _empty(task.schema, 1), {0: str(error)}
        kept = np.array([number for number in range(len(rows)) if number not in failures], dtype=np.int64)
        failed += [(bytes(task.ids[rows[number]]), reason) for number, reason in sorted(failures.items())]
        place = slice(count, count + len(kept))
        done[place] = rows[kept]
        for name, array in arrays.items():
            array[place] = values[name] if len(kept) == len(rows) else values[name][kept]
        count += len(kept)
    values = {name: array[:count] for name, array in arrays.items()}
    if any((one != other).any() for one, other in zip(digests, _input_digests(task, datasets), strict=True)):
        raise _repaired(task.node)
    used = [bytes.fromhex(one) for _, found in sorted(contents(task.artifacts).items()) for one in found]
    parents = parent_digests([one[done[:count]] for one in digests], used, count)
    return Computed(present[done[:count]], values, tuple(failed), lacking, stamps, parents)


def _input_digests(task: ShardTask, datasets: list[Dataset]) -> list[NDArray[np.void]]:
    """Digests of the input rows of a task, of each parent that is stored: (rows,) V16."""
    return [data.digests() for data, parent in zip(datasets, task.parents, strict=True) if parent.schema]


def _repaired(node: str) -> StageError:
    return StageError(
        f"{node}: rows that it reads were computed again with other values while it went on; its result is dropped, "
        f"run again"
    )


def block_rows(task: ShardTask) -> int:
    """Rows per call of `compute`: what the stage allows, but not more than about 8 MiB of input or of output.

    A stage that handles several rows at once gets a multiple of them, whatever their size.
    """
    schemas = [task.schema, *(parent.schema for parent in task.parents)]
    row = max(sum(field.row_bytes for field in schema.values()) for schema in schemas)
    least = task.stage.least_rows(task.config)
    return max(min(task.stage.block_rows, BLOCK_BYTES // max(row, 1)) // least, 1) * least


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
        shard = store.stage_shard(stage, chain, rows, found.arrays, task.schema, task.facts.run, parents=found.parents)
        store.clear_failures(stage, chain, task.ids[found.done])
    for row_id, reason in found.failed:
        store.record_failure(stage, chain, row_id, reason)
    return Outcome(len(found.done), found.failed, found.skipped, time.perf_counter() - started, shard)


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


def _compute_block(
    task: ShardTask, datasets: list[Dataset], rows: NDArray[np.int64]
) -> tuple[Mapping[str, NDArray[Any]], dict[int, str]]:
    """Values of one block. Where the stage raises on the whole block, the rows are tried one by one."""
    try:
        return _call(task, datasets, rows)
    except (TouchstoneError, MemoryError):
        raise
    except RowError as error:
        if len(rows) == 1:
            return _empty(task.schema, 1), {0: str(error)}
        first: Exception = error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EROFS):
            raise StoreError(f"{task.node}: {error.strerror}") from None
        first = error
    except Exception as error:
        first = error
    if len(rows) == 1:
        raise _Raised(first)
    parts: list[Mapping[str, NDArray[Any]]] = []
    failures: dict[int, str] = {}
    raised = 0
    for number in range(len(rows)):
        try:
            part, failed = _compute_block(task, datasets, rows[number : number + 1])
        except _Raised as error:
            raised += 1
            part, failed = _empty(task.schema, 1), {0: str(error)}
        parts.append(part)
        if failed:
            failures[number] = failed[0]
    if raised == len(rows):  # not the rows' fault
        raise _fault(task, first)
    return {name: np.concatenate([part[name] for part in parts]) for name in task.schema}, failures


class _Raised(Exception):
    """A stage raised an error of its own on one row."""

    def __init__(self, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.error = error


def _fault(task: ShardTask, error: Exception) -> StageError:
    found = StageError(
        f"{task.node}: stage '{task.stage.name}' fails on every row of a block: {type(error).__name__}: {error} "
        f"({_innermost(error)}; `touchstone --debug run` shows all)"
    )
    found.__cause__ = error
    return found


def _innermost(error: BaseException) -> str:
    """File and line where an error was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "no place known"


def _call(
    task: ShardTask, datasets: list[Dataset], rows: NDArray[np.int64]
) -> tuple[Mapping[str, NDArray[Any]], dict[int, str]]:
    facts = task.facts
    context = Context(
        facts.seed,
        task.stage.name,
        facts.device,
        facts.threads,
        task.claim.places(),
        task.artifacts,
        task.stage.random,
    )
    batch = Batch(
        task.ids[rows],
        tuple(parent.ids[rows] for parent in task.parents),
        tuple(LazyArrays(dataset, rows) for dataset in datasets),
        None if task.index is None else task.index[rows],
        {name: np.asarray(column)[rows] for name, column in task.payload.items()},
        _reader(task, rows),
    )
    values = task.stage.compute(task.config, batch, context)
    outside = [row for row in context.failures if not 0 <= row < len(rows)]
    if outside:
        raise StageError(
            f"{task.node}: stage '{task.stage.name}' says that row {outside[0]} of a batch failed, but its rows are "
            f"numbered 0 to {len(rows) - 1}"
        )
    for name, spec in task.schema.items():
        value = values.get(name)
        expected = (len(rows), *spec.shape)
        if value is None or value.shape != expected or value.dtype != np.dtype(spec.dtype):
            found = "nothing" if value is None else f"{value.dtype} {value.shape}"
            raise StageError(
                f"{task.node}: stage '{task.stage.name}' gives {found} for '{name}', its schema promises "
                f"{np.dtype(spec.dtype)} {expected}"
            )
    return values, context.failures


def _reader(task: ShardTask, rows: NDArray[np.int64]) -> Callable[[int], bytes] | None:
    content, row_ids = task.content, task.ids
    if content is None and task.parents:
        content, row_ids = task.parents[0].content, task.parents[0].ids
    if content is None:
        return None
    source = content
    return lambda number: source.read(int(rows[number]), bytes(row_ids[rows[number]]))


def _empty(schema: Schema, rows: int) -> dict[str, NDArray[Any]]:
    return {name: np.zeros((rows, *spec.shape), dtype=spec.dtype) for name, spec in schema.items()}


@dataclass(frozen=True)
class ArtifactTask:
    """One fit or reduce. views: input -> name -> (stage, chain, schema, ids, steps) per branch, and the row table."""

    facts: Facts
    node: str
    stage: Stage
    config: Any
    key: bytes
    recipe: Mapping[str, Any]
    views: Mapping[str, Mapping[str, tuple[list[Any], Mapping[str, NDArray[Any]]]]]
    claim: Claim = NOTHING
    artifacts: Mapping[str, tuple[Artifact, ...]] = field(default_factory=dict)
    failed: Mapping[str, list[str]] = field(default_factory=dict)  # rows that it wanted and did not get


def _values(consumed: Mapping[str, Dataset]) -> dict[str, str]:
    """Digest of the values of the rows of each view."""
    return {name: values_digest(data.ids, data.digests()) for name, data in consumed.items()}


def make_artifact(
    task: ArtifactTask,
    report: Callable[[int, int], None] = lambda done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Fit or reduce, under a lease so that two runs do not train twice, and publish the artifact."""
    from pipeline.dataset import Dataset

    started = time.perf_counter()
    facts = task.facts
    stamps = task.claim.prove(task.node, task.stage, task.config)
    store = open_store(facts.store)
    assert facts.run is not None
    with store.lease(task.key, stopping=stop):
        if store.artifact(task.stage.name, task.key) is not None:
            return Outcome(1, seconds=time.perf_counter() - started)
        out = store.temporary(store.artifact_dir(task.stage.name, task.key), facts.run)
        context = FitContext(
            facts.seed, task.stage.name, facts.device, facts.threads, task.claim.places(), task.artifacts,
            task.stage.random, out=out, scratch=store.scratch(task.key), report=report, stopping=stop,
        )  # fmt: skip
        views: dict[str, Any] = {}
        consumed: dict[str, Dataset] = {}
        for name, parts in task.views.items():
            named = {label: Dataset(store, found, table) for label, (found, table) in parts.items()}
            unnamed = task.stage.inputs[name].kind == "rows"
            views[name] = named[""] if unnamed else named
            consumed |= {f"{name}.{label}" if label else name: data for label, data in named.items()}
        values = _values(consumed)
        store.restart_scratch(task.key, [values, contents(task.artifacts)])
        try:
            task.stage.fit(task.config, views, context)
        except (TouchstoneError, MemoryError) as error:
            shutil.rmtree(out, ignore_errors=True)
            if type(error) is StageError and not str(error).startswith(task.node):
                raise StageError(f"{task.node}: {error}") from error
            raise
        except Exception as error:
            shutil.rmtree(out, ignore_errors=True)
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise StoreError(f"{task.node}: the disk of the store is full; free some space and run again") from None
            raise StageError(f"{task.node}: {error}") from error
        if stop() and task.stage.kind is Kind.FIT and not any(out.iterdir()):
            shutil.rmtree(out, ignore_errors=True)
            raise Interrupted(f"{task.node} stopped; what it has learned so far is kept")
        task.claim.prove_again(task.node, task.stage, task.config, stamps)
        if values != _values(consumed):
            shutil.rmtree(out, ignore_errors=True)
            raise _repaired(task.node)
        info = {"node": task.node, "recipe": task.recipe, "facts": context.facts, "device": facts.device}
        if task.failed:
            info["failed_rows"] = task.failed
        if task.artifacts:
            info["made_with"] = contents(task.artifacts)
        rows = {name: data.ids for name, data in consumed.items()}
        store.publish_artifact(task.stage.name, task.key, out, info, rows, values)
        store.drop_scratch(task.key)  # nobody goes on from it any more
    return Outcome(1, seconds=time.perf_counter() - started)
